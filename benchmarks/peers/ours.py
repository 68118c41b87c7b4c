"""Our line: statistics downdated, changed heads released again; and its comparator, the heads trained on D' at once."""

from dataclasses import replace

import numpy as np

from benchmarks.peers.setting import DELTA, FloatArray, Peer, Setting, Stopwatch, Unlearned
from mbd.cohort.cohort import EVERYONE, Cohort
from mbd.deletion import engine
from mbd.deletion.lattice import drop_for_everyone
from mbd.deletion.outcome import Revocation
from mbd.lattice.model import LatticeModel
from mbd.lattice.release import release_heads
from mbd.privacy.guarantee import Certified, Exact, epsilon_at


def unlearn(setting: Setting) -> Unlearned:
    """The engine's own choice, at the constants that we ship."""
    return _delete(setting, setting.model)


def unlearn_exactly(setting: Setting) -> Unlearned:
    """The same line under a policy that lets a deletion read every row again."""
    policy = replace(setting.model.policy, exact_rows=len(setting.before_rows))
    return _delete(setting, replace(setting.model, policy=policy))


def _delete(setting: Setting, model: LatticeModel) -> Unlearned:
    watch = Stopwatch()
    with watch.running():
        outcome = engine.delete(
            model,
            setting.cohort,
            Revocation(setting.pairs, "benchmark"),
            noise=setting.noise,
            occasion=f"benchmark/{setting.seed}",
            spent=[],
            salt=bytes(32),
        )
    assert isinstance(outcome.guarantee, Certified | Exact), "a lattice line always proves something"
    epsilon = epsilon_at(DELTA, [outcome.guarantee.mu]) if isinstance(outcome.guarantee, Certified) else 0.0
    return _unlearned(outcome.model, watch.seconds, epsilon, {"mechanism": outcome.mechanism})


def refit(setting: Setting) -> Unlearned:
    """Statistics from the rows of D', heads solved from nothing, noise of its own."""
    watch = Stopwatch()
    with watch.running():
        gone = frozenset(m for who, m in setting.pairs if who == EVERYONE)
        model = drop_for_everyone(setting.model, gone)
        statistics = model.featurizer.statistics(setting.after_rows.restrict(model.layout.modalities))
        released = release_heads(
            model.layout,
            statistics,
            model.layout.patterns,
            policy=model.policy,
            noise=setting.noise,
            purpose="benchmark, from the start",
            commitment=statistics.commitment(bytes(32)),
        )
    return _unlearned(replace(model, statistics=statistics, heads=released.heads), watch.seconds, 0.0, {})


def _unlearned(model: LatticeModel, seconds: float, epsilon: float, details: dict[str, str]) -> Unlearned:
    def predict(rows: Cohort) -> FloatArray:
        return np.nan_to_num(model.predict(rows).outputs_NK)  # a row that no head can answer any more says nothing

    heads = {pattern: head.weights_DK for pattern, head in model.heads.items()}
    return Unlearned(predict, seconds, epsilon, heads=heads, details=details)


OURS = Peer(
    name="ours",
    family="heads",
    source="docs/guarantees.md, Claims 1 to 5",
    deviations=(),
    unlearn=unlearn,
)

OURS_EXACT = Peer(
    name="ours, exact refit",
    family="heads",
    source="docs/guarantees.md, Claim 4",
    deviations=(),
    unlearn=unlearn_exactly,
)

RETRAIN_HEADS = Peer(
    name="retrain, heads",
    family="heads",
    source="docs/guarantees.md: the comparator",
    deviations=(),
    unlearn=refit,
    reference=True,
)
