"""``mbd lineage steps``, ``promote``, ``retire`` and ``destroyed``: model versions, in service and out of it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mbd.cli.options import Home, Json, UsageError
from mbd.cli.output import command, settings_for

LineName = Annotated[str, typer.Argument(metavar="LINE", help="The model line.")]
Number = Annotated[int, typer.Argument(metavar="VERSION", min=1, help="The version's number.")]


def steps(
    line: LineName,
    before: Annotated[int, typer.Argument(metavar="BEFORE", min=1, help="The earlier version.")],
    after: Annotated[int, typer.Argument(metavar="AFTER", min=1, help="The later version.")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show how one version of a line became a later one, and which certificates cover each step."""
    with command(as_json) as out:
        from mbd.records.certificates import certificates_between
        from mbd.records.database import begin_snapshot
        from mbd.workflow.system import open_system

        with open_system(settings_for(home), create=False) as system, begin_snapshot(system.engine) as connection:
            found = certificates_between(connection, line, before, after)
        rows: list[dict[str, Any]] = [
            {
                "from": step.parent_version,
                "to": step.version,
                "certificates": [certificate.id for certificate in step.certificates],
            }
            for step in found
        ]
        out.result = {"line": line, "steps": rows}
        shown = [
            (row["from"], row["to"], "\n".join(row["certificates"]) or "none: nothing was deleted") for row in rows
        ]
        out.table(f"Model line '{line}'", ["from", "to", "certificates"], shown)


def promote(line: LineName, version: Number, home: Home = None, as_json: Json = False) -> None:
    """Put a candidate into service in the place of the live version, which is destroyed.

    Refused if it was made from another version, or contains a channel that was revoked since.
    """
    with command(as_json) as out:
        from mbd.workflow.system import open_system
        from mbd.workflow.versions import promote_version

        with open_system(settings_for(home), create=False) as system:
            promoted = promote_version(system, line, version)
        out.result = {"line": line, "version": version, "state": promoted.state.value}
        out.say(f"Model line '{line}': version {version} is live.")


def retire(line: LineName, version: Number, home: Home = None, as_json: Json = False) -> None:
    """Take the live version of a line out of service for good, or discard a candidate, and destroy its files.

    A line whose live version retires answers nothing any more.
    """
    with command(as_json) as out:
        from mbd.workflow.system import open_system
        from mbd.workflow.versions import retire_version

        with open_system(settings_for(home), create=False) as system:
            retired = retire_version(system, line, version)
        out.result = {"line": line, "version": version, "state": retired.state.value}
        out.say(f"Model line '{line}': version {version} is retired, and its files are destroyed.")
        out.command("The statement", "mbd", "lineage", "destroyed", "--line", line, "--version", str(version))


def destroyed(
    line: Annotated[str | None, typer.Option(metavar="NAME", help="Only this model line.")] = None,
    version: Annotated[int | None, typer.Option(metavar="N", min=1, help="Only this version of it.")] = None,
    out_file: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", dir_okay=False, help="Write the version's signed statement (DSSE) here."),
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show the signed statements that files of retired versions were destroyed, after verifying each of them."""
    if version is not None and line is None:
        raise UsageError("--version goes with --line")
    if out_file is not None and version is None:
        raise UsageError("--out goes with --line and --version")
    with command(as_json) as out:
        from mbd.durable import write_durably
        from mbd.errors import RecordsError
        from mbd.workflow.statements import stated
        from mbd.workflow.system import open_system

        with open_system(settings_for(home), create=False) as system:
            found = [each for each in stated(system, line) if version in {None, each.record.version}]
        if version is not None and not found:
            raise RecordsError(
                f"There is no statement that {line} version {version} was destroyed.",
                remedy="a version is destroyed when it has retired: see `mbd lineage`",
            )
        out.result = {
            "destroyed": [
                {"line": each.record.line, "version": each.record.version, "dsse_digest": each.record.dsse_digest}
                | each.said.model_dump(mode="json", by_alias=True)
                for each in found
            ]
        }
        rows = [
            (
                each.record.line,
                each.record.version,
                f"{each.said.destroyed_at:%Y-%m-%d %H:%M:%S}",
                len(each.said.removed),
                each.record.dsse_digest[:16],
            )
            for each in found
        ]
        out.table("Destroyed", ["line", "version", "when (UTC)", "files", "statement"], rows)
        if version is not None:
            (one,) = found
            for title, sentences in (("Claimed:", one.said.claimed), ("Not covered:", one.said.not_covered)):
                out.say("", lead=title)
                for sentence in sentences:
                    out.item(sentence)
            if out_file is not None:
                write_durably(out_file, one.record.envelope.encode())
                out.unbroken("Statement", out_file)
