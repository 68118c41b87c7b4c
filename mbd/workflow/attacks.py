"""Attacks on a deployment: on what a withdrawal would release, on what a deletion did release, on what is left on disk.

An attack that breaks a claim stops the certificate that would make it. Source: docs/attacks.md.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import get_args

from mbd.attacks.canary import known_noise
from mbd.attacks.distinguishing import HISTORIES, audit_release, deletion_arms, loud
from mbd.attacks.exactness import audit_outcome
from mbd.attacks.own_people import attack_people, attack_private_towers, worlds_train
from mbd.attacks.report import Effort, OnProgress, Report, broken
from mbd.cohort.cohort import Cohort, Pair
from mbd.cohort.modality import pattern_name
from mbd.deletion import engine
from mbd.deletion.engine import Plan
from mbd.deletion.outcome import EntangledMechanism, Outcome, Revocation
from mbd.durable import write_durably
from mbd.errors import AttackError
from mbd.hashing import canonical_json
from mbd.lattice.model import LatticeModel
from mbd.lattice.release import ReleasePolicy
from mbd.records.database import begin_snapshot
from mbd.workflow.filing import complaint, live_cohorts, require_possible
from mbd.workflow.leaks import hits_now, needles_before, sweep_deployment
from mbd.workflow.live import load_live_model, spent_on
from mbd.workflow.system import System

WITHDRAWAL_ATTACKS = ("distinguishing", "membership", "relearning", "reconstruction", "one-run")
"""What can be tried on a live line, in the order in which it runs."""

_RELEASES = 4000
"""Of each arm, where a deletion waits for the verdict: at a mu of 1 a head these show noise that is half as large."""


def attack_withdrawal(
    system: System,
    pairs: frozenset[Pair],
    *,
    effort: Effort,
    only: Collection[str] = WITHDRAWAL_ATTACKS,
    on_progress: OnProgress,
) -> list[Report]:
    """Attack what `mbd revoke` would make of this, line by line, at the line's own constants and on its own people.

    - distinguishing: the heads that would be released again.
    - membership, relearning, reconstruction: the line is made anew in worlds in which the people who ask, and others of
      the same channel, are exposed or not. A network that revocable rows shape is trained thrice in each world.
    - one-run: the line's private towers, with canaries in place of its people.

    Args:
        system: the deployment; nothing in it changes.
        pairs: as for `mbd.workflow.revocation.revoke`.
        effort: releases, worlds and seed.
        only: of `WITHDRAWAL_ATTACKS`.
        on_progress: told how far it is.

    Raises:
        AttackError: there is nothing in any live line that these attacks could try.
        DeletionError: what `revoke` would refuse is refused here too.
    """
    require_possible(system, [pairs], "gdpr")
    reports: list[Report] = []
    for live, cohort in live_cohorts(system):
        mine = frozenset(pair for pair in pairs if complaint(cohort, pair) is None)
        if not mine:
            continue
        model = load_live_model(system, live)
        revocation = Revocation(mine, "attack")
        with begin_snapshot(system.engine) as connection:
            spent = spent_on(connection, live.line)
        plan = engine.plan(model, cohort, revocation, spent=spent, entangled=system.settings.entangled)
        if "distinguishing" in only and _releases_heads(plan):
            reports += _audits(
                model,
                cohort,
                revocation,
                model.policy,
                line=live.line,
                releases=effort.releases,
                seed=effort.seed,
                tell=on_progress,
            )
        reports += attack_people(
            model,
            cohort,
            mine,
            line=live.line,
            effort=effort,
            only=only,
            entangled=system.settings.entangled,
            spent=spent,
            tell=on_progress,
        )
        if "one-run" in only:
            reports += attack_private_towers(model, mine, line=live.line, seed=effort.seed, tell=on_progress)
    if not reports:
        raise AttackError(
            "No live line gives these attacks anything to try: there is nothing to attack.",
            remedy="attack people's withdrawal of a channel that a live line reads; on canaries: `mbd attack canaries`",
        )
    return reports


def attack_deletion(
    before: LatticeModel,
    cohort: Cohort,
    revocation: Revocation,
    outcome: Outcome,
    *,
    line: str,
    spent: Sequence[float] = (),
) -> tuple[Report, ...]:
    """Attack a deletion that was carried out in memory and is not certified yet.

    Noised heads are attacked at a mu of 1 each, through the same code, because some thousand releases decide nothing
    at the far smaller mu of a line. Membership and relearning are tried in worlds of the line, where that needs no
    training. A deletion that made a new network gives no report here: see `mbd attack withdrawal` and `canaries`.

    Raises:
        AttackError: a claim was broken; nothing may be certified.
    """
    if outcome.report is not None:
        return ()
    reports = [audit_outcome(before, cohort, revocation, outcome, line=line)]
    if outcome.updated:
        reports += _audits(
            before, cohort, revocation, loud(before.policy), line=line, releases=_RELEASES, seed=0, tell=_silent
        )
        if not worlds_train(before):
            reports += attack_people(
                before,
                cohort,
                revocation.pairs,
                line=line,
                effort=Effort(),
                only=WITHDRAWAL_ATTACKS,
                spent=spent,
                tell=_silent,
            )
    if lost := broken(reports):
        found = "; ".join(f"{report.attack} of {report.target}" for report in lost)
        raise AttackError(
            f"An attack broke a claim of this deletion, so it is not certified: {found}.",
            remedy="it stays suppressed; find the fault with `mbd attack canaries`, then `mbd revoke --resume`",
        )
    return tuple(reports)


def watch_for_leaks(system: System, pairs: frozenset[Pair]) -> Callable[[], Report | None]:
    """Remember what is about to be withdrawn, in memory alone; the answer searches the deployment for it afterwards.

    None where no live line holds any of it.
    """
    needles = needles_before(system, pairs)
    before = hits_now(system, needles) if needles else []
    if not before:
        return lambda: None
    return lambda: sweep_deployment(system, needles, before=before)


def keep_reports(folder: Path, reports: Sequence[Report]) -> None:
    """Write what attacks found beside a version, for the operator: it tells of solutions that no noise hides."""
    if reports:
        write_durably(folder / "attacks.json", canonical_json([report.to_json() for report in reports]))


def _audits(
    model: LatticeModel,
    cohort: Cohort,
    revocation: Revocation,
    policy: ReleasePolicy,
    *,
    line: str,
    releases: int,
    seed: int,
    tell: OnProgress,
) -> Iterator[Report]:
    histories = HISTORIES[:1] if policy.loss == "cross-entropy" else HISTORIES
    noise = known_noise(seed)
    for done, history in enumerate(histories):
        arms = deletion_arms(model, cohort, revocation, history=history, policy=policy, seed=seed)
        heads = tuple(arms.unlearned.solved)
        target = f"{line}: {'+'.join(map(pattern_name, heads))}, {history}"
        tell(done / len(histories), target)
        yield audit_release(arms, heads, noise=noise, releases=releases, target=target, seed=seed)


def _releases_heads(plan: Plan) -> bool:
    """Whether the deletion would release a head again and keep the network: what the distinguishing audit knows."""
    return plan.mechanism not in get_args(EntangledMechanism) and any(s.action == "released again" for s in plan.steps)


def _silent(done: float, about: str) -> None:
    """Whoever waits is told of whole steps only."""
