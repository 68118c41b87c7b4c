import pytest

from mbd.privacy.guarantee import Certified, Empirical, Exact, weakest

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
