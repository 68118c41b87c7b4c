import math
import tracemalloc

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mbd.cohort.cohort import Split
from mbd.errors import NotCertifiedError, TrainingError
from mbd.lattice import cross_entropy
from mbd.lattice.cross_entropy import cross_entropy_residual, solve_cross_entropy
from mbd.lattice.release import ReleasePolicy, sensitivity
from mbd.privacy.gaussian import sigma_for

TAU = 1e-6
mpmath.mp.prec = 400  # enough for logits up to 1e6 and probabilities down to e^-1e6


def problem(seed, *, rows=60, width=12, classes=4, scale=0.5):
    """Features on the grid 2^-11 with an indicator, one-hot targets that depend on them, penalties of at least 1."""
    rng = np.random.default_rng(seed)
    phi = np.rint(np.clip(rng.normal(size=(rows, width)) * scale, -1, 1) * 2048) / 2048
    phi[:, 0] = 1.0
    score = 3 * phi @ rng.normal(size=(width, classes)) + rng.gumbel(size=(rows, classes))
    penalty = rng.uniform(1, 10, width)
    penalty[0] = 1.0
    return phi, np.eye(classes)[score.argmax(axis=1)], penalty, rng


def gradient_in_high_precision(phi, target, penalty, weights):
    """R(W) in 400 bits, entry by entry, straight from its definition."""
    width, classes = weights.shape
    exact = [[mpmath.mpf(penalty[d]) * mpmath.mpf(weights[d, k]) for k in range(classes)] for d in range(width)]
    columns = [[mpmath.mpf(weights[d, k]) for d in range(width)] for k in range(classes)]
    for row, one_hot in zip(phi, target, strict=True):
        values = [mpmath.mpf(value) for value in row]
        logits = [mpmath.fdot(values, column) for column in columns]
        powers = [mpmath.exp(logit - max(logits)) for logit in logits]
        total = mpmath.fsum(powers)
        for k in range(classes):
            difference = powers[k] / total - mpmath.mpf(one_hot[k])
            for d in range(width):
                exact[d][k] += values[d] * difference
    return exact


def error_over_bound(phi, target, penalty, weights):
    """The largest true error over its bound among entries, and the true norm over its bound: at most 1 if both hold."""
    objective = cross_entropy._Objective(phi, target, penalty)
    computed, rounding = objective.gradient(weights)
    _, bound = cross_entropy_residual(phi, target, penalty, weights)
    exact = gradient_in_high_precision(phi, target, penalty, weights)
    worst, squares = mpmath.mpf(0), mpmath.mpf(0)
    for d, k in np.ndindex(*weights.shape):
        worst = max(
            worst, abs(exact[d][k] - mpmath.mpf(computed[d, k])) / (mpmath.mpf(rounding[d, k]) + mpmath.mpf(2) ** -400)
        )
        squares += exact[d][k] ** 2
    return float(worst), float(mpmath.sqrt(squares) / mpmath.mpf(bound))


NASTY = {
    "zero": lambda rng, shape: np.zeros(shape),
    "logits in the hundreds": lambda rng, shape: rng.normal(size=shape) * 300,
    "logits in the millions": lambda rng, shape: rng.normal(size=shape) * 1e6,
    "powers that underflow": lambda rng, shape: (
        rng.normal(size=shape) * 10 + np.eye(shape[0])[:, :1] * np.linspace(0, -760, shape[1])
    ),
    "products that cancel": lambda rng, shape: (
        rng.normal(size=shape) + 1e10 * (np.eye(shape[0])[:, 1:2] - np.eye(shape[0])[:, 2:3])
    ),
    "one column for all classes": lambda rng, shape: np.repeat(rng.normal(size=(shape[0], 1)) * 1e8, shape[1], axis=1),
    "weights below the normal numbers": lambda rng, shape: rng.normal(size=shape) * 2.0**-1060,
}


@pytest.mark.parametrize("kind", NASTY)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_bound_covers_the_true_error_on_nasty_weights(kind, seed):
    phi, target, penalty, rng = problem(seed)
    phi[:, 2] = phi[:, 1]  # what makes products cancel
    entries, norm = error_over_bound(phi, target, penalty, NASTY[kind](rng, (12, 4)))
    assert entries <= 1
    assert norm <= 1


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32),
    rows=st.integers(1, 40),
    width=st.integers(1, 12),
    classes=st.integers(1, 6),
    magnitude=st.floats(-6, 4),
)
def test_the_bound_covers_the_true_error_on_random_problems(seed, rows, width, classes, magnitude):
    phi, target, penalty, rng = problem(seed, rows=rows, width=width, classes=classes)
    entries, norm = error_over_bound(phi, target, penalty, 10.0**magnitude * rng.normal(size=(width, classes)))
    assert entries <= 1
    assert norm <= 1


def test_the_bound_covers_the_true_error_over_several_chunks_of_rows(monkeypatch):
    monkeypatch.setattr(cross_entropy, "CHUNK_ROWS", 16)
    phi, target, penalty, rng = problem(4, rows=250)
    entries, norm = error_over_bound(phi, target, penalty, rng.normal(size=(12, 4)))
    assert entries <= 1
    assert norm <= 1


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_bound_covers_the_true_error_at_the_minimiser(seed):
    phi, target, penalty, _ = problem(seed)
    entries, norm = error_over_bound(
        phi, target, penalty, solve_cross_entropy(phi, target, penalty, tau=TAU).weights_DK
    )
    assert entries <= 1
    assert norm <= 1


def test_the_bound_covers_a_sum_whose_every_addition_rounds_the_same_way(monkeypatch):
    monkeypatch.setattr(cross_entropy, "CHUNK_ROWS", 1)  # one third after the other, in this order
    phi, target = np.ones((3000, 1)), np.repeat(np.eye(3)[:1], 3000, axis=0)
    entries, norm = error_over_bound(phi, target, np.ones(1), np.zeros((1, 3)))
    assert entries <= 1
    assert norm <= 1


def test_the_bound_is_no_more_than_a_few_hundred_times_the_true_error():
    phi, target, penalty, rng = problem(7, rows=200)
    entries, _ = error_over_bound(phi, target, penalty, rng.normal(size=(12, 4)))
    assert entries >= 1 / 500


def test_the_exponential_is_as_accurate_as_the_bound_assumes():
    rng = np.random.default_rng(0)
    below = np.concatenate([-(2.0 ** rng.uniform(-30, 9.5, 6000)), rng.uniform(-745.2, -707, 2000), [0.0, -0.0, -1e6]])
    for powers in (np.exp(below), np.array([np.exp(x) for x in below])):  # whole vectors, and one number at a time
        for x, power in zip(below, powers, strict=True):
            exact = mpmath.exp(mpmath.mpf(x))
            allowed = 8 * mpmath.mpf(2) ** -53 * exact + mpmath.mpf(2) ** -1022
            assert abs(mpmath.mpf(power) - exact) <= allowed


def test_the_gradient_is_that_of_the_libraries_cross_entropy():
    phi, target, penalty, rng = problem(1)
    weights = torch.tensor(rng.normal(size=(12, 4)), requires_grad=True)
    loss = torch.nn.functional.cross_entropy(torch.tensor(phi) @ weights, torch.tensor(target), reduction="sum")
    (loss + (torch.tensor(penalty)[:, None] * weights**2).sum() / 2).backward()
    computed, _ = cross_entropy_residual(phi, target, penalty, weights.detach().numpy())
    np.testing.assert_allclose(computed, weights.grad.numpy(), rtol=0, atol=1e-11)


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32), shift=st.floats(-12, 6))
def test_from_any_start_the_solution_lies_within_tau_over_lambda_of_the_minimiser(seed, shift):
    phi, target, penalty, rng = problem(seed)
    minimiser = solve_cross_entropy(phi, target, penalty, tau=1e-11).weights_DK
    start = minimiser + 10.0**shift * rng.normal(size=minimiser.shape)
    solution = solve_cross_entropy(phi, target, penalty, tau=TAU, start_DK=start)
    assert solution.residual_bound <= TAU
    assert np.linalg.norm(solution.weights_DK - minimiser) <= TAU / penalty.min() + 1e-11


@pytest.mark.parametrize("distance", [1e-8, 1e-7, 1e-6])
def test_wherever_the_residual_is_at_most_tau_the_minimiser_is_near(distance):
    phi, target, penalty, rng = problem(3)
    minimiser = solve_cross_entropy(phi, target, penalty, tau=1e-11).weights_DK
    for _ in range(50):
        away = rng.normal(size=minimiser.shape)
        weights = minimiser + distance * away / np.linalg.norm(away)
        _, bound = cross_entropy_residual(phi, target, penalty, weights)
        assert np.linalg.norm(weights - minimiser) <= bound / penalty.min()


def test_separable_classes_and_a_start_on_the_wrong_side_converge():
    phi = np.repeat(np.eye(3), 50, axis=0)
    target, penalty = np.repeat(np.eye(3), 50, axis=0), np.ones(3)
    cold = solve_cross_entropy(phi, target, penalty, tau=TAU).weights_DK
    wrong = solve_cross_entropy(phi, target, penalty, tau=TAU, start_DK=1e3 - 1e4 * np.eye(3)).weights_DK
    assert np.linalg.norm(cold - wrong) <= 2 * TAU


def test_a_start_that_is_good_enough_is_not_moved():
    phi, target, penalty, _ = problem(0)
    start = solve_cross_entropy(phi, target, penalty, tau=1e-10).weights_DK
    solution = solve_cross_entropy(phi, target, penalty, tau=TAU, start_DK=start)
    assert solution.candidates == 0
    assert np.array_equal(solution.weights_DK, start)


def test_solving_from_nothing_depends_on_the_problem_alone_and_leaves_its_arguments_alone():
    phi, target, penalty, _ = problem(5)
    before = [array.copy() for array in (phi, target, penalty)]
    start = np.ones((12, 4))
    first = solve_cross_entropy(phi, target, penalty, tau=TAU)
    solve_cross_entropy(phi, target, penalty, tau=TAU, start_DK=start)
    assert np.array_equal(first.weights_DK, solve_cross_entropy(phi, target, penalty, tau=TAU).weights_DK)
    assert all(np.array_equal(old, new) for old, new in zip(before, (phi, target, penalty), strict=True))
    assert (start == 1).all()


def test_rows_without_a_block_of_the_head_change_nothing_beyond_tau():
    phi, target, penalty, _ = problem(6)
    longer = solve_cross_entropy(np.vstack([phi, 0 * phi]), np.vstack([target, target]), penalty, tau=TAU)
    alone = solve_cross_entropy(phi, target, penalty, tau=TAU)
    assert np.linalg.norm(longer.weights_DK - alone.weights_DK) <= 2 * TAU / penalty.min()


def test_no_rows_give_weights_of_zero():
    solution = solve_cross_entropy(np.zeros((0, 3)), np.zeros((0, 2)), np.ones(3), tau=TAU)
    assert np.array_equal(solution.weights_DK, np.zeros((3, 2)))


def test_a_tau_below_the_rounding_floor_is_refused_and_says_what_to_do():
    phi, target, penalty, _ = problem(0)
    with pytest.raises(NotCertifiedError, match="larger MBD_TAU"):
        solve_cross_entropy(phi, target, penalty, tau=1e-16)


@pytest.mark.parametrize("wrong", [[0.5, 0.5], [0.0, 0.0], [1.0, 1.0], [2.0, -1.0], [math.nan, 1.0]])
def test_targets_that_name_no_single_class_are_refused(wrong):
    with pytest.raises(TrainingError, match="squared heads"):
        solve_cross_entropy(np.ones((2, 1)), np.array([[0.0, 1.0], wrong]), np.ones(1), tau=TAU)


def test_beside_the_features_memory_stays_small():
    phi, target, penalty, _ = problem(2, rows=6_000, width=150, classes=3)
    tracemalloc.start()
    try:
        solve_cross_entropy(phi, target, penalty, tau=1e-2)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < phi.nbytes / 2


def revoked(phi, target, rng):
    """D': some rows leave, others lose a block of coordinates."""
    after = phi.copy()
    after[:10, 4:8] = 0.0
    kept = np.ones(len(phi), dtype=bool)
    kept[rng.choice(np.arange(10, len(phi)), size=10, replace=False)] = False
    return after[kept], target[kept]


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32))
def test_after_a_revocation_the_old_weights_and_nothing_lead_within_two_tau_over_lambda(seed):
    phi, target, penalty, rng = problem(seed)
    released = solve_cross_entropy(phi, target, penalty, tau=TAU).weights_DK + 1e-4 * rng.normal(size=(12, 4))
    phi, target = revoked(phi, target, rng)
    updated = solve_cross_entropy(phi, target, penalty, tau=TAU, start_DK=released)
    refitted = solve_cross_entropy(phi, target, penalty, tau=TAU)
    assert np.linalg.norm(updated.weights_DK - refitted.weights_DK) <= 2 * TAU / penalty.min()


@pytest.mark.parametrize("seed", [0, 1])
def test_the_released_gaussian_covers_both_ways_to_solve_on_a_cohort_after_a_revocation(seed, random_cohort, fit_small):
    """The rows come from a real featurizer; some channels leave; noise is that of `release_heads`."""
    cohort = random_cohort(seed, classes=3).where(split=Split.TRAIN)
    model = fit_small(random_cohort(seed, classes=3))
    featurizer, layout, policy = model.featurizer, model.layout, ReleasePolicy()
    after = cohort.without({(row.subject, m) for row in cohort.rows[-6:] for m in cohort.modalities[:2]})
    sigma = sigma_for(sensitivity(layout, policy), policy.head_mu)
    unit = 2.0**-featurizer.grid.feature_bits
    noise = np.random.default_rng(seed)
    for pattern in layout.patterns:
        at = layout.coordinates(pattern)

        def solved(rows, start_DK=None, at=at):
            phi_ND = featurizer.features(rows, range(len(rows)))[:, at] * unit
            return solve_cross_entropy(phi_ND, rows.targets, layout.penalty_D[at], tau=policy.tau, start_DK=start_DK)

        released = solved(cohort).weights_DK
        released = released + sigma * noise.normal(size=released.shape)
        updated, refitted = solved(after, released), solved(after)
        distance = np.linalg.norm(updated.weights_DK - refitted.weights_DK)
        assert distance <= sensitivity(layout, policy)
        assert distance / sigma <= policy.head_mu
