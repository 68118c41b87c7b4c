"""``mbd certificate opening`` and ``mbd forget``: give a person what ties a certificate to them, or destroy it."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from mbd.cli.options import CertificateId, Home, Json, UsageError
from mbd.cli.output import Output, command, settings_for


def opening(
    certificate: CertificateId,
    subject: Annotated[str, typer.Option(metavar="NAME", help="The person, exactly as the cohort has the name.")],
    out_file: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", dir_okay=False, help="Write it to this new file, readable by you alone."),
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Print what shows a person that a certificate is theirs.

    Give it to that person and nobody else: whoever has it can show the same. They use it with `mbd certificate verify
    --opening FILE`, offline. After `mbd forget` it cannot be had any more.
    """
    with command(as_json) as out:
        from mbd.workflow.openings import opening_for
        from mbd.workflow.system import open_system

        with open_system(settings_for(home), create=False) as system:
            found = opening_for(system, certificate, subject)
        out.result = {"opening": found.opening, "subject": found.subject}
        if out_file is not None:
            descriptor = os.open(out_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(found.canonical() + b"\n")
            out.unbroken("Opening", out_file)
        elif not as_json:
            typer.echo(found.canonical().decode())


def forget(
    subject: Annotated[
        str | None, typer.Option(metavar="NAME", help="Forget this person in all certificates about them.")
    ] = None,
    certificate: Annotated[
        str | None, typer.Option(metavar="CERTIFICATE_ID", help="Forget everybody whom this certificate is about.")
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Destroy what ties certificates to people. It cannot be undone.

    Certificates stay valid and withdrawals stay in force. Give people their openings first, if they want them: `mbd
    certificate opening`. A live model whose cohort folder could still make the openings gets a new version with the
    same weights. Safe to repeat, which also finishes what was interrupted. Exit code 0: done; 1: refused, or the
    database still holds old rows, and it says what to do.
    """
    if (subject is None) == (certificate is None):
        raise UsageError("give --subject NAME or --certificate CERTIFICATE_ID")
    with command(as_json) as out:
        from mbd.workflow import erasure
        from mbd.workflow.system import open_system

        with open_system(settings_for(home), create=False) as system, out.stages() as stages:

            def on_step(step: str) -> None:
                stages.update("forgetting", None, step)

            if subject is not None:
                done = erasure.forget_person(system, subject, on_step=on_step)
            else:
                assert certificate is not None, "checked above"
                done = erasure.forget_certificate(system, certificate, on_step=on_step)
            journal = system.destroyed_keys_path
        out.result = {
            "certificates": list(done.certificates),
            "destroyed": done.destroyed,
            "versions": [{"line": version.line, "version": version.version} for version in done.versions],
            "named_in": list(done.named_in),
            "left": done.left,
            "journal": str(journal),
        }
        _show(out, done, journal)
    if done.left is not None:
        raise typer.Exit(1)


def _show(out: Output, done: Any, journal: Path) -> None:
    out.say(f"Certificates: {', '.join(done.certificates)}. Openings destroyed now: {done.destroyed}.")
    for version in done.versions:
        out.item(f"model line '{version.line}' is now version {version.version}, with the same weights")
    for line in done.named_in:
        out.item(f"model line '{line}' still holds rows of this person under their name: what they did not withdraw")
    out.item("the channels stay suppressed; the records know the person by a keyed hash")
    out.unbroken("Journal", journal)
    if done.left is not None:
        out.say(done.left, lead="Left to do:", style="yellow")
