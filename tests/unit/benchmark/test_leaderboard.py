"""Tables say what the results say: means, deviations, order, and which differences are more than noise."""

import statistics
from dataclasses import replace

import numpy as np
import pytest

from mbd.benchmark.figures import draw
from mbd.benchmark.leaderboard import (
    Leaderboard,
    Spread,
    balance_and_cost,
    by_condition,
    by_protocol,
    markdown,
    verdict,
    with_all_channels,
)
from mbd.benchmark.result import Endings, Measured, Result
from mbd.cohort.modality import Modality
from mbd.cohort.protocols import Protocol
from mbd.metrics.bootstrap import paired_interval
from mbd.metrics.comparison import Comparison

CONDITIONS = ("fixed/t", "fixed/a", "fixed/ta", "rates/0.5")
CHANNELS = (Modality.TEXT, Modality.AUDIO)


def result(backbone, seed, errors, mei=0.5):
    """A run whose people, of two rows each, err so much under every condition; accuracy falls with it."""
    accuracy = 1 - sum(errors) / 6
    conditions = {
        name: Measured(name.partition("/")[0], "00", {"mae": sum(errors) / 6, "acc2_non0": accuracy - n / 100}, errors)
        for n, name in enumerate(CONDITIONS)
    }
    return Result(backbone, seed, "00", 1234, 0.5 + seed, 7, 5, (2, 2, 2), conditions, {"text": 0.1}, mei, 0.25)


@pytest.fixture
def board():
    runs = [result("control", s, (1.0, 1.1, 0.9 + s / 100)) for s in range(3)]
    runs += [result("mbd", s, (0.5, 0.6, 0.4 + s / 100), mei=None if s == 1 else 0.5) for s in range(3)]
    return Leaderboard(runs, CHANNELS)


def test_the_network_that_errs_least_comes_first(board):
    assert board.backbones == ("mbd", "control")


def test_a_number_is_the_mean_over_conditions_and_its_deviation_that_between_seeds(board):
    by_seed = [1 - (3.0 + s / 100) / 6 - 0.01 for s in range(3)]
    spread = board.spread("control", CONDITIONS[:3], "acc2_non0")
    assert spread.mean == pytest.approx(statistics.fmean(by_seed))
    assert spread.sd == pytest.approx(statistics.stdev(by_seed))


def test_one_seed_has_no_deviation():
    assert str(Spread.of([0.25])) == "0.250"
    assert str(Spread.of([0.25, 0.75])) == "0.500 ± 0.354"


def test_a_number_that_is_not_defined_at_every_seed_is_not_shown(board):
    assert board.mei("mbd") is None
    assert board.mei("control") == Spread(0.5, 0.0)
    columns, rows = balance_and_cost(board)
    assert [row[columns.index("MEI")] for row in rows] == ["-", "0.500 ± 0.000"]
    assert [row[columns.index("CPU ms a row")] for row in rows] == ["1.500", "1.500"]
    assert [row[columns.index("φ text")] for row in rows] == ["0.100 ± 0.000"] * 2
    assert [row[columns.index("φ audio")] for row in rows] == ["-", "-"]  # no result has it


def test_each_network_is_held_against_the_control_and_that_against_nobody(board):
    compared = board.against_baseline("mbd", CONDITIONS)
    assert compared is not None
    assert compared.mean == pytest.approx(-0.25)
    assert compared.low < compared.mean < compared.high < 0
    assert board.against_baseline("control", CONDITIONS) is None
    columns, rows = by_protocol(board)
    assert rows[0][columns.index("error against control")].endswith("better")
    assert rows[1][-1] == "-"


@pytest.mark.parametrize(
    ("low", "high", "beyond", "said"),
    [
        (-0.2, -0.1, True, "better"),
        (0.1, 0.2, True, "worse"),
        (-0.1, 0.2, False, "within noise"),
        (-0.1, 0.2, True, "beyond seeds, not people"),
    ],
)
def test_a_difference_whose_interval_holds_zero_is_called_no_difference(low, high, beyond, said):
    compared = Comparison((low + high) / 2, low, high, seed_sd=0.1, exceeds_seed_noise=beyond)
    assert verdict(compared).endswith(said)


def test_one_seed_or_one_person_is_compared_with_nothing():
    alone = Leaderboard([result(name, 0, (1.0, 1.0, 1.0)) for name in ("control", "mbd")], CHANNELS)
    assert alone.against_baseline("mbd", CONDITIONS) is None
    found = alone.over_people("mbd", CONDITIONS)
    assert (found.mean, found.low, found.high) == (0.0, 0.0, 0.0)
    one_person = [
        replace(
            run, rows=(2,), conditions={"fixed/ta": Measured("fixed", "00", {"mae": 0.5, "acc2_non0": 0.5}, (1.0,))}
        )
        for run in (result(name, 0, (1.0, 1.0, 1.0)) for name in ("control", "mbd"))
    ]
    assert Leaderboard(one_person, CHANNELS).over_people("mbd", ["fixed/ta"]) is None


def test_over_people_alone_is_the_paired_bootstrap_of_the_mean_over_seeds(board):
    errors = {"control": (1.0, 1.1, 0.91), "mbd": (0.5, 0.6, 0.41)}
    differences = np.array(errors["mbd"]) - np.array(errors["control"])
    found, by_hand = board.over_people("mbd", CONDITIONS), paired_interval(differences, np.full(3, 2.0))
    assert (found.mean, found.low, found.high) == pytest.approx((by_hand.mean, by_hand.low, by_hand.high))
    assert board.over_people("control", CONDITIONS) is None
    columns, rows = by_protocol(board)
    assert columns[-1] == "over people alone"
    assert rows[0][-1] == f"[{by_hand.low:+.3f}, {by_hand.high:+.3f}]"


def test_tables_have_a_row_for_each_network_and_a_column_for_each_condition(board):
    columns, rows = by_condition(board, Protocol.FIXED)
    assert columns == ["backbone", "t", "a", "ta"]
    assert [row[0] for row in rows] == ["mbd", "control"]
    assert rows[1][1:] == [str(board.spread("control", [name], "acc2_non0")) for name in CONDITIONS[:3]]
    columns, rows = with_all_channels(board)
    assert columns == ["backbone", "fidelity", "MAE", "Acc-2 Non0"]
    assert rows[1][1:] == ["inspired", "0.502 ± 0.002", str(board.spread("control", ["fixed/ta"], "acc2_non0"))]
    text = markdown(columns, rows)
    assert text.splitlines()[0] == "| backbone | fidelity | MAE | Acc-2 Non0 |"
    assert len(text.splitlines()) == 4


def test_how_trainings_ended_is_counted_by_the_epochs_after_the_kept_one():
    def ended(backbone, epochs, chosen):
        return replace(result(backbone, 0, (1.0, 1.0, 1.0)), epochs=epochs, chosen_epoch=chosen)

    runs = [ended("mbd", 60, 44), ended("mbd", 60, 45), ended("tsd", 60, 59), ended("control", 16, 0)]
    found = Endings.of(runs, patience=15)
    assert found == Endings(4, {"mbd": 1, "tsd": 1}, 45.5, 1)
    assert str(found) == (
        "2 of 4 trainings ended by patience, 2 at the most epochs (mbd 1, tsd 1). "
        "The epoch that was kept is number 45.5 in the median, and the first one in 1."
    )
    assert "0 at the most epochs. The" in str(Endings.of(runs[:1], patience=15))


@pytest.fixture
def figures(monkeypatch, tmp_path):
    """Draw a board, and hand the figures over by the names of their files."""

    def made(board):
        kept = {}
        monkeypatch.setitem(draw.__globals__, "_save", lambda figure, path: kept.setdefault(path.stem, figure))
        draw(board, tmp_path)
        return kept

    return made


def test_pictures_show_the_numbers_of_the_tables_with_their_deviations(board, figures):
    found = figures(board)
    assert set(found) == {"missing-rates", "balance", "cost"}
    for figure in found.values():
        (legend,) = figure.legends
        assert [text.get_text() for text in legend.get_texts()] == list(
            board.backbones if figure is not found["balance"] else ["control"]
        )
    (axes,) = found["cost"].axes
    for backbone, bar in zip(board.backbones, axes.containers, strict=True):
        point, _, (lines,) = bar.lines
        spread = board.spread(backbone, board.conditions, "acc2_non0")
        assert point.get_xydata().tolist() == [[board.milliseconds(backbone), pytest.approx(spread.mean)]]
        (ends,) = lines.get_segments()
        assert ends[:, 1] == pytest.approx([spread.mean - spread.sd, spread.mean + spread.sd])
    (axes,) = found["missing-rates"].axes
    for backbone, line, band in zip(board.backbones, axes.lines, axes.collections, strict=True):
        spread = board.spread(backbone, ["rates/0.5"], "acc2_non0")
        assert line.get_xydata().tolist() == [[0.5, pytest.approx(spread.mean)]]
        heights = band.get_paths()[0].vertices[:, 1]
        assert (heights.min(), heights.max()) == pytest.approx((spread.mean - spread.sd, spread.mean + spread.sd))


def test_ticks_of_the_cost_are_plain_numbers(board, figures):
    axes = figures(board)["cost"].axes[0]
    shown = [axes.xaxis.get_minor_formatter()(value, 0) for value in (0.2, 0.3, 0.5, 1.0, 20.0)]
    assert shown == ["0.2", "", "0.5", "1", "20"]
