"""``mbd attack``: try to break our own claims."""

from collections.abc import Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mbd.cli.options import Everyone, Home, Json, Modalities, Subjects, UsageError, check_scope
from mbd.cli.output import Output, command, settings_for

if TYPE_CHECKING:
    from mbd.attacks.report import Report

app = typer.Typer(help="Try to break our own claims.", no_args_is_help=True)

Releases = Annotated[int, typer.Option(min=1000, help="Releases of each arm of a distinguishing audit.")]
Worlds = Annotated[int, typer.Option(min=4, help="Worlds of attacks that compare models of several worlds.")]
Seed = Annotated[int, typer.Option(min=0, help="Everything random follows from it.")]
Only = Annotated[list[str] | None, typer.Option("--only", metavar="ATTACK", help="This attack alone; may be repeated.")]


@app.command()
def canaries(
    only: Only = None,
    releases: Releases = 20_000,
    worlds: Worlds = 8,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Attack small lines of synthetic people that are built so that every attack meets its worst case.

    Ends with 1 if a claim was broken: the program is then not to be trusted. The attacks: distinguishing, exactness,
    one-run, noisy-start, membership, relearning, reconstruction, leaks.
    """
    from mbd.workflow.canaries import CANARY_ATTACKS

    check_attacks(only or [], CANARY_ATTACKS)
    with command(as_json) as out:
        from mbd.attacks.report import Effort

        effort = Effort(releases=releases, worlds=worlds, seed=seed)
        reports: list[Report] = []
        with out.stages() as stages:
            for name, attack in CANARY_ATTACKS.items():
                if not only or name in only:
                    reports += attack(effort, partial(stages.update, name))
        whole = show_reports(out, reports)
    if not whole:
        raise typer.Exit(1)


@app.command()
def withdrawal(
    subject: Subjects = None,
    modality: Modalities = None,
    everyone: Everyone = False,
    only: Only = None,
    releases: Releases = 20_000,
    worlds: Worlds = 8,
    seed: Seed = 0,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Attack what `mbd revoke` would make of the same options, on every live line, and change nothing.

    distinguishing: each head that would be released again, from its real history and from the worst ones, at the
    line's own constants. membership, relearning, reconstruction: the line made anew in worlds in which its people were
    exposed or not (a network that their rows shape is trained in each). one-run: canaries in its private towers.
    `mbd revoke --attack` also searches everything for the withdrawn values afterwards.
    """
    from mbd.workflow.attacks import WITHDRAWAL_ATTACKS

    check_attacks(only or [], WITHDRAWAL_ATTACKS)
    check_scope(subject or [], modality or [], everyone=everyone)
    with command(as_json) as out:
        from mbd.attacks.report import Effort
        from mbd.cohort.cohort import EVERYONE
        from mbd.workflow import filing
        from mbd.workflow.attacks import attack_withdrawal
        from mbd.workflow.system import open_system

        with open_system(settings_for(home), create=False) as system, out.stages() as stages:
            people = [EVERYONE] if everyone else subject or []
            pairs = frozenset((p, m) for p in people for m in modality or filing.channels_of(system, p))
            reports = attack_withdrawal(
                system,
                pairs,
                effort=Effort(releases=releases, worlds=worlds, seed=seed),
                only=only or WITHDRAWAL_ATTACKS,
                on_progress=lambda done, about: stages.update("attacking", done, about),
            )
        whole = show_reports(out, reports)
        out.say("Nothing was changed.")
    if not whole:
        raise typer.Exit(1)


def check_attacks(only: Collection[str], known: Collection[str]) -> None:
    """Refuse names that no attack has."""
    if unknown := sorted(set(only) - set(known)):
        raise UsageError(f"there is no attack {', '.join(unknown)}; there are: {', '.join(known)}")


def show_reports(out: Output, reports: Sequence["Report"]) -> bool:
    """Print what attacks found; whether every claim held."""
    from mbd.attacks.report import broken

    for name in dict.fromkeys(report.attack for report in reports):
        mine = [report for report in reports if report.attack == name]
        out.table(
            f"{name}: {mine[0].question}",
            ["target", "found", "claim", "trials", "seconds", "verdict"],
            [_line(report) for report in mine],
        )
    lost = broken(reports)
    out.result |= {"reports": [report.to_json() for report in reports], "broken": len(lost)}
    for report in lost:
        found = "; ".join(f"{estimate.name} {estimate.value:g}" for estimate in report.estimates)
        out.say(f"{report.attack}, {report.target}: {found}.", lead="Broken:", style="red")
    if not lost:
        out.say(f"{len(reports)} attacks, no claim broken.", lead="All held.", style="green")
    return not lost


def _line(report: "Report") -> tuple[Any, ...]:
    first = report.estimates[0]
    found = f"{first.value:.3g}"
    if first.low is not None and first.high is not None:
        found += f" [{first.low:.3g}, {first.high:.3g}]"
    claim = "-" if report.claim is None else f"{report.claim:.3g}"
    return report.target, found, claim, report.trials, f"{report.seconds:.1f}", report.verdict
