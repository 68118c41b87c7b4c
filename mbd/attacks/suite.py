"""All attacks on canaries: small lines of synthetic people, built so that each attack meets its worst case.

`mbd attack canaries` runs it; so does the test of the attacks themselves, on code with planted bugs. It knows no
deployment: the leak sweep, which needs one, is added by the workflow.
"""

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mbd.attacks.canary import Canary, canary, known_noise, make_line, small
from mbd.attacks.distinguishing import HISTORIES, History, audit_release, deletion_arms, loud
from mbd.attacks.exactness import audit_exactness
from mbd.attacks.membership import challenge_forgetting, compare_membership, likelihood_ratio_membership
from mbd.attacks.one_run import audit_private_training
from mbd.attacks.reconstruction import Reconstruction, compare_reconstructions, reconstruct
from mbd.attacks.relearning import compare_relearning, head_loss, relearn_head
from mbd.attacks.report import Estimate, Report
from mbd.cohort.cohort import Cohort, Partition, Split
from mbd.cohort.modality import Modality, pattern_name
from mbd.cohort.synthetic import Subjects, planted_trait, synthetic_cohort
from mbd.deletion import engine
from mbd.deletion.outcome import Revocation
from mbd.errors import MbdError
from mbd.lattice.model import LatticeModel
from mbd.lattice.release import ReleasePolicy, release_heads
from mbd.privacy.gaussian import epsilon_of
from mbd.privacy.guarantee import Certified
from mbd.training.loop import train
from mbd.training.recipe import Recipe
from mbd.training.tower_recipe import PrivateRecipe, ShardedRecipe, TowerRecipe

FloatArray = NDArray[np.float64]

OnProgress = Callable[[float, str], None]
"""Told the finished fraction, and what comes next in a few words."""


@dataclass(frozen=True)
class Effort:
    """How hard to try.

    Attributes:
        releases: of each arm of a distinguishing audit.
        worlds: of attacks that compare models of several worlds.
        seed: of everything random.
    """

    releases: int = 20_000
    worlds: int = 8
    seed: int = 0


Attack = Callable[[Effort, OnProgress], list[Report]]

_VOICE = frozenset({Modality.AUDIO})
_CANARIES = 1024
_DELTA = 1e-5


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
    """The head of the withdrawn voice, against heads that never knew it."""
    started = time.process_time()
    unlearned: list[float] = []
    never: list[float] = []
    for world in range(effort.worlds):
        on_progress(world / effort.worlds, f"world {world + 1}")
        noise = known_noise(effort.seed, world)
        people = canary(effort.seed + world)
        model = make_line(people.cohort, small(Recipe()), policy=ReleasePolicy(), noise=noise, purpose="before")
        outcome = engine.delete(
            model,
            people.cohort,
            Revocation(people.pairs, "audit"),
            noise=noise,
            occasion="audit/2",
            spent=[],
            salt=model.salt,
        )
        fresh = release_heads(
            outcome.model.layout,
            outcome.model.statistics,
            [_VOICE],
            policy=model.policy,
            noise=noise,
            purpose="never exposed",
            commitment=outcome.model.commitment,
        )
        phi_ND, target_NK = _withdrawn(model, people.cohort, people)
        target = head_loss(model.heads[_VOICE].weights_DK, phi_ND, target_NK)
        for heads, steps in ((outcome.model.heads, unlearned), (fresh.heads, never)):
            steps.append(relearn_head(heads[_VOICE].weights_DK, phi_ND, target_NK, target=target))
    report = compare_relearning(unlearned, never, target="head a", seed=effort.seed)
    return [replace(report, seconds=time.process_time() - started)]


def reconstruction(effort: Effort, on_progress: OnProgress) -> list[Report]:
    """Generators of a network that everybody shaped and that was trained again, against ones that never saw the voices.

    The people who withdraw carry a planted trait in their voice and another in their words and face: a network that saw
    both can go from one to the other.
    """
    started = time.process_time()
    recipe = replace(small(Recipe()), trains_on="everyone", epochs=8)
    unlearned: list[Reconstruction] = []
    never: list[Reconstruction] = []
    for world in range(effort.worlds):
        on_progress(world / effort.worlds, f"world {world + 1}")
        seed = effort.seed + world
        cohort = synthetic_cohort(seed, subjects=Subjects(6, 3, 8, 1), clips=8, missing=0.0, trait_strength=3.0)
        people = [r.subject for r in cohort.rows if (r.partition, r.split) == (Partition.REVOCABLE, Split.TRAIN)]
        leaving = list(dict.fromkeys(people))[:6]
        pairs = frozenset((person, Modality.AUDIO) for person in leaving)
        traits = {person: planted_trait(seed, person, Modality.AUDIO) for person in leaving}
        model = make_line(
            cohort, recipe, policy=ReleasePolicy(), noise=known_noise(effort.seed, world), purpose="before"
        )
        outcome = engine.delete(
            model,
            cohort,
            Revocation(pairs, "audit"),
            noise=known_noise(effort.seed, world),
            occasion="audit/2",
            spent=[],
            salt=model.salt,
        )
        after = copy.deepcopy(outcome.model.featurizer.backbone).float()
        fresh = train(recipe, cohort.without(pairs), seed=seed + 1000, partitions=recipe.partitions).backbone
        for network, found in ((after, unlearned), (fresh, never)):
            found.append(reconstruct(network, cohort, leaving, Modality.AUDIO, traits=traits))
    report = compare_reconstructions(unlearned, never, target="retrain", seed=effort.seed)
    return [replace(report, seconds=time.process_time() - started)]


def one_run(effort: Effort, on_progress: OnProgress) -> list[Report]:
    """A private tower at a claim that canaries can decide."""
    on_progress(0.0, f"{_CANARIES} canaries")
    recipe = PrivateRecipe(
        TowerRecipe("audio", width=4, epochs=0),
        rate=0.5,
        noise_multiplier=4.0,
        steps=4,
        subjects=_CANARIES,
        learning_rate=1e-4,
        momentum=0.0,
        delta=1e-5,
    )
    return [audit_private_training(recipe, canaries=_CANARIES, noise=known_noise(effort.seed), seed=effort.seed)]


def membership(effort: Effort, on_progress: OnProgress) -> list[Report]:
    """People who withdrew their voices against people who never gave them, and the retrain-against-retrain null."""
    started = time.process_time()
    people = synthetic_cohort(effort.seed, subjects=Subjects(6, 3, 12, 1), clips=5, missing=0.0)
    rows = people.where(partition=Partition.REVOCABLE, split=Split.TRAIN)
    names, worlds = rows.subjects, 3 * effort.worlds
    rng = np.random.default_rng([effort.seed, 3])
    half = [rng.permutation(len(names)) < len(names) // 2 for _ in range(worlds)]
    unlearned, never, claims = [], [], []
    for world, exposed_S in enumerate(half):
        on_progress(world / worlds, f"world {world + 1}")
        noise = known_noise(effort.seed, world)
        absent = [(name, Modality.AUDIO) for name, is_in in zip(names, exposed_S, strict=True) if not is_in]
        leaving = frozenset((name, Modality.AUDIO) for name, is_in in zip(names, exposed_S, strict=True) if is_in)
        cohort = people.without(absent)
        model = make_line(cohort, small(Recipe()), policy=ReleasePolicy(), noise=noise, purpose="before")
        after = engine.delete(
            model, cohort, Revocation(leaving, "audit"), noise=noise, occasion="audit/2", spent=[], salt=model.salt
        )
        fresh = make_line(
            cohort.without(leaving), small(Recipe()), policy=ReleasePolicy(), noise=noise, purpose="never exposed"
        )
        unlearned.append(_voice_scores(after.model, rows))
        never.append(_voice_scores(fresh, rows))
        assert isinstance(after.guarantee, Certified), "the constants that we ship leave room for one deletion"
        claims.append(epsilon_of(after.guarantee.mu, _DELTA))
    exposed_WS = np.stack(half)
    attacked, null = (
        likelihood_ratio_membership(np.stack(scores), exposed_WS, delta=_DELTA, seed=effort.seed)
        for scores in (unlearned, never)
    )
    report = compare_membership(attacked, null, claim=max(claims), target="lattice-newton", seed=effort.seed)
    forgetting = challenge_forgetting(np.stack(unlearned, axis=1), np.stack(never, axis=1))
    more = Estimate("forgetting score of the NeurIPS 2023 challenge", forgetting)
    seconds = time.process_time() - started
    return [replace(report, estimates=(*report.estimates, more), seconds=seconds)]


ATTACKS: Mapping[str, Attack] = {
    "distinguishing": distinguishing,
    "exactness": exactness,
    "one-run": one_run,
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


def _voice_scores(model: LatticeModel, rows: Cohort) -> FloatArray:
    """How well a model does on each person's rows with a voice [S]: minus the squared error, by voice and by all."""
    both = [np.square(model.predict(some).outputs_NK - rows.targets)[:, 0] for some in (rows, rows.restrict(_VOICE))]
    error_N = (both[0] + both[1]) / 2
    return np.array([-error_N[list(rows.rows_of[person])].mean() for person in rows.subjects])


def _withdrawn(model: LatticeModel, cohort: Cohort, people: Canary) -> tuple[FloatArray, FloatArray]:
    """Features [N, D] that the voice's head reads, and labels [N, K], of the rows whose voice is withdrawn."""
    rows = cohort.of_subjects(subject for subject, _ in people.pairs)
    return model.featurizer.head_inputs(rows, range(len(rows)), _VOICE), rows.targets
