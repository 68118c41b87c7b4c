"""What is measured of a method's model in one world. It knows no method.

Legend: N rows, K outputs, S people.
"""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.peers.setting import FloatArray, Peer, Predictor, Unlearned
from benchmarks.peers.worlds import VOICE, World, by_person
from benchmarks.ridge import complete_rows
from mbd.attacks.reconstruction import reconstruct
from mbd.attacks.relearning import head_loss, network_loss, relearn_head, relearn_network
from mbd.cohort.cohort import Cohort, Split
from mbd.cohort.modality import pattern_name
from mbd.metrics.sentiment import evaluate

RELEARNING_RATE = 0.05
MOST_STEPS = 200


def measure(peer: Peer, done: Unlearned, world: World, *, deeply: bool) -> dict[str, Any]:
    """Utility, scores for membership, outputs for distances, cost; and, if asked, relearning and reconstruction."""
    found: dict[str, Any] = {
        "seconds": done.seconds,
        "epsilon": done.epsilon,
        "details": dict(done.details),
        "utility": utility(done.predict, world.whole),
        "scores": [round(score, 6) for score in scores(done.predict, world)],
        "outputs": outputs(done.predict, world.whole),
    }
    if deeply:
        found["relearning"] = relearning(done, world)
        found["reconstruction"] = reconstruction(done, world)
    return found


def utility(predict: Predictor, whole: Cohort) -> dict[str, dict[str, float]]:
    """The task's metrics on test rows that have all channels of a pattern, cut down to it."""
    found = {}
    for pattern in whole.patterns:
        rows = complete_rows(whole, pattern)
        metrics = evaluate(rows.targets, predict(rows), whole.task)
        found[pattern_name(pattern)] = {name: round(value, 5) for name, value in metrics.items()}
    return found


def outputs(predict: Predictor, whole: Cohort) -> FloatArray:
    """What the model says about the test rows, pattern by pattern [N, K]: distances are between these."""
    return np.concatenate([predict(complete_rows(whole, pattern)) for pattern in whole.patterns])


def scores(predict: Predictor, world: World) -> list[float]:
    """Of each target how well the model does on rows of the withdrawn voice, by voice alone and by all channels [S].

    For classes the margin of the true one, for scores minus the squared error.
    """
    rows = world.whole.where(split=Split.TRAIN).of_subjects(world.targets)
    at = by_person(rows, world.targets)
    voice = [i for i in range(len(rows)) if VOICE in rows.present(i)]
    alone = rows.select(voice).restrict([VOICE])
    good_N = np.full(len(rows), np.nan)
    good_N[voice] = (_goodness(predict(alone), alone) + _goodness(predict(rows.select(voice)), alone)) / 2
    return [float(good_N[at[person]].mean()) for person in world.targets]


def _goodness(outputs_NK: FloatArray, rows: Cohort) -> FloatArray:
    if rows.task.kind == "regression":
        return -np.square(outputs_NK - rows.targets)[:, 0]
    true_N = rows.targets.argmax(axis=1)
    others_NK = outputs_NK.copy()
    others_NK[np.arange(len(rows)), true_N] = -np.inf
    return np.asarray(outputs_NK[np.arange(len(rows)), true_N] - others_NK.max(axis=1))


def relearning(done: Unlearned, world: World) -> float | None:
    """Steps on the withdrawn rows until the loss is what it was before the deletion; None where nothing can learn."""
    revoked = world.setting.revoked_rows
    if done.network is not None:
        target = network_loss(world.setting.network, revoked)
        return relearn_network(done.network, revoked, target=target, rate=RELEARNING_RATE, most=MOST_STEPS)
    if done.heads is None:
        return None
    model, pattern = world.setting.model, frozenset({VOICE})
    phi_ND, target_NK = model.featurizer.head_inputs(revoked, range(len(revoked)), pattern), revoked.targets
    before = head_loss(model.heads[pattern].weights_DK, phi_ND, target_NK)
    start_DK = done.heads.get(pattern, np.zeros_like(model.heads[pattern].weights_DK))
    return relearn_head(start_DK, phi_ND, target_NK, target=before, most=MOST_STEPS)


def reconstruction(done: Unlearned, world: World) -> Mapping[str, float] | None:
    """What the generators give away of the withdrawn voices: the network's, or the public one's under convex heads."""
    network = done.network
    if network is None and done.heads is not None:
        network = copy.deepcopy(world.setting.model.featurizer.backbone).float()
    if network is None:
        return None
    found = reconstruct(network, world.setting.cohort, world.members, VOICE)
    return {"error": found.error, "identified": found.identified, "rank": found.rank}
