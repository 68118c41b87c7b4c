"""The benchmark of missing channels: what its masks promise, and that its tables are made from result files."""

import json
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from benchmarks import cohorts, missing
from benchmarks.missing import METHODS, PAPER, RATES, fixed_table, masked, missing_at, missing_run, rate_table
from benchmarks.ridge import fit_ridge
from mbd.cohort.cohort import Split
from mbd.cohort.modality import Modality
from mbd.training.recipe import Recipe


@pytest.fixture(scope="module")
def rows(random_cohort):
    """Rows that have every channel: a few hundred, so that shares of them mean something."""
    cohort = random_cohort(1, subjects=60, clips=10)
    return cohort.select([i for i in range(len(cohort)) if cohort.present(i) == set(Modality)])


def agreement(one, other):
    """The share of equal entries."""
    return float((one == other).mean())


def test_masks_are_the_same_each_time_and_do_not_depend_on_other_rows(rows):
    mask = missing_at(rows, 0.6, 3)
    assert np.array_equal(mask, missing_at(rows, 0.6, 3))
    some = list(range(0, len(rows), 3))[::-1]
    assert np.array_equal(mask[some], missing_at(rows.select(some), 0.6, 3))


def test_channels_go_missing_independently_of_each_other(rows):
    mask = missing_at(rows, 0.3, 0)
    for a, b in combinations(range(3), 2):
        assert agreement(mask[:, a], mask[:, b]) == pytest.approx(0.7**2 + 0.3**2, abs=0.1)


@pytest.mark.parametrize(("rate", "seed"), [(0.5, 1), (0.500001, 0)])
def test_another_seed_or_rate_has_another_stream(rows, rate, seed):
    first, other = missing_at(rows, 0.5, 0), missing_at(rows, rate, seed)
    assert 0.4 < agreement(first, other) < 0.65


def test_no_row_is_left_empty_and_what_it_keeps_is_its_own(random_cohort):
    cohort = random_cohort(2, subjects=40)
    mask = missing_at(cohort, 1.0, 0)
    assert mask.sum(axis=1).tolist() == [1] * len(cohort)
    assert all(list(Modality)[int(mask[i].argmax())] in cohort.present(i) for i in range(len(cohort)))


def test_the_channel_that_is_kept_is_drawn_uniformly_and_anew_for_each_seed(rows):
    mask = missing_at(rows, 1.0, 0)
    assert mask.mean(axis=0) == pytest.approx([1 / 3] * 3, abs=0.1)
    assert (mask & missing_at(rows, 1.0, 1)).any(axis=1).mean() == pytest.approx(1 / 3, abs=0.1)


def test_at_rate_0_nothing_changes(random_cohort):
    cohort = random_cohort(3)
    same = masked(cohort, missing_at(cohort, 0.0, 0))
    assert same.rows == cohort.rows
    assert all(a is b for m in cohort.modalities for a, b in zip(same.features[m], cohort.features[m], strict=True))


def test_a_channel_that_is_taken_away_is_not_in_the_rows_at_all(rows):
    mask = missing_at(rows, 0.5, 0)
    assert np.array_equal(masked(rows, mask).presence, mask)
    assert not mask.all()


def test_ridge_takes_an_absent_channel_for_the_mean_of_its_training_rows(random_cohort):
    cohort = random_cohort(4, subjects=30)
    ridge = fit_ridge(cohort, frozenset(Modality))
    test = cohort.where(split=Split.TEST).restrict({Modality.TEXT})
    mean = {m: tuple(ridge.centre[m] for _ in test.rows) for m in (Modality.AUDIO, Modality.VISION)}
    filled = replace(test, channels=cohort.channels, features={Modality.TEXT: test.features[Modality.TEXT], **mean})
    assert np.allclose(ridge.predict(test), ridge.predict(filled), rtol=0, atol=1e-12)


def test_a_run_asks_every_method_about_every_case_and_gives_the_same_numbers_again(random_cohort, monkeypatch):
    monkeypatch.setattr(missing, "shipped", lambda name: Recipe(options={"width": 4}, epochs=1))
    cohort = random_cohort(5, subjects=16)
    run = missing_run("mosi", cohort, 0)
    assert set(run["fixed"]) == {"t", "a", "v", "ta", "tv", "av", "tav"}
    assert set(run["rate"]) == {str(rate) for rate in RATES}
    cases = [*run["fixed"].values(), *run["rate"].values()]
    assert all(set(case) == set(METHODS) for case in cases)
    assert json.dumps(run) == json.dumps(missing_run("mosi", cohort, 0))


@pytest.fixture
def results(monkeypatch, tmp_path):
    """``results(runs)`` stands in for the result file of MOSI."""
    monkeypatch.setattr(cohorts, "RESULTS", tmp_path)

    def write(means):
        case = {method: dict.fromkeys(missing.METRICS["mosi"], 0.0) for method in METHODS}

        def run(seed, mean):
            mine = {**case, "lattice": dict.fromkeys(missing.METRICS["mosi"], mean)}
            return {"seed": seed, "fixed": {"ta": mine}, "rate": {str(rate): mine for rate in RATES}}

        runs = [run(seed, mean) for seed, mean in means]
        (tmp_path / "missing-mosi.json").write_text(json.dumps({"runs": runs}))

    return write


def test_tables_are_means_and_deviations_over_seeds_of_the_result_file(results):
    results([(0, 0.1), (0, 0.3), (1, 0.4)])  # two folds of seed 0 count as one
    for table in (fixed_table("mosi"), rate_table("mosi")):
        (line, *_) = [line for line in table.splitlines() if "lattice" in line]
        assert line.count("0.300 ± 0.141") == len(missing.METRICS["mosi"])


@pytest.mark.parametrize("make", [fixed_table, rate_table])
def test_the_papers_figures_stand_only_in_rows_that_say_whose_they_are(results, make):
    results([(0, 0.0), (1, 0.0)])
    theirs = [line for line in make("mosi").splitlines() if "reported by the paper: other features" in line]
    assert all("Has0 or Non0: unknown" in line for line in theirs)
    ours = "\n".join(line for line in make("mosi").splitlines() if line not in theirs)
    assert len(theirs) == (2 if make is fixed_table else len(RATES))
    reported = [*PAPER["rate"].values(), *(figure for case in PAPER["fixed"].values() for figure in case.values())]
    assert not any(f"{figure:.3f}" in ours for figure in reported)


@pytest.mark.parametrize("name", ["mosi", "ravdess"])
def test_the_committed_results_make_whole_tables(name):
    for table in (fixed_table(name), rate_table(name)):
        head, _, *lines = table.splitlines()
        assert {line.count("|") for line in (head, *lines)} == {head.count("|")}
        assert all(any(who in line for line in lines) for who in METHODS.values())
        assert "nan" not in table
        assert ("reported by the paper" in table) == (name == "mosi")
