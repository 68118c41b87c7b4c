"""What a revocation would do to every live model line, before anything is filed. It changes nothing."""

from dataclasses import dataclass

from mbd.cohort.cohort import Pair
from mbd.deletion import engine
from mbd.deletion.engine import Plan
from mbd.deletion.outcome import Revocation
from mbd.records.database import begin_snapshot
from mbd.records.models import ModelVersion
from mbd.workflow.filing import complaint, is_absent, live_cohorts, require_possible
from mbd.workflow.live import load_live_model, spent_on
from mbd.workflow.system import System


@dataclass(frozen=True)
class LinePlan:
    """The plan of one model line.

    Attributes:
        version: the live one, from which the deletion would start.
        pairs: the channels that this line's cohort holds.
    """

    line: str
    version: int
    pairs: frozenset[Pair]
    plan: Plan


def plan_revocation(system: System, pairs: frozenset[Pair], *, regime: str = "gdpr") -> list[LinePlan]:
    """What `mbd.workflow.revocation.revoke` would do with the same pairs; lines without the channels are left out.

    Raises:
        DeletionError: what `revoke` would refuse is refused here too, with the same words.
    """
    require_possible(system, [pairs], regime)
    plans = []
    for live, cohort in live_cohorts(system):
        mine = frozenset(pair for pair in pairs if complaint(cohort, pair) is None)
        if not mine:
            continue
        with begin_snapshot(system.engine) as connection:
            spent = spent_on(connection, live.line)
        model, withdrawal = load_live_model(system, live), Revocation(mine, "plan")
        plan = engine.plan(model, cohort, withdrawal, spent=spent, entangled=system.settings.entangled)
        plans.append(LinePlan(live.line, live.version, mine, plan))
    return plans


def lines_without(system: System, pairs: frozenset[Pair]) -> list[ModelVersion]:
    """The live versions whose absence of all these pairs would be certified: none, unless the policy asks for it."""
    if not system.settings.certify_absence:
        return []
    return [live for live, cohort in live_cohorts(system) if is_absent(cohort, pairs)]
