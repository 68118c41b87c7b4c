"""``mbd requests``: what was asked, how far it has come, and until when it must be done."""

from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mbd.cli.options import Home, Json
from mbd.cli.output import Output, command, settings_for

if TYPE_CHECKING:
    from mbd.records.progress import Progress
    from mbd.records.requests import Event, Revocation
    from mbd.workflow.system import System

app = typer.Typer(help="See how far requests have come; extend, cancel, try again.", no_args_is_help=True)

RequestId = Annotated[
    str, typer.Argument(metavar="REQUEST", help="A request's id, as `mbd requests list` prints it: rev-...")
]


@app.command("list")
def list_requests(
    every: Annotated[bool, typer.Option("--all", help="Those that have ended, too.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show the requests that are not done, the most urgent first."""
    with command(as_json) as out:
        from mbd.records import requests
        from mbd.records.database import begin_snapshot
        from mbd.records.lifecycle import ENDED, State
        from mbd.workflow.system import open_system

        wanted = set(State) if every else set(State) - ENDED
        with open_system(settings_for(home), create=False) as system:
            today = system.clock().date()
            with begin_snapshot(system.engine) as connection:
                found = sorted(requests.in_states(connection, wanted), key=lambda each: (each.state in ENDED, each.due))
        out.result = {"requests": [_as_json(request, today) for request in found]}
        if not found:
            out.say("There is no request." if every else "No request is waiting. `mbd requests list --all` shows all.")
            return
        rows = [
            (
                request.id,
                _channels(request),
                request.state.value,
                f"{request.due}{'*' if request.extended else ''}",
                "-" if request.state in ENDED else _left(request, today),
            )
            for request in found
        ]
        out.table("Requests", ["id", "channels", "state", "last day", "days left"], rows)
        if any(request.extended for request in found):
            out.say("* extended")


@app.command()
def show(request: RequestId, home: Home = None, as_json: Json = False) -> None:
    """Show one request, how far the work on it is, and every step on its way: who took it, when and why."""
    with command(as_json) as out:
        from mbd.records import progress, requests
        from mbd.records.database import begin_snapshot
        from mbd.workflow.system import open_system

        with open_system(settings_for(home), create=False) as system:
            with begin_snapshot(system.engine) as connection:
                found, steps = requests.get(connection, request), requests.events(connection, request)
                now = progress.get(connection, request)
            _show(out, system, found, steps, now)


@app.command()
def attest(request: RequestId, home: Home = None, as_json: Json = False) -> None:
    """Attest that the person asks it, because you have seen a proof.

    Only then is looked for duplicates, and can it be approved.
    """
    with command(as_json) as out:
        from mbd.records import requests
        from mbd.workflow import decisions, intake
        from mbd.workflow.office import open_office

        with open_office(settings_for(home)) as office:
            with decisions.deciding(office) as connection:
                known = requests.get(connection, request)
                proof = "attested by whoever holds the deployment's keys"
                found = intake.verify_with_proof(office, connection, known, proof, by=decisions.COMMAND_LINE)
            out.result = _as_json(found, office.clock().date())
        out.say(f"The request is {found.state}.", lead="Attested.")


@app.command()
def approve(request: RequestId, home: Home = None, as_json: Json = False) -> None:
    """Approve a request: from now on its channels are refused everywhere.

    `mbd worker` deletes them, or `mbd revoke --resume`.
    """
    with command(as_json) as out:
        from mbd.workflow import decisions
        from mbd.workflow.office import open_office

        with open_office(settings_for(home)) as office:
            with decisions.deciding(office) as connection:
                found = decisions.approve_reviewed(office, connection, request, by=decisions.COMMAND_LINE)
            out.result = _as_json(found, office.clock().date())
        out.say("Its channels are suppressed; a worker deletes them.", lead="Approved.")


@app.command()
def deny(
    request: RequestId,
    reason: Annotated[str, typer.Option(metavar="REASON", help="One of the Data Rights Protocol, such as no_match.")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Deny a request, and tell the person why, if there is a way to reach them."""
    with command(as_json) as out:
        from mbd.workflow import decisions
        from mbd.workflow.office import open_office

        with open_office(settings_for(home)) as office:
            with decisions.deciding(office) as connection:
                found = decisions.deny(office, connection, request, by=decisions.COMMAND_LINE, reason=reason)
            out.result = _as_json(found, office.clock().date())
        out.say(f"The reason on record is {reason}.", lead="Denied.")


@app.command()
def extend(
    request: RequestId,
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="Why it takes longer. Name nobody: the text stays in the records.")
    ],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Take the longer period that the law allows, once.

    Two months more under GDPR, 45 days more under CCPA. The person must be told of it, and why, before the first period
    ends; that is yours to do.
    """
    with command(as_json) as out:
        from mbd.workflow import decisions
        from mbd.workflow.system import open_system

        with open_system(settings_for(home), create=False) as system:
            with decisions.deciding(system) as connection:
                found = decisions.extend(system, connection, request, by=decisions.COMMAND_LINE, reason=reason)
            out.result = _as_json(found, system.clock().date())
        out.say(f"The last day is now {found.due}. Tell the person before the first period ends.", lead="Extended.")


@app.command()
def cancel(
    request: RequestId,
    reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What the person said. Name nobody: it stays in the records.")
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Take a request back, because the person wants that, as long as its deletion has not begun.

    Its channels come off the suppression list, unless another request names them too.
    """
    with command(as_json) as out:
        from mbd.workflow import decisions
        from mbd.workflow.system import open_system

        with open_system(settings_for(home), create=False) as system:
            with decisions.deciding(system) as connection:
                found = decisions.cancel(system, connection, request, by=decisions.FOR_THE_PERSON, reason=reason)
            out.result = _as_json(found, system.clock().date())
        out.say("Nothing was deleted for it, and its channels may be used again.", lead="Cancelled.")


@app.command()
def retry(request: RequestId, home: Home = None, as_json: Json = False) -> None:
    """Try a failed request again, from the step that failed.

    Model lines that were done are not done again. Where a worker runs, it takes the request up; otherwise it is carried
    out here and now.
    """
    with command(as_json) as out:
        from mbd.cli.revoke import result_json, show_result
        from mbd.records import requests
        from mbd.records.database import begin_snapshot
        from mbd.workflow import decisions, revocation
        from mbd.workflow.system import open_system

        with open_system(settings_for(home), create=False) as system:
            if _a_worker_lives(system):
                with decisions.deciding(system) as connection:
                    decisions.retry(system, connection, request, by=decisions.COMMAND_LINE)
                results = []
                out.say("A worker takes it up; `mbd requests show` says how far it is.", lead="Approved again.")
            else:
                with out.stages() as stages:
                    results = revocation.retry(
                        system, request, on_step=lambda step: stages.update("revoking", None, step)
                    )
            with begin_snapshot(system.engine) as connection:
                found = requests.get(connection, request)
            out.result = _as_json(found, system.clock().date()) | {"results": [result_json(each) for each in results]}
        for each in results:
            show_result(out, each)


def _a_worker_lives(system: "System") -> bool:
    from datetime import timedelta

    from mbd.records import workers
    from mbd.records.database import begin_snapshot

    with begin_snapshot(system.engine) as connection:
        known = workers.known(connection)
    since = system.clock() - timedelta(seconds=system.settings.worker_silence)
    return any(worker.stopped_at is None and worker.seen_at >= since for worker in known)


def _show(
    out: Output, system: "System", request: "Revocation", steps: "tuple[Event, ...]", now: "Progress | None"
) -> None:
    from mbd.records.lifecycle import ENDED
    from mbd.workflow.decisions import deadlines_of

    last = deadlines_of(system.settings, request.regime, request.requested_at)
    out.result = _as_json(request, system.clock().date()) | {
        "acknowledge_by": last.acknowledge.isoformat() if last.acknowledge else None,
        "events": [
            {
                "action": step.action.value,
                "state": step.state.value,
                "role": step.by.role.value,
                "actor": step.by.id,
                "at": step.at.isoformat(),
                "reason": step.reason,
            }
            for step in steps
        ],
        "progress": _progress_json(now) if now else None,
    }
    out.say(f"{_channels(request)}, under {request.regime}: {request.state}.", lead=request.id)
    if now:
        guess = f", done by {now.estimated_end:%H:%M:%S} UTC at this pace" if now.estimated_end else ""
        out.item(f"at work: {now.step}, {now.fraction:.0%} of the whole{guess}")
    if last.acknowledge:
        out.item(f"the person is told that it has come: by {last.acknowledge}")
    longer = f", with an extension {last.extended}" if last.extended and request.state not in ENDED else ""
    out.item(f"last day of the answer: {request.due}{' (extended)' if request.extended else longer}")
    rows = [(f"{step.at:%Y-%m-%d %H:%M:%S}", step.action.value, _actor(step), step.reason or "-") for step in steps]
    out.table("Steps (UTC)", ["when", "action", "by", "why"], rows)


def _progress_json(now: "Progress") -> dict[str, Any]:
    return {
        "step": now.step,
        "fraction": now.fraction,
        "started_at": now.started_at.isoformat(),
        "at": now.at.isoformat(),
        "estimated_end": now.estimated_end.isoformat() if now.estimated_end else None,
    }


def _left(request: "Revocation", today: date) -> int | str:
    days = (request.due - today).days
    return days if days >= 0 else f"overdue {-days}"


def _actor(step: "Event") -> str:
    role, name = step.by.role.value, step.by.id
    return role if role == name else f"{role} ({name})"


def _channels(request: "Revocation") -> str:
    """The modalities and how many people they are of; who they are, the records do not know."""
    from mbd.records.suppression import EVERYONE

    people = {channel.subject_key for channel in request.scope}
    modalities = ", ".join(sorted({channel.modality for channel in request.scope}))
    whose = "everyone" if EVERYONE in people else "1 person" if len(people) == 1 else f"{len(people)} people"
    return f"{modalities} of {whose}"


def _as_json(request: "Revocation", today: date) -> dict[str, Any]:
    from mbd.records.lifecycle import ENDED

    return {
        "id": request.id,
        "regime": request.regime,
        "state": request.state.value,
        "modalities": sorted({channel.modality for channel in request.scope}),
        "people": len({channel.subject_key for channel in request.scope}),
        "requested_at": request.requested_at.isoformat(),
        "changed_at": request.changed_at.isoformat() if request.changed_at else None,
        "due": request.due.isoformat(),
        "extended": request.extended,
        "days_left": None if request.state in ENDED else (request.due - today).days,
    }
