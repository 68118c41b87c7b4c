"""``mbd ledger``: check the whole log, sign its head, prove an entry; `log_copy` adds its public side."""

from pathlib import Path
from typing import Annotated

import typer

from certs.errors import CertificateError
from mbd.cli import log_copy
from mbd.cli.options import Home, Json
from mbd.cli.output import command, settings_for
from mbd.errors import LedgerError

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
        from mbd.workflow.system import open_system, refuse_rollback

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
