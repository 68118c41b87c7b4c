"""``mbd ledger``: check the whole log, sign its head, prove an entry."""

from pathlib import Path
from typing import Annotated

import typer

from mbd.cli.output import Home, Json, command, settings_for

app = typer.Typer(help="The append-only log of certificates.", no_args_is_help=True)


@app.command()
def fsck(home: Home = None, as_json: Json = False) -> None:
    """Re-hash everything: bodies, leaves, nodes, heads, signed checkpoints. Exit code 1: something is wrong."""
    with command(as_json) as out:
        from mbd.records import fsck as check
        from mbd.records.database import begin_snapshot
        from mbd.workflow.log import verify_note
        from mbd.workflow.system import open_system

        with (
            open_system(settings_for(home), create=False) as system,
            begin_snapshot(system.engine) as connection,
            out.progress() as bar,
        ):
            task = bar.add_task("re-hashing", total=None, about="")
            report = check.fsck(
                connection,
                verify_note=lambda note: verify_note(system.keyring, note),
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
        out.result = {
            "ok": report.ok,
            "size": report.head.size,
            "root": report.head.root.hex(),
            "checkpoints": report.checkpoints,
            "problems": [{"place": p.place, "message": p.message} for p in report.problems],
        }
        if report.ok:
            out.say(f"{report.head.size} entries and {report.checkpoints} checkpoints are consistent.")
        else:
            rows = [(p.place, p.message) for p in report.problems]
            out.table("The log is damaged", ["where", "what"], rows)
            out.say("Remedy: do not sign; compare with bundles and checkpoints held elsewhere, restore a good copy.")
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def checkpoint(home: Home = None, as_json: Json = False) -> None:
    """Sign the log's head, if it is not signed yet, and print the checkpoint (C2SP signed note)."""
    with command(as_json) as out:
        from mbd.workflow.log import sign_checkpoint
        from mbd.workflow.system import open_system

        with open_system(settings_for(home), create=False) as system:
            signed = sign_checkpoint(system)
        out.result = {"size": signed.head.size, "root": signed.head.root.hex(), "note": signed.note}
        if not as_json:
            typer.echo(signed.note, nl=False)


@app.command()
def prove(
    index: Annotated[int, typer.Argument(help="The entry's index, from 0.", min=0)],
    out_file: Annotated[Path | None, typer.Option("--out", help="Write the proof to this file.")] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Prove that an entry is in the log: a C2SP tlog-proof under a freshly signed checkpoint."""
    with command(as_json) as out:
        from certs.proof import TlogProof
        from mbd.records import ledger
        from mbd.records.database import begin_snapshot
        from mbd.workflow.log import sign_checkpoint
        from mbd.workflow.system import open_system

        with open_system(settings_for(home), create=False) as system:
            signed = sign_checkpoint(system)
            with begin_snapshot(system.engine) as connection:
                path = ledger.inclusion_proof(connection, index, signed.head.size)
        text = TlogProof(index, tuple(path), signed.note).text
        out.result = {"index": index, "size": signed.head.size, "proof": text}
        if out_file is not None:
            out_file.write_text(text)
            out.path("Proof", out_file)
        elif not as_json:
            typer.echo(text, nl=False)
