"""Steps until a loss returns are counted right, and a model that only hides what it knew is faster."""

import copy

import numpy as np
import pytest
import torch

from mbd.attacks.relearning import (
    compare_relearning,
    head_loss,
    network_loss,
    relearn_head,
    relearn_network,
)
from mbd.backbones.base import Interface
from mbd.backbones.zoo import build
from mbd.errors import AttackError


@pytest.fixture
def head():
    rng = np.random.default_rng(0)
    phi_ND, target_NK = rng.standard_normal((30, 4)), rng.standard_normal((30, 2))
    best_DK = np.linalg.lstsq(phi_ND, target_NK, rcond=None)[0]
    return phi_ND, target_NK, best_DK


def test_a_head_that_is_there_already_needs_no_step(head):
    phi_ND, target_NK, best_DK = head
    assert relearn_head(best_DK, phi_ND, target_NK, target=head_loss(best_DK, phi_ND, target_NK) + 1e-9) == 0


def test_a_head_further_away_needs_more_steps(head):
    phi_ND, target_NK, best_DK = head
    target = head_loss(best_DK, phi_ND, target_NK) * 1.01
    near, far = (relearn_head(best_DK + shift, phi_ND, target_NK, target=target) for shift in (0.3, 3.0))
    assert 0 < near < far


def test_steps_are_those_of_plain_gradient_descent(head):
    phi_ND, target_NK, _ = head
    rate = 1 / np.linalg.eigvalsh(phi_ND.T @ phi_ND)[-1]
    weights_DK = np.zeros((4, 2))
    for _ in range(3):
        weights_DK = weights_DK - rate * phi_ND.T @ (phi_ND @ weights_DK - target_NK)
    target = head_loss(weights_DK, phi_ND, target_NK)
    assert relearn_head(np.zeros((4, 2)), phi_ND, target_NK, target=target) == pytest.approx(3, abs=1e-6)


def test_what_is_out_of_reach_takes_as_many_steps_as_are_allowed(head):
    phi_ND, target_NK, best_DK = head
    assert relearn_head(best_DK, phi_ND, target_NK, target=0.0, most=7) == 7


def test_rows_without_features_are_refused():
    with pytest.raises(AttackError, match="no features"):
        relearn_head(np.zeros((2, 1)), np.zeros((3, 2)), np.ones((3, 1)), target=0.0)


def test_a_network_learns_again_and_stays_as_it_was(random_cohort):
    rows = random_cohort(3).select(range(8))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = build("mbd", Interface.of(rows), {"width": 4, "property_width": 4})
    network.standardiser.fit(rows)
    before = copy.deepcopy(network.state_dict())
    start = network_loss(network, rows)
    none, some, more = (
        relearn_network(network, rows, target=share * start, rate=0.05, most=300) for share in (1.0, 0.95, 0.8)
    )
    assert none == 0
    assert 0 < some < more < 300
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_verdict_needs_the_whole_interval_below_one():
    never = [10.0, 12.0, 11.0, 9.0, 10.0]
    assert compare_relearning(never, never, target="t", seed=0).verdict == "held"
    fast = compare_relearning([2.0, 3.0, 1.0, 2.0, 2.0], never, target="t", seed=0)
    assert fast.verdict == "broken"
    assert fast.estimates[0].high < 1
    assert compare_relearning([20.0, 22.0, 30.0, 9.0, 10.0], never, target="t", seed=0).verdict == "held"
    with pytest.raises(AttackError, match="too few"):
        compare_relearning([1.0], [1.0], target="t", seed=0)


def test_a_difference_that_a_certified_deletion_may_leave_is_no_broken_claim():
    never = np.array([400.0, 500.0, 450.0, 480.0, 520.0])
    report = compare_relearning(list(never * 0.9996), list(never), target="t", seed=0)
    assert report.estimates[0].high < 1
    assert report.verdict == "held"
    assert compare_relearning(list(never * 0.98), list(never), target="t", seed=0).verdict == "broken"
