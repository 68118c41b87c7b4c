"""Break a claim of equality: whoever finds a single bit that depends on what was withdrawn has broken it.

Three worlds share everything but the withdrawn channels: as they were, with other content, and without them from the
start. Each trains its line, the first two delete, and all that is claimed to be exact must then have the same bits in
all three. It draws no conclusion about noised heads; see `mbd.attacks.distinguishing`.
"""

import time
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mbd.attacks.canary import SALT, Canary, known_noise, make_line
from mbd.attacks.report import Estimate, Report
from mbd.backbones.weights import weights_digest
from mbd.cohort.cohort import Cohort
from mbd.cohort.modality import ModalitySet, pattern_name
from mbd.deletion import engine
from mbd.deletion.comparator import compare, refit
from mbd.deletion.lattice import drop_for_everyone
from mbd.deletion.outcome import Outcome, Revocation
from mbd.deletion.towers import drop_towers
from mbd.errors import AttackError
from mbd.hashing import arrays_digest, json_digest
from mbd.lattice.featurizer import Scaling
from mbd.lattice.fit import training_rows
from mbd.lattice.model import LatticeModel
from mbd.lattice.release import ReleasePolicy, remove_noise, solve_head
from mbd.privacy.guarantee import Certified, Exact
from mbd.privacy.noise import NoiseSource
from mbd.training.recipe import Recipe

FloatArray = NDArray[np.float64]

_OCCASION = "audit/2"
_DIGEST = "audit"


def audit_exactness(canary: Canary, recipe: Recipe, *, policy: ReleasePolicy, seed: int, target: str) -> Report:
    """Train and delete in three worlds, and compare what must not differ.

    Args:
        canary: D and what is withdrawn.
        recipe: of the line.
        policy: of its releases.
        seed: of the networks and of the other content.
        target: what is attacked, for people.

    Raises:
        AttackError: the mechanism that the engine takes claims no equality.
    """
    started = time.process_time()
    noise = known_noise(seed)
    worlds = {"as it was": canary.cohort, "other content": canary.swapped(seed).cohort}
    outcomes = {
        name: _delete(canary, cohort, recipe, policy=policy, noise=noise, seed=seed) for name, cohort in worlds.items()
    }
    mechanisms = {outcome.mechanism for outcome in outcomes.values()}
    guarantee = outcomes["as it was"].guarantee
    if not isinstance(guarantee, Exact | Certified):
        raise AttackError(
            f"The mechanism {mechanisms} claims no equality.", remedy="measure it with the other attacks instead"
        )
    exact = isinstance(guarantee, Exact)
    outcome = outcomes["as it was"]
    heads = outcome.model.layout.patterns if exact else outcome.unchanged
    found = {name: _claimed(each.model, heads, noise) for name, each in outcomes.items()}
    reference = _from_the_start(canary, recipe, heads, outcome.model, policy=policy, noise=noise, seed=seed)
    differing = sorted(
        {
            f"{part} ({name})"
            for name, parts in found.items()
            for part in parts.keys() | reference.keys()
            if parts.get(part) != reference.get(part)
        }
    )
    if len(mechanisms) > 1:
        differing.append(f"the choice of a mechanism: {', '.join(sorted(mechanisms))}")
    return Report(
        attack="exactness",
        target=target,
        question="Is there a bit, among those claimed to be equal, that depends on what was withdrawn?",
        verdict="broken" if differing else "held",
        estimates=(Estimate("parts that differ", float(len(differing))),),
        claim=0.0,
        trials=len(reference),
        seed=seed,
        seconds=time.process_time() - started,
        details={
            "mechanism": outcome.mechanism,
            "guarantee": guarantee.name,
            "compared": sorted(reference),
            "differing": differing,
        },
    )


def _delete(
    canary: Canary, cohort: Cohort, recipe: Recipe, *, policy: ReleasePolicy, noise: NoiseSource, seed: int
) -> Outcome:
    model = make_line(cohort, recipe, policy=policy, noise=noise, purpose="audit/1", seed=seed)
    return engine.delete(
        model, cohort, Revocation(canary.pairs, _DIGEST), noise=noise, occasion=_OCCASION, spent=[], salt=SALT
    )


def _claimed(model: LatticeModel, heads: Sequence[ModalitySet], noise: NoiseSource) -> dict[str, str]:
    """The digest of every part that is claimed to be a function of D': of heads, what lies under their noise."""
    solutions = {pattern_name(p): remove_noise(model.heads[p], noise) for p in heads}
    return _digests(model, solutions)


def _from_the_start(
    canary: Canary,
    recipe: Recipe,
    heads: Sequence[ModalitySet],
    like: LatticeModel,
    *,
    policy: ReleasePolicy,
    noise: NoiseSource,
    seed: int,
) -> dict[str, str]:
    """The same digests of a line that was trained on D', without the parts that the deletion dropped."""
    model = make_line(canary.after, recipe, policy=policy, noise=noise, purpose="audit/1", seed=seed)
    left = frozenset(like.layout.modalities)
    model = drop_for_everyone(model, frozenset(model.layout.modalities) - left)
    model = drop_towers(model, sorted(set(model.origins) - set(like.origins)))
    rows = None
    if model.policy.loss == "cross-entropy":
        rows = model.featurizer.head_rows(training_rows(canary.after).restrict(left), salt=SALT)
    solutions = {
        pattern_name(p): solve_head(model.layout, model.statistics, p, policy=model.policy, rows=rows).weights_DK
        for p in heads
    }
    return _digests(model, solutions)


def _digests(model: LatticeModel, solutions: Mapping[str, FloatArray]) -> dict[str, str]:
    featurizer = model.featurizer
    found = {"backbone": weights_digest(featurizer.backbone), "layout": json_digest(model.layout.as_json())}
    for name, tower in featurizer.towers.items():
        found[f"tower {name}"] = weights_digest(tower)
    for group, scaling in featurizer.scalings.items():
        found[f"constants {group}"] = arrays_digest({"centre": scaling.centre, "factor": scaling.factor})
    found["statistics"] = arrays_digest(dict(model.statistics.arrays()))
    for name, solution_DK in solutions.items():
        found[f"head {name}"] = arrays_digest({"solution": solution_DK})
    return found


def audit_outcome(
    before: LatticeModel, cohort: Cohort, revocation: Revocation, outcome: Outcome, *, line: str
) -> Report:
    """A real deletion, held against its comparator: every equality that it claims, and the distance of noised heads.

    It knows both worlds of this deletion and not the noise: released heads may lie no further from the comparator's
    solution than sensitivity and honest noise allow (`mbd.deletion.comparator`).

    Args:
        before: the version before.
        cohort: D.
        revocation: what is withdrawn.
        outcome: what the engine made of it.
        line: the model line's name.

    Raises:
        AttackError: a backbone that everybody shaped was treated: training it again is the only comparison.
    """
    if outcome.report is not None:
        raise AttackError(
            f"The mechanism {outcome.mechanism} made a new network: its comparator is another training.",
            remedy="attack it on canaries: `mbd attack canaries`",
        )
    started = time.process_time()
    like = drop_towers(before, outcome.towers)
    reference, after = refit(like, cohort, revocation), outcome.model
    differing = []
    if after.statistics != reference.statistics:
        differing.append("statistics")
    if weights_digest(after.featurizer.backbone) != weights_digest(before.featurizer.backbone):
        differing.append("backbone")
    kept = before.featurizer.scalings
    differing += [f"constants {g}" for g, s in after.featurizer.scalings.items() if not _same(s, kept[g])]
    differing += [
        f"head {pattern_name(p)}"
        for p in outcome.unchanged
        if not np.array_equal(before.heads[p].weights_DK, after.heads[p].weights_DK)
    ]
    distances = compare(after, reference)
    differing += [f"head {pattern_name(p)}" for p, d in distances.items() if d.distance > d.bound]
    return Report(
        attack="exactness",
        target=f"{line}: this deletion",
        question="Is there a bit, among those claimed to be equal, that depends on what was withdrawn?",
        verdict="broken" if differing else "held",
        estimates=(Estimate("parts that differ", float(len(differing))),),
        claim=0.0,
        trials=2 + len(kept) + len(distances),
        seed=0,
        seconds=time.process_time() - started,
        details={"mechanism": outcome.mechanism, "differing": differing},
    )


def _same(one: Scaling, two: Scaling) -> bool:
    return np.array_equal(one.centre, two.centre) and np.array_equal(one.factor, two.factor)
