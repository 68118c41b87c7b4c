"""``mbd deletion``: look at a deletion before it is done."""

from dataclasses import asdict
from typing import Any

import typer

from mbd.cli.options import CertifyAbsence, Everyone, Home, Json, Modalities, Regime, Subjects, check_scope
from mbd.cli.output import Output, command, settings_for

app = typer.Typer(help="Look at a deletion before it is done.", no_args_is_help=True)


@app.command()
def plan(
    subject: Subjects = None,
    modality: Modalities = None,
    everyone: Everyone = False,
    regime: Regime = "gdpr",
    certify_absence: CertifyAbsence = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show what `mbd revoke` would do with the same options, and change nothing.

    For each model line: every part of the model, the mechanism that its provenance permits, the class of guarantee
    that it would have, what the deletion would cost, and what else could be done. With --certify-absence also the lines
    that hold none of it.
    """
    check_scope(subject or [], modality or [], everyone=everyone)
    with command(as_json) as out:
        from mbd.cohort.cohort import EVERYONE
        from mbd.workflow import filing
        from mbd.workflow.planning import lines_without, plan_revocation
        from mbd.workflow.system import open_system

        with open_system(settings_for(home, certify_absence=certify_absence), create=False) as system:
            people = [EVERYONE] if everyone else subject or []
            pairs = {(p, m) for p in people for m in modality or filing.channels_of(system, p)}
            plans = plan_revocation(system, frozenset(pairs), regime=regime)
            without = lines_without(system, frozenset(pairs))
        out.result = {
            "lines": [_as_json(found) for found in plans],
            "absent": [{"line": live.line, "version": live.version} for live in without],
        }
        for found in plans:
            _show(out, found)
        for live in without:
            out.say(
                f"nothing to delete; a certificate would say that version {live.version} holds none of it.",
                lead=f"Model line '{live.line}':",
            )
        out.say("Nothing was changed.")


def _show(out: Output, found: Any) -> None:
    plan, budget = found.plan, found.plan.budget
    out.table(
        f"Model line '{found.line}', version {found.version} -> {found.version + 1}",
        ["part", "provenance", "what happens", "mechanism", "guarantee"],
        [(s.part, s.provenance, s.action, s.mechanism or "-", s.guarantee) for s in plan.steps],
    )
    solved = sum(step.coordinates for step in plan.steps)
    out.say(f"{plan.mechanism}: {plan.guarantee.name}.", lead="Together")
    out.item(f"cost: {plan.rows_read} rows read, {solved} coordinates solved again")
    if budget.this:
        out.item(
            f"budget: epsilon {budget.this:.3g} at delta {budget.delta:g}; with all earlier deletions "
            f"{budget.after:.3g} of {budget.allowed:g}"
        )
    else:
        out.item(
            f"budget: none used; so far epsilon {budget.spent:.3g} of {budget.allowed:g} at delta {budget.delta:g}"
        )
    for other in plan.alternatives:
        out.item(f"instead of it: {other.mechanism} ({other.guarantee}, {other.rows_read} rows read). {other.reason}")


def _as_json(found: Any) -> dict[str, Any]:
    plan = found.plan
    return {
        "line": found.line,
        "version": found.version,
        "mechanism": plan.mechanism,
        "guarantee": plan.guarantee.name,
        "rows_touched": plan.rows_touched,
        "rows_read": plan.rows_read,
        "steps": [asdict(step) for step in plan.steps],
        "budget": asdict(plan.budget),
        "alternatives": [asdict(other) for other in plan.alternatives],
    }
