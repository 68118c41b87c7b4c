"""All attacks on canaries: small lines of synthetic people, built so that each attack meets its worst case.

`mbd attack canaries` runs it; so does the test of the attacks themselves, on code with planted bugs. It knows no
deployment: the leak sweep, which needs one, is added by the workflow.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mbd.attacks.canary import Canary, canary, known_noise, make_line, small
from mbd.attacks.distinguishing import HISTORIES, History, audit_release, deletion_arms, loud
from mbd.attacks.exactness import audit_exactness
from mbd.attacks.noisy_start import audit_noisy_fine_tuning
from mbd.attacks.one_run import CANARIES, at_canary_scale, audit_private_training
from mbd.attacks.report import Effort, Estimate, OnProgress, Report
from mbd.attacks.worlds import DELTA, look_into_worlds, membership_report, reconstruction_report, relearning_report
from mbd.cohort.cohort import Cohort, Partition, Split
from mbd.cohort.modality import Modality, pattern_name
from mbd.cohort.synthetic import Subjects, planted_trait, synthetic_cohort
from mbd.deletion.noisy_finetuning import NoisyFineTuning
from mbd.deletion.outcome import Revocation
from mbd.errors import MbdError
from mbd.lattice.model import LatticeModel
from mbd.lattice.release import ReleasePolicy
from mbd.privacy.gaussian import epsilon_of
from mbd.privacy.noise import NoiseSource
from mbd.training.loop import train
from mbd.training.recipe import Recipe
from mbd.training.tower_recipe import PrivateRecipe, ShardedRecipe, TowerRecipe

FloatArray = NDArray[np.float64]

Attack = Callable[[Effort, OnProgress], list[Report]]

_VOICE = frozenset({Modality.AUDIO})
_CONFIDENCE = 0.95
_FINE_TUNINGS = 300


def distinguishing(effort: Effort, on_progress: OnProgress) -> list[Report]:
    """Noised heads, from every history, at a mu that releases can decide; and once at the constants that we ship."""
    noise = known_noise(effort.seed)
    people = canary(effort.seed)
    model = make_line(people.cohort, small(Recipe()), policy=ReleasePolicy(), noise=noise, purpose="before", flat=True)
    runs: list[tuple[History, ReleasePolicy, str]] = [(history, loud(model.policy), "loud") for history in HISTORIES]
    runs.append(("flattest", model.policy, "as shipped"))
    reports = []
    for done, (history, policy, constants) in enumerate(runs):
        arms = deletion_arms(
            model,
            people.cohort,
            Revocation(people.pairs, "audit"),
            history=history,
            policy=policy,
            seed=effort.seed,
        )
        together = tuple(arms.unlearned.solved)
        for part, heads in enumerate(((_VOICE,), together)):
            target = f"{'+'.join(map(pattern_name, heads))}, {history}, {constants}"
            share = (done + part / 2) / len(runs)
            on_progress(share, target)
            reports.append(
                audit_release(
                    arms,
                    heads,
                    noise=noise,
                    releases=effort.releases,
                    target=target,
                    seed=effort.seed,
                    on_progress=_part(on_progress, share, 0.5 / len(runs), target),
                )
            )
    return reports


def exactness(effort: Effort, on_progress: OnProgress) -> list[Report]:
    """Everything that is claimed to be equal, mechanism by mechanism."""
    plain = small(Recipe())
    shards = replace(plain, sharded=(ShardedRecipe(TowerRecipe("audio", width=3, epochs=1)),))
    rereading = ReleasePolicy(exact_rows=1_000_000)
    seed = effort.seed
    cases: Mapping[str, tuple[Canary, Recipe, ReleasePolicy]] = {
        "lattice-newton": (canary(seed), plain, ReleasePolicy()),
        "lattice-refit": (canary(seed), plain, rereading),
        "refit, two people": (canary(seed, voices=2), plain, rereading),
        "refit, labels fall": (canary(seed, label_falls=True), plain, rereading),
        "refit, cross-entropy": (
            canary(seed, classes=True),
            replace(plain, heads="cross-entropy"),
            rereading,
        ),
        "lattice-drop": (canary(seed, everyone=True), plain, ReleasePolicy()),
        "tower-drop": (canary(seed), shards, ReleasePolicy()),
        "retrain": (canary(seed), replace(plain, trains_on="everyone"), ReleasePolicy()),
    }
    reports = []
    for done, (name, (people, recipe, policy)) in enumerate(cases.items()):
        on_progress(done / len(cases), name)
        try:
            reports.append(audit_exactness(people, recipe, policy=policy, seed=seed + 1, target=name))
        except MbdError as error:
            reports.append(_refused("exactness", name, error, effort))
    return reports


def relearning(effort: Effort, on_progress: OnProgress) -> list[Report]:
    """The head of withdrawn voices, against heads that never knew them."""
    worlds = look_into_worlds(
        plain_line,
        people := _synthetic(effort.seed),
        _names(people),
        Modality.AUDIO,
        worlds=effort.worlds,
        seed=effort.seed,
        on_progress=on_progress,
    )
    return [relearning_report(worlds, target="head a", seed=effort.seed, confidence=_CONFIDENCE)]


def reconstruction(effort: Effort, on_progress: OnProgress) -> list[Report]:
    """Generators of a network that everybody shaped and that was trained again, against ones that never saw the voices.

    People carry a planted trait in their voice and another in their words and face: a network that saw both can go from
    one to the other.
    """
    people = synthetic_cohort(effort.seed, subjects=Subjects(6, 3, 12, 1), clips=8, missing=0.0, trait_strength=3.0)
    worlds = look_into_worlds(
        entangled_line,
        people,
        _names(people),
        Modality.AUDIO,
        worlds=effort.worlds,
        seed=effort.seed,
        rebuild=True,
        traits={person: planted_trait(effort.seed, person, Modality.AUDIO) for person in _names(people)},
        on_progress=on_progress,
    )
    return [reconstruction_report(worlds, target="retrain", seed=effort.seed, confidence=_CONFIDENCE)]


def one_run(effort: Effort, on_progress: OnProgress) -> list[Report]:
    """A private tower at a claim that canaries can decide."""
    on_progress(0.0, f"{CANARIES} canaries")
    recipe = PrivateRecipe(
        TowerRecipe("audio"), rate=0.5, noise_multiplier=4.0, steps=4, subjects=CANARIES, learning_rate=1e-4, delta=1e-5
    )
    return [
        audit_private_training(
            at_canary_scale(recipe, CANARIES), canaries=CANARIES, noise=known_noise(effort.seed), seed=effort.seed
        )
    ]


def noisy_start(effort: Effort, on_progress: OnProgress) -> list[Report]:
    """A network after noisy fine-tuning, at a claim that releases can decide: which of two starts did it have?"""
    on_progress(0.0, f"{_FINE_TUNINGS} releases an arm")
    people = _synthetic(effort.seed)
    network = train(small(Recipe()), people, seed=effort.seed).backbone
    options = NoisyFineTuning(epsilon=epsilon_of(1.0, DELTA), delta=DELTA, finishing_steps=0, largest_loss=1e9)
    return [
        audit_noisy_fine_tuning(
            network,
            people,
            options=options,
            noise=known_noise(effort.seed),
            releases=_FINE_TUNINGS,
            seed=effort.seed,
            target="noisy-fine-tuning, one step",
        )
    ]


def membership(effort: Effort, on_progress: OnProgress) -> list[Report]:
    """People who withdrew their voices against people who never gave them, and the retrain-against-retrain null."""
    worlds = look_into_worlds(
        plain_line,
        people := _synthetic(effort.seed),
        _names(people),
        Modality.AUDIO,
        worlds=3 * effort.worlds,
        seed=effort.seed,
        on_progress=on_progress,
    )
    return [membership_report(worlds, target="lattice-newton", seed=effort.seed, confidence=_CONFIDENCE)]


ATTACKS: Mapping[str, Attack] = {
    "distinguishing": distinguishing,
    "exactness": exactness,
    "one-run": one_run,
    "noisy-start": noisy_start,
    "membership": membership,
    "relearning": relearning,
    "reconstruction": reconstruction,
}
"""By name, in the order in which they run."""


def _refused(attack: str, target: str, error: MbdError, effort: Effort) -> Report:
    """On canaries every deletion can be carried out: code that refuses one is as broken as code that gets it wrong."""
    return Report(
        attack=attack,
        target=target,
        question="Is there a bit, among those claimed to be equal, that depends on what was withdrawn?",
        verdict="broken",
        estimates=(Estimate("deletions that were refused", 1.0),),
        claim=0.0,
        trials=1,
        seed=effort.seed,
        seconds=0.0,
        details={"error": str(error)},
    )


def _part(on_progress: OnProgress, begin: float, size: float, about: str) -> Callable[[float], None]:
    return lambda done: on_progress(begin + done * size, about)


def _synthetic(seed: int) -> Cohort:
    """People who can withdraw, with few enough clips of their own that a model that was not cleared would show them."""
    return synthetic_cohort(seed, subjects=Subjects(6, 3, 12, 1), clips=5, missing=0.0)


def _names(cohort: Cohort) -> tuple[str, ...]:
    return cohort.where(partition=Partition.REVOCABLE, split=Split.TRAIN).subjects


def plain_line(cohort: Cohort, *, noise: NoiseSource, purpose: str, seed: int) -> LatticeModel:
    """A line whose network is of public people, who are the same in all worlds: so is the network."""
    return make_line(cohort, small(Recipe()), policy=ReleasePolicy(), noise=noise, purpose=purpose)


def entangled_line(cohort: Cohort, *, noise: NoiseSource, purpose: str, seed: int) -> LatticeModel:
    """A line whose network is everybody's."""
    recipe = replace(small(Recipe()), trains_on="everyone", epochs=8)
    return make_line(cohort, recipe, policy=ReleasePolicy(), noise=noise, purpose=purpose, seed=seed)
