"""A network that was trained on people's voices gives them away; one that never saw them does not."""

from dataclasses import replace

import pytest

from mbd.attacks.reconstruction import Reconstruction, compare_reconstructions, reconstruct
from mbd.cohort.cohort import Partition, Split
from mbd.cohort.modality import Modality
from mbd.cohort.synthetic import Subjects, planted_trait, synthetic_cohort
from mbd.errors import AttackError
from mbd.training.loop import train
from mbd.training.recipe import Recipe

RECIPE = Recipe(epochs=12, batch_size=64, options={"width": 16, "property_width": 16}, trains_on="everyone")


@pytest.fixture(scope="module")
def attacked():
    """Of one world: what a network that saw the voices gives away, and what one that never did."""
    people = Subjects(public_train=8, public_valid=3, revocable_train=10, revocable_test=1)
    cohort = synthetic_cohort(4, subjects=people, clips=12, missing=0.0, trait_strength=3.0)
    leaving = list(
        dict.fromkeys(
            row.subject for row in cohort.rows if row.partition is Partition.REVOCABLE and row.split is Split.TRAIN
        )
    )
    traits = {person: planted_trait(4, person, Modality.AUDIO) for person in leaving}
    pairs = [(person, Modality.AUDIO) for person in leaving]
    found = []
    for rows in (cohort, cohort.without(pairs)):
        network = train(RECIPE, rows, seed=1, partitions=tuple(Partition)).backbone
        found.append(reconstruct(network, cohort, leaving, Modality.AUDIO, traits=traits))
    return found


def test_an_exposed_network_makes_up_the_voice_and_the_person_better(attacked):
    exposed, never = attacked
    assert exposed.people == never.people == 10
    assert exposed.error < never.error
    assert exposed.rank < never.rank
    assert exposed.planted > never.planted


def test_one_person_alone_cannot_be_told_from_others():
    cohort = synthetic_cohort(1, subjects=Subjects(4, 2, 3, 1), clips=4, missing=0.0)
    network = train(replace(RECIPE, epochs=1), cohort, seed=0, partitions=tuple(Partition)).backbone
    people = [row.subject for row in cohort.rows if row.partition is Partition.REVOCABLE][:1]
    with pytest.raises(AttackError, match="too few"):
        reconstruct(network, cohort, people, Modality.AUDIO)


def made(**changes):
    return replace(Reconstruction(error=1.0, identified=0.1, rank=0.5, planted=0.0, people=10), **changes)


def test_a_verdict_needs_an_interval_above_zero():
    never = [made(rank=0.5 + 0.01 * world) for world in range(5)]
    assert compare_reconstructions(never, never, target="t", seed=0).verdict == "held"
    telling = [made(rank=0.2 + 0.01 * world) for world in range(5)]
    assert compare_reconstructions(telling, never, target="t", seed=0).verdict == "broken"
    planted = [made(rank=one.rank, planted=0.3) for one in never]
    report = compare_reconstructions(planted, never, target="t", seed=0)
    assert report.verdict == "broken"
    assert any("planted" in estimate.name and estimate.low > 0 for estimate in report.estimates)
    with pytest.raises(AttackError, match="too few"):
        compare_reconstructions(never[:1], never[:1], target="t", seed=0)
