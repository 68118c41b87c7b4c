"""``mbd ledger``: check the whole log, sign its head, prove an entry; `log_copy` adds its public side."""

import re
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from certs.errors import CertificateError
from mbd.cli import log_copy
from mbd.cli.options import Home, Json
from mbd.cli.output import Output, command, settings_for
from mbd.errors import LedgerError
from mbd.settings import ORIGIN


def _origin(value: str) -> str:
    if not re.fullmatch(ORIGIN, value):
        raise typer.BadParameter(f"'{value}' is not a host and a path, such as log.example.org/main")
    return value


app = typer.Typer(help="Check, sign, prove, publish and monitor append-only logs.", no_args_is_help=True)
app.command("publish")(log_copy.publish)
app.command("monitor")(log_copy.monitor)


@app.command()
def fsck(home: Home = None, as_json: Json = False) -> None:
    """Re-hash the whole log, and check every signature.

    Bodies, leaves, nodes, heads, signed checkpoints, and the checkpoint that is remembered outside the database. Exit
    code 0: all are consistent; 1: something is wrong, and it says where.
    """
    with command(as_json) as out:
        from mbd.records import fsck as check
        from mbd.records.database import begin_snapshot
        from mbd.workflow.cosigning import verify_note
        from mbd.workflow.office import refuse_rollback
        from mbd.workflow.system import open_system

        with (
            open_system(settings_for(home), create=False, inspect=True) as system,
            begin_snapshot(system.engine) as connection,
            out.stages() as stages,
        ):
            report = check.fsck(
                connection,
                verify_note=verify_note(system),
                progress=lambda done, total: stages.update("re-hashing", done / total, f"{done} of {total} values"),
            )
            problems = [(problem.place, problem.message) for problem in report.problems]
            try:
                refuse_rollback(system, connection)
            except (LedgerError, CertificateError) as error:
                problems.append(("remembered checkpoint", error.message))
        out.result = {
            "ok": not problems,
            "size": report.head.size,
            "root": report.head.root.hex(),
            "checkpoints": report.checkpoints,
            "problems": [{"place": place, "message": message} for place, message in problems],
        }
        if problems:
            out.table("The log is damaged", ["where", "what"], problems)
            out.say(
                "do not sign anything; compare with certificates and checkpoints held elsewhere, restore a good copy.",
                lead="Remedy:",
            )
        else:
            out.say(f"Everything is consistent. Entries: {report.head.size}. Checkpoints: {report.checkpoints}.")
    if problems:
        raise typer.Exit(1)


@app.command()
def restore_check(home: Home = None, as_json: Json = False) -> None:
    """After a backup was restored: what the log and the records lack, and how to go on.

    Exit code 0: nothing is missing; 1: something is, and nothing is signed until it is mended.
    """
    with command(as_json) as out:
        from mbd.workflow.restoration import check_restored
        from mbd.workflow.system import open_system

        with open_system(settings_for(home), create=False, inspect=True) as system:
            found = check_restored(system)
        signed = found.remembered.size if found.remembered else 0
        out.result = {
            "whole": found.whole,
            "size": found.head.size,
            "signed": signed,
            "missing": found.missing,
            "forked": found.forked,
            "recoverable": found.copy >= signed and not found.forked,
            "lost": [asdict(each) for each in found.lost],
        }
        _explain(out, found)
    if not found.whole:
        raise typer.Exit(1)


def _explain(out: Output, found: Any) -> None:
    if found.whole:
        out.say(f"Nothing is missing. Entries: {found.head.size}.", style="green")
        return
    if found.forked:
        out.say("The log in this database is not the one that was signed: it has forked.", lead="Forked.", style="red")
        out.say("restore another backup; nothing is signed with this one.", lead="Next:")
        return
    if found.missing:
        out.say(
            f"The database has {found.head.size} entries of the log, and {found.remembered.size} were signed: an old "
            "backup was restored. Nothing is signed until the log is whole.",
            lead="Behind.",
            style="red",
        )
    if found.lost:
        out.table(
            "Certificates that were issued and that the records have lost",
            ["certificate", "line", "version", "withdrawn", "by", "requested"],
            [(x.id, x.line, x.version, ", ".join(x.modalities), x.kind, x.requested_at) for x in found.lost],
        )
    steps = []
    if found.missing and found.copy >= found.remembered.size:
        steps.append("restore a newer backup if there is one; else `mbd ledger recover`.")
    elif found.missing:
        steps.append("restore a newer backup if there is one; else `mbd ledger recover --from` a copy of the log.")
    if found.lost:
        steps.append("file the requests of the lost certificates again (`mbd revoke`): their channels are live here.")
    for number, step in enumerate(steps, start=1):
        out.say(step, lead=f"Step {number}:")


@app.command()
def recover(
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="PLACE",
            help="A copy of the log (folder or URL). Default: our own public one.",
        ),
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Bring back the entries that a restored database lacks, from a copy of the log's public files.

    Either all that was signed is there again, or nothing is changed. The records stay as the backup has them: see
    `mbd ledger restore-check` for the requests that have to be filed again.
    """
    with command(as_json) as out, ExitStack() as opened:
        from mbd.workflow.log_source import open_source
        from mbd.workflow.restoration import check_restored, public_copy, recover_log
        from mbd.workflow.system import open_system

        system = opened.enter_context(open_system(settings_for(home), create=False, inspect=True))
        place = opened.enter_context(open_source(source)) if source else public_copy(system)
        count = recover_log(system, place)
        found = check_restored(system)
        out.result = {"recovered": count, "size": found.head.size, "lost": [asdict(each) for each in found.lost]}
        out.say(f"Entries brought back: {count}. The log has {found.head.size}, and can be signed again.")
        if found.lost:
            _explain(out, found)


@app.command()
def retire(
    origin: Annotated[
        str, typer.Option(metavar="NAME", callback=_origin, help="The new log's name: a host and a path, no scheme.")
    ],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """End this log, and begin one of another name whose first entry commits to this one's last checkpoint.

    For a log that cannot be made whole after a restored backup, or that needs another name. Certificates under the old
    name stay valid. An interrupted retirement is finished by the same command.
    """
    with command(as_json) as out, out.stages() as stages:
        from mbd.workflow.retirement import retire as run
        from mbd.workflow.system import open_system

        with open_system(settings_for(home), create=False, inspect=True) as system:
            done = run(system, origin, on_step=lambda step: stages.update("retiring", None, step))
        out.result = {"old_origin": done.old_origin, "old_size": done.old_size, "origin": done.origin}
        out.say(f"{done.origin} takes over from {done.old_origin}, which ends at {done.old_size} entries.")
        if not done.own_database:
            out.say("set MBD_DATABASE_URL to what MBD_NEXT_DATABASE_URL is, and unset the latter.", lead="Next:")
        out.say(
            "give verifiers published/trusted_root.json anew, and witnesses the new log's key; go on serving the old "
            "log's files, published/log-*.",
            lead="Next:",
        )


@app.command()
def checkpoint(home: Home = None, as_json: Json = False) -> None:
    """Sign the log's head if need be, have it cosigned as MBD_WITNESS_POLICY wants, and print the checkpoint.

    A checkpoint is a C2SP signed note: keep some elsewhere, they are what a rewritten log cannot match.
    """
    with command(as_json) as out:
        from mbd.workflow.log import cosigned_checkpoint
        from mbd.workflow.system import open_system

        with open_system(settings_for(home), create=False) as system:
            signed = cosigned_checkpoint(system)
        out.result = {"size": signed.head.size, "root": signed.head.root.hex(), "note": signed.note}
        if not as_json:
            typer.echo(signed.note, nl=False)


@app.command()
def prove(
    index: Annotated[int, typer.Argument(metavar="INDEX", help="The entry's index, from 0.", min=0)],
    out_file: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", dir_okay=False, help="Write the proof to this file.")
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Prove that an entry is in the log (C2SP tlog-proof)."""
    with command(as_json) as out:
        from certs.proof import TlogProof
        from mbd.records import ledger
        from mbd.records.database import begin_snapshot
        from mbd.workflow.log import cosigned_checkpoint
        from mbd.workflow.system import open_system

        with open_system(settings_for(home), create=False) as system:
            signed = cosigned_checkpoint(system)
            with begin_snapshot(system.engine) as connection:
                path = ledger.inclusion_proof(connection, index, signed.head.size)
        text = TlogProof(index, tuple(path), signed.note).text
        out.result = {"index": index, "size": signed.head.size, "proof": text}
        if out_file is not None:
            out_file.write_text(text, encoding="utf-8")
            out.unbroken("Proof", out_file)
        elif not as_json:
            typer.echo(text, nl=False)
