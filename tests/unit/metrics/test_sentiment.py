"""Golden values worked out by hand, and the conventions that tables of this field mix up."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mbd.cohort.cohort import Task
from mbd.errors import MbdError
from mbd.metrics.sentiment import (
    classification_metrics,
    coarse_accuracies,
    correlation,
    evaluate,
    five_classes,
    regression_metrics,
    seven_classes,
    three_classes,
    weighted_f1,
)

SCORES = Task("regression", low=-3.0, high=3.0)
EMOTIONS = Task("classification", classes=("calm", "happy", "sad"))


def column(*values):
    return np.array(values, dtype=np.float64)[:, None]


def labels(*values):
    return np.array(values, dtype=np.int64)


def test_scores_by_hand():
    #             true:  neg       neutral    pos       pos       neg
    metrics = evaluate(column(-2, 0, 1, 3, -1), column(-1, -0.5, 2, 3.4, 0.5), SCORES)
    assert metrics["mae"] == pytest.approx((1 + 0.5 + 1 + 0.4 + 1.5) / 5)
    # Has0: true 0 1 1 1 0, predicted 0 0 1 1 1 -> three of five agree
    assert metrics["acc2_has0"] == pytest.approx(3 / 5)
    # class 0: 2*1/(2+2); class 1: 2*2/(3+3); weighted by true sizes 2 and 3
    assert metrics["f1_has0"] == pytest.approx((2 * 0.5 + 3 * (2 / 3)) / 5)
    # Non0 drops the neutral clip: true 0 1 1 0, predicted 0 1 1 1
    assert metrics["acc2_non0"] == pytest.approx(3 / 4)
    # class 0: 2*1/(2+1); class 1: 2*2/(2+3)
    assert metrics["f1_non0"] == pytest.approx((2 * (2 / 3) + 2 * 0.8) / 4)
    # classes -2 0 1 3 -1 against -1 0 2 3 0 (halves go to the even neighbour)
    assert metrics["acc7"] == pytest.approx(2 / 5)
    assert metrics["corr"] == pytest.approx(np.corrcoef([-2, 0, 1, 3, -1], [-1, -0.5, 2, 3.4, 0.5])[0, 1])


def test_emotions_by_hand():
    targets = np.eye(3)[[0, 0, 1, 1, 1, 2]]
    predictions = np.eye(3)[[0, 1, 1, 1, 2, 2]] * 0.4
    metrics = evaluate(targets, predictions, EMOTIONS)
    assert metrics["accuracy"] == pytest.approx(4 / 6)
    # calm 2*1/(2+1), happy 2*2/(3+3), sad 2*1/(1+2)
    assert metrics["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 2 / 3) / 3)


def test_the_names_are_stable():
    assert list(evaluate(column(1.0), column(1.0), SCORES)) == [
        "mae", "corr", "acc2_has0", "acc2_non0", "f1_has0", "f1_non0", "acc7",
    ]  # fmt: skip
    assert list(evaluate(np.eye(3), np.eye(3), EMOTIONS)) == ["accuracy", "macro_f1"]


def test_f1_takes_the_truth_first():
    """Weights are true class sizes: swapping the arguments gives another number."""
    truth, said = labels(0, 0, 0, 0, 1), labels(0, 0, 0, 1, 1)
    # class 0: 6/7, class 1: 2/3
    assert weighted_f1(truth, said, classes=2) == pytest.approx((4 * 6 / 7 + 1 * 2 / 3) / 5)
    assert weighted_f1(said, truth, classes=2) == pytest.approx((3 * 6 / 7 + 2 * 2 / 3) / 5)


def test_has0_and_non0_differ_exactly_on_neutral_clips():
    metrics = regression_metrics(np.array([0.0, 0.0, 1.0]), np.array([-0.1, -0.1, 0.1]))
    assert metrics["acc2_has0"] == pytest.approx(1 / 3)
    assert metrics["acc2_non0"] == 1.0


def test_a_prediction_of_exactly_zero_counts_as_positive_in_has0_and_as_negative_in_non0():
    metrics = regression_metrics(np.array([1.0]), np.array([0.0]))
    assert (metrics["acc2_has0"], metrics["acc2_non0"]) == (1.0, 0.0)


def test_neutral_clips_alone_have_no_non0_metrics():
    metrics = regression_metrics(np.zeros(3), np.ones(3))
    assert math.isnan(metrics["acc2_non0"])
    assert math.isnan(metrics["f1_non0"])
    assert metrics["acc2_has0"] == 1.0


@pytest.mark.parametrize("predictions", [np.full(4, 0.1), np.zeros(4)])
def test_correlation_with_a_constant_is_zero(predictions):
    assert correlation(np.array([1.0, 2.0, 3.0, 4.0]), predictions) == 0.0
    assert correlation(predictions, np.array([1.0, 2.0, 3.0, 4.0])) == 0.0


def test_seven_classes_clip_and_then_round():
    assert seven_classes(np.array([-9.0, -2.5, -0.4, 0.5, 1.5, 2.6, 7.0])).tolist() == [-3, -2, 0, 0, 2, 3, 3]


def test_five_and_three_classes_clip_and_then_round_likewise():
    scores = np.array([-9.0, -1.5, -1.4, -0.5, 0.0, 0.5, 0.51, 1.5, 2.6])
    assert five_classes(scores).tolist() == [-2, -2, -1, 0, 0, 0, 1, 2, 2]
    assert three_classes(scores).tolist() == [-1, -1, -1, 0, 0, 0, 1, 1, 1]


def test_coarse_accuracies_by_hand():
    metrics = coarse_accuracies(np.array([-2.0, 0.0, 1.0, 3.0, -1.0]), np.array([-1.0, -0.5, 2.0, 2.4, 0.5]))
    # classes -2 0 1 2 -1 against -1 0 2 2 0
    assert metrics["acc5"] == pytest.approx(2 / 5)
    # classes -1 0 1 1 -1 against -1 0 1 1 0
    assert metrics["acc3"] == pytest.approx(4 / 5)


@given(arrays(np.float64, 20, elements=st.floats(-4, 4)), arrays(np.float64, 20, elements=st.floats(-4, 4)))
def test_fewer_classes_are_unions_of_more_and_agree_no_less(targets, predictions):
    seven, five, three = (classes(targets) for classes in (seven_classes, five_classes, three_classes))
    assert np.array_equal(five, np.clip(seven, -2, 2))
    assert np.array_equal(three, np.sign(seven))
    coarse = coarse_accuracies(targets, predictions)
    assert list(coarse) == ["acc5", "acc3"]
    assert 0 <= regression_metrics(targets, predictions)["acc7"] <= coarse["acc5"] <= coarse["acc3"] <= 1


def test_macro_f1_leaves_out_classes_that_never_occur_and_counts_those_only_predicted():
    assert classification_metrics(labels(0, 1), labels(0, 1), classes=5)["macro_f1"] == 1.0
    assert classification_metrics(labels(0, 0), labels(0, 3), classes=5)["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)


@given(arrays(np.float64, 12, elements=st.floats(-3, 3)), arrays(np.float64, 12, elements=st.floats(-4, 4)))
def test_every_metric_is_in_its_range(targets, predictions):
    metrics = regression_metrics(targets, predictions)
    assert metrics["mae"] >= 0
    assert -1 <= metrics["corr"] <= 1
    for name in ("acc2_has0", "f1_has0", "acc7"):
        assert 0 <= metrics[name] <= 1


@given(arrays(np.float64, (9, 1), elements=st.floats(-3, 3)), st.permutations(range(9)))
def test_the_order_of_rows_does_not_matter(targets, order):
    predictions = targets[::-1].copy()
    once, again = evaluate(targets, predictions, SCORES), evaluate(targets[order], predictions[order], SCORES)
    assert again == pytest.approx(once, nan_ok=True, abs=1e-9)


@pytest.mark.parametrize(("targets", "predictions"), [(3, 2), (0, 0)])
def test_arrays_that_cannot_be_compared_are_refused(targets, predictions):
    with pytest.raises(MbdError, match="cannot be compared"):
        evaluate(np.zeros((targets, 1)), np.zeros((predictions, 1)), SCORES)
