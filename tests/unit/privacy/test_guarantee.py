import pytest

from mbd.errors import PrivacyError
from mbd.privacy.accounting import Run, joint_epsilon
from mbd.privacy.gaussian import compose, epsilon_of
from mbd.privacy.guarantee import Certified, Departed, Empirical, Exact, epsilon_at, weakest

EXACT = Exact(("a = b",))
CERTIFIED = Certified(3.0, ("ideal Gaussian",))
EMPIRICAL = Empirical({"attack": "membership"})


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([EXACT], EXACT),
        ([EXACT, CERTIFIED], CERTIFIED),
        ([CERTIFIED, EXACT], CERTIFIED),
        ([CERTIFIED, EMPIRICAL, EXACT], EMPIRICAL),
        ([EMPIRICAL, CERTIFIED], EMPIRICAL),
    ],
)
def test_the_whole_is_as_weak_as_its_weakest_part(parts, expected):
    assert weakest(parts) == expected


def test_certified_parts_compose():
    assert weakest([CERTIFIED, Certified(4.0, ("x",))]) == Certified(5.0, ("ideal Gaussian", "x"))


def test_exact_parts_keep_all_their_equalities():
    assert weakest([EXACT, Exact(("c = d",))]) == Exact(("a = b", "c = d"))


def test_nothing_has_no_guarantee():
    with pytest.raises(ValueError, match="no guarantee"):
        weakest([])


VOICE, FACE = Run(0.05, 8.0, 20), Run(0.1, 4.0, 10)
LEFT = (Departed("a.private", VOICE, 2), Departed("v.private", FACE, 1))


def test_accounts_of_private_towers_survive_and_are_named_once():
    one, two = Certified(3.0, ("x",), LEFT[:1]), Certified(4.0, ("x", "y"), LEFT)
    assert weakest([EXACT, one, two]) == Certified(5.0, ("x", "y"), LEFT)
    assert weakest([EXACT, Certified(0.0, ("x",), LEFT)]) == Certified(0.0, ("x",), LEFT)
    assert weakest([Certified(0.0, ("x",), LEFT), EMPIRICAL]) == EMPIRICAL


def test_epsilon_of_heads_alone_is_the_gaussians_and_of_nothing_nothing():
    assert epsilon_at(1e-9, [0.3, 0.4]) == epsilon_of(compose([0.3, 0.4]), 1e-9)
    assert epsilon_at(1e-9, []) == 0
    assert epsilon_at(1e-9, [], LEFT) == joint_epsilon([(VOICE, 2), (FACE, 1)], 1e-9)


def test_heads_and_towers_together_cost_more_than_each_and_less_than_their_sum():
    heads, towers = epsilon_at(1e-9, [0.5]), epsilon_at(1e-9, [], LEFT)
    both = epsilon_at(1e-9, [0.5], LEFT)
    assert max(heads, towers) < both < heads + towers


def test_each_person_and_each_tower_adds_to_epsilon():
    def of(subjects):
        return epsilon_at(1e-9, [], (Departed("a.private", VOICE, subjects),))

    assert of(1) < of(2) < of(4)
    assert epsilon_at(1e-9, [], LEFT) > of(2)


def test_no_epsilon_is_made_up_where_the_accountant_has_none():
    with pytest.raises(PrivacyError, match="delta"):
        epsilon_at(1e-13, [0.5], LEFT)
