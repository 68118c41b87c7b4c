"""``mbd ledger publish`` and ``monitor``: a log's public copy, written by its operator and read by anyone."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from certs.note import NoteKey
from mbd.cli.options import Home, Json, UsageError
from mbd.cli.output import Output, command, settings_for
from mbd.errors import LogAlarmError, UnreachableLogError

if TYPE_CHECKING:
    from mbd.workflow.log_source import Source
    from mbd.workflow.monitor import Seen


def publish(
    out_folder: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            file_okay=False,
            help="Write a copy here. Default: published/log in the state folder.",
        ),
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Publish the log as static files, for any web server (C2SP tlog-tiles).

    Writes the last signed checkpoint, tiles and entry bundles where they are missing, and compares those that are
    there. Whatever is signed is published in published/log anyway: this finds damage, makes the folder anew, or makes
    another copy. Exit code 1: a file has other bytes than the database.
    """
    with command(as_json) as out:
        from mbd.workflow.publication import log_folder
        from mbd.workflow.publication import publish as write
        from mbd.workflow.system import open_system

        with open_system(settings_for(home), create=False) as system, out.stages() as stages:
            folder = out_folder or log_folder(system.home)
            done = write(
                system.engine,
                folder,
                read_note=system.keyring.read_checkpoint,
                check_all=True,
                progress=lambda n, total: stages.update("publishing", n / total, f"{n} of {total} tiles"),
            )
            vkey = system.keyring.note_key.vkey
        out.result = {
            "folder": str(folder),
            "size": done.head.size,
            "root": done.head.root.hex(),
            "written": done.written,
            "log_key": vkey,
        }
        out.unbroken("Published", folder)
        out.say(f"Entries: {done.head.size}. Files that were missing: {done.written}.")
        out.unbroken("Key for monitors", vkey)


def monitor(
    log: Annotated[str, typer.Argument(metavar="LOG", help="The log's URL, or a folder with a copy of it.")],
    state: Annotated[
        Path,
        typer.Option(metavar="FILE", dir_okay=False, help="Remembers the last checkpoint. Made at the first look."),
    ],
    vkey: Annotated[
        list[str],
        typer.Option(metavar="VKEY", help="The log's public key, name+hash+key (log-key-*.vkey); may be repeated."),
    ],
    once: Annotated[bool, typer.Option("--once", help="Look once, then end.")] = False,
    interval: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=1, help="Time between two looks. Default: 60.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Follow any C2SP tlog-tiles log, and raise an alarm if it forks or goes back.

    Checks the signature, that the log extends what was seen before, and every new entry. Needs no keys of ours and no
    database. After an alarm both signed checkpoints lie beside FILE as evidence, and every later look is an alarm
    too. Exit code 0: all is well; 1: an alarm, or with --once a log that cannot be read.
    """
    if once and interval is not None:
        raise UsageError("give --once or --interval, not both")
    if as_json and not once:
        raise UsageError("--json prints one object at the end: it needs --once")
    with command(as_json) as out:
        from mbd.workflow.log_source import open_source

        keys = [NoteKey.from_vkey(text) for text in vkey]
        out.result = {"alarm": None}
        with open_source(log) as source:
            if once:
                _show(out, _look(out, source, keys, state))
                return
            while True:
                try:
                    _show(out, _look(out, source, keys, state))
                except UnreachableLogError as error:
                    out.say(str(error), lead="Cannot follow the log.", style="yellow")
                time.sleep(interval or 60)


def _look(out: Output, source: "Source", keys: list[NoteKey], state: Path) -> "Seen":
    from mbd.workflow.monitor import look_patiently

    def show(done: int, total: int) -> None:
        stages.update("reading", done / total, f"{done} of {total} entries")

    with out.stages() as stages:
        try:
            return look_patiently(source, keys, state, progress=show)
        except LogAlarmError as error:
            out.result = {"alarm": error.alarm, "evidence": str(error.evidence)}
            raise


def _show(out: Output, seen: "Seen") -> None:
    result: dict[str, Any] = {
        "origin": seen.checkpoint.origin,
        "size": seen.checkpoint.size,
        "root": seen.checkpoint.root.hex(),
        "previous_size": seen.previous_size,
        "new_entries": seen.new_entries,
        "kinds": seen.kinds,
        "alarm": None,
    }
    out.result = result
    kinds = ", ".join(f"{name} {count}" for name, count in seen.kinds.items())
    out.unbroken(f"{seen.checkpoint.origin}, size {seen.checkpoint.size}, root", seen.checkpoint.root.hex())
    out.say(f"New entries: {seen.new_entries}{f' ({kinds})' if kinds else ''}. Everything is consistent.")
