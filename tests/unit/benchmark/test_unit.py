"""What a benchmark measures: answers to what masks leave, errors by person, and Shapley values of the mean error."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from mbd.backbones.base import Output
from mbd.backbones.standardiser import Standardiser
from mbd.benchmark import unit
from mbd.benchmark.plan import Plan, Unit, source_of
from mbd.cohort.cohort import Split
from mbd.cohort.masks import draw_masks
from mbd.cohort.modality import Modality
from mbd.cohort.protocols import Condition, Protocol, all_conditions, fixed
from mbd.training.recipe import Recipe

TEXT, AUDIO, VISION = Modality


class Adding(nn.Module):
    """Answers with weighted counts of its channels and of those of the clip before, and the sum of its features."""

    reads_context = False

    def __init__(self, cohort, *, counts=(0.0, 0.0, 0.0), features=0.0, context=0.0):
        super().__init__()
        self.standardiser = Standardiser({m: channel.dim for m, channel in cohort.channels.items()}, 1)
        self.counts, self.features, self.context = torch.tensor(counts), features, context

    def forward(self, batch):
        answer_B = (batch.present * self.counts).sum(dim=1)
        for m, x_BTF in batch.features.items():
            answer_B = answer_B + self.features * (x_BTF * batch.observed[m][..., None]).sum(dim=(1, 2))
        if batch.context is not None:
            answer_B = answer_B + self.context * batch.context.present.sum(dim=1)
        return Output(answer_B[:, None], answer_B[:, None], {})


@pytest.fixture
def cohort(random_cohort):
    return random_cohort(3, subjects=12, clips=4)


def condition(cohort, protocol, name):
    (found,) = [c for c in all_conditions(cohort.modalities) if (c.protocol, c.name) == (protocol, name)]
    return found


def test_an_answer_is_to_what_the_masks_leave(cohort):
    counting = Adding(cohort, counts=(1.0, 10.0, 100.0))
    everything = unit.predict(counting, cohort, draw_masks(cohort, condition(cohort, Protocol.FIXED, "tav"), 0))
    assert everything[:, 0].tolist() == (cohort.presence @ [1, 10, 100]).tolist()
    voice = unit.predict(counting, cohort, draw_masks(cohort, condition(cohort, Protocol.FIXED, "a"), 0))
    assert voice[:, 0].tolist() == (cohort.presence @ [0, 10, 0]).tolist()


def test_noise_reaches_the_network_and_grows_with_its_strength(cohort):
    adding = Adding(cohort, features=1.0)
    clean, weak, strong = (
        unit.predict(adding, cohort, draw_masks(cohort, Condition(Protocol.SPECTRUM, "x", noise=noise), 0))
        for noise in (0.0, 0.5, 2.0)
    )
    assert np.array_equal(clean, unit.predict(adding, cohort, draw_masks(cohort, fixed(cohort.modalities)[-1], 0)))
    moved = [np.abs(noisy - clean).mean() for noisy in (weak, strong)]
    assert 0 < 2 * moved[0] < moved[1]


def test_more_rows_than_a_batch_are_answered_in_order(cohort, monkeypatch):
    adding, masks = Adding(cohort, features=1.0), draw_masks(cohort, fixed(cohort.modalities)[-1], 0)
    whole = unit.predict(adding, cohort, masks)
    monkeypatch.setattr(unit, "_BATCH_ROWS", 5)
    assert unit.predict(adding, cohort, masks) == pytest.approx(whole, abs=1e-5)
    assert len(np.unique(whole)) > 5


def test_the_clips_before_are_there_for_a_network_that_reads_them_alone(cohort):
    masks = draw_masks(cohort, fixed(cohort.modalities)[-1], 0)
    reading = Adding(cohort, context=1.0)
    assert not unit.predict(reading, cohort, masks).any()
    reading.reads_context = True
    assert unit.predict(reading, cohort, masks).any()


def complete(cohort):
    """The cohort's rows that have every channel."""
    return cohort.select(np.flatnonzero(cohort.presence.all(axis=1)))


def test_shapley_values_are_those_that_a_hand_computes(cohort):
    """With answers that add up channel by channel, and labels above all of them, an error falls by each one's part."""
    rows = complete(cohort)
    labelled = replace(rows, rows=tuple(replace(row, label=3.0) for row in rows.rows))
    parts = {TEXT: 0.25, AUDIO: 0.5, VISION: 1.0}
    found = unit._contributions(Adding(rows, counts=tuple(parts.values())), labelled, labelled, 0)
    # without any channel the answer is the training rows' mean label, 3, which errs by nothing
    empty, most = 0.0, 3.0 - sum(parts.values())
    assert sum(found.shapley.values()) == pytest.approx(empty - most)
    values = {m: part - 3.0 / 3 for m, part in parts.items()}  # each comes first in a third of all orders
    assert {m: found.shapley[m] for m in parts} == pytest.approx(values)
    half = replace(rows, rows=tuple(replace(row, label=1.0) for row in rows.rows))
    other = unit._contributions(Adding(rows, counts=tuple(parts.values())), labelled, half, 0)
    assert sum(other.shapley.values()) == pytest.approx(2.0 - most)


def test_nobody_with_every_channel_has_no_shapley_values(cohort):
    lacking = cohort.select(np.flatnonzero(~cohort.presence.all(axis=1)))
    assert len(lacking)
    assert unit._contributions(Adding(cohort), lacking, cohort, 0) is None


def test_errors_are_summed_by_person(cohort, monkeypatch):
    """The whole of it: a network that always answers 0 errs by the labels' sizes, person by person."""
    plan = Plan(Recipe(epochs=1, batch_size=8), ("control",), 1, (Protocol.FIXED,))
    monkeypatch.setattr(unit, "predict", lambda _backbone, rows, _masks: np.zeros((len(rows), 1)))
    told = []
    result = unit.run_unit(plan, Unit("control", 0), cohort, on_progress=told.append)
    test = cohort.where(split=Split.TEST)
    sizes = {}
    for row in test.rows:
        sizes[row.subject] = sizes.get(row.subject, 0.0) + abs(row.label)
    for measured in result.conditions.values():
        assert measured.errors == pytest.approx(tuple(sizes.values()))
        assert measured.metrics["mae"] == pytest.approx(sum(sizes.values()) / len(test))
    assert result.source == source_of("control")
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_wrong_classes_are_counted(random_cohort):
    cohort = random_cohort(1, classes=3)
    first = np.zeros((len(cohort), 3))
    first[:, 0] = 1.0
    errors = unit._errors(cohort.targets, first, cohort.task)
    assert errors.tolist() == [float(row.label != "class-0") for row in cohort.rows]
