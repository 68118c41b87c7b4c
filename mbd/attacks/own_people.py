"""Attacks on a line's own people: what the line would make of their withdrawal, at its own constants.

It knows models and cohorts; it knows no deployment, and changes nothing.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial

from mbd.attacks.canary import known_noise, make_line
from mbd.attacks.one_run import CANARIES, at_canary_scale, audit_private_training
from mbd.attacks.report import Effort, OnProgress, Report
from mbd.attacks.worlds import MakeLine, look_into_worlds, membership_report, reconstruction_report, relearning_report
from mbd.backbones.mbd import MissingByDesign
from mbd.cohort.cohort import EVERYONE, Cohort, Pair, Partition, Split
from mbd.cohort.modality import Modality
from mbd.deletion.outcome import EntangledMechanism
from mbd.lattice.fit import sum_pieces, training_rows
from mbd.lattice.model import LatticeModel
from mbd.lattice.release import release_heads
from mbd.privacy.noise import NoiseSource
from mbd.training.recipe import Recipe

_CONFIDENCE = 0.999
"""Of intervals that may stop a certificate."""

_TRIALS = 160
"""Worlds times people, at least: of fewer, chance alone would stop a certificate now and then."""

_MOST_PEOPLE = 40
_LEAST_PAIRS = 3  # of models that the two attacks by pairs compare


def attack_people(
    model: LatticeModel,
    cohort: Cohort,
    pairs: frozenset[Pair],
    *,
    line: str,
    effort: Effort,
    only: Collection[str],
    entangled: EntangledMechanism = "retrain",
    spent: Sequence[float] = (),
    tell: OnProgress,
) -> Iterator[Report]:
    """Make the line anew in worlds in which people were exposed or not: membership, relearning, reconstruction.

    Each withdrawn channel is attacked on its own, by those who withdraw it and others who could. Of a channel of
    everybody there is no report: nobody is left who never gave it, and no head reads it any more.

    Args:
        model: the line before the deletion.
        cohort: its cohort before the deletion.
        pairs: what is withdrawn.
        line: its name, for people.
        effort: worlds (more where few people make them cheap) and seed.
        only: names of attacks; others than these three are ignored.
        entangled: as in `look_into_worlds`.
        spent: likewise.
        tell: told how far it is.
    """
    makers = {"membership": membership_report, "relearning": relearning_report, "reconstruction": reconstruction_report}
    rebuilds = Recipe.from_json(model.recipe).trains_on == "everyone" and isinstance(
        model.featurizer.backbone, MissingByDesign
    )
    wanted = [name for name in makers if name in only and (name != "reconstruction" or rebuilds)]
    for modality in sorted({modality for _, modality in cohort.closure(pairs)}):
        people = _people(cohort, cohort.closure(pairs), modality)
        if not people or not wanted:
            continue
        worlds = look_into_worlds(
            _maker(model),
            cohort,
            people,
            modality,
            worlds=max(effort.worlds, math.ceil(_TRIALS / len(people))),
            seed=effort.seed,
            rebuild="reconstruction" in wanted,
            entangled=entangled,
            spent=spent,
            on_progress=partial(_tell, tell, f"{line}: {modality.value}"),
        )
        seen = {
            "membership": len(worlds),
            "relearning": sum(world.steps is not None for world in worlds),
            "reconstruction": sum(world.rebuilt is not None for world in worlds),
        }
        for name in wanted:
            if seen[name] >= _LEAST_PAIRS:
                yield makers[name](worlds, target=f"{line}: {modality.value}", seed=effort.seed, confidence=_CONFIDENCE)


def _people(cohort: Cohort, pairs: frozenset[Pair], modality: Modality) -> tuple[str, ...]:
    """Those who withdraw the channel, and others who have it and could; nobody where everybody withdraws."""
    rows = cohort.where(partition=Partition.REVOCABLE, split=Split.TRAIN)
    able = [person for person in rows.subjects if any(modality in rows.present(i) for i in rows.rows_of[person])]
    leaving = [person for person in able if (person, modality) in pairs]
    if (EVERYONE, modality) in pairs or not leaving:
        return ()
    others = [person for person in able if person not in leaving]
    return tuple([*leaving, *others][: max(_MOST_PEOPLE, len(leaving))])


def _tell(tell: OnProgress, target: str, done: float, about: str) -> None:
    tell(done, f"{target}, {about}")


def _maker(model: LatticeModel) -> MakeLine:
    """Makes the line on another cohort: around its own features, or by its recipe where its people shape networks."""

    def around(cohort: Cohort, *, noise: NoiseSource, purpose: str, seed: int) -> LatticeModel:
        statistics = sum_pieces(model.featurizer, model.task, [cohort])
        rows = training_rows(cohort)
        released = release_heads(
            model.layout,
            statistics,
            model.layout.patterns,
            policy=model.policy,
            noise=noise,
            purpose=purpose,
            commitment=statistics.commitment(model.salt),
            rows=model.featurizer.head_rows(rows, salt=model.salt) if model.policy.loss == "cross-entropy" else None,
        )
        return replace(model, statistics=statistics, heads=released.heads)

    def anew(cohort: Cohort, *, noise: NoiseSource, purpose: str, seed: int) -> LatticeModel:
        recipe = Recipe.from_json(model.recipe)
        return make_line(cohort, recipe, policy=model.policy, noise=noise, purpose=purpose, seed=seed)

    return anew if worlds_train(model) else around


def worlds_train(model: LatticeModel) -> bool:
    """Whether worlds of the line have to train networks, since revocable rows shape them."""
    return Recipe.from_json(model.recipe).sees_revocable


def attack_private_towers(
    model: LatticeModel, pairs: frozenset[Pair], *, line: str, seed: int, tell: OnProgress
) -> Iterator[Report]:
    """Run the constants of each private tower of a withdrawn channel once, with canaries in place of its people."""
    withdrawn = {modality for _, modality in pairs}
    for recipe in (each for each in Recipe.from_json(model.recipe).private if each.modality in withdrawn):
        tell(0.0, f"{line}: {CANARIES} canaries in a private tower")
        report = audit_private_training(
            at_canary_scale(recipe, CANARIES), canaries=CANARIES, noise=known_noise(seed), seed=seed, delta=recipe.delta
        )
        yield replace(report, target=f"{line}: {report.target}")
