"""``mbd witness``: a witness that cosigns the checkpoints of any log, and needs no deployment."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mbd.cli.options import Json
from mbd.cli.output import Output, command, settings_for
from mbd.cli.serving import serve_until_stopped
from mbd.errors import SettingsError

if TYPE_CHECKING:
    from mbd.workflow.witness import Witness

app = typer.Typer(help="Be a witness: cosign logs' checkpoints.", no_args_is_help=True)


class CosignatureAlgorithm(StrEnum):
    """What a witness can sign with, by the names of its key files."""

    ED25519 = "ed25519"
    ML_DSA_44 = "ml-dsa-44"


Folder = Annotated[
    Path, typer.Option("--home", metavar="DIR", file_okay=False, help="The witness's own folder, outside of backups.")
]


@app.command()
def init(
    home: Folder,
    name: Annotated[str, typer.Option(metavar="NAME", help="A URL without scheme, as witness.example/w1.")],
    algorithm: Annotated[
        list[CosignatureAlgorithm] | None, typer.Option(help="Of its key; may be repeated. Default: ed25519.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a witness: its folder, its name and its keys.

    With MBD_KEY_PASSPHRASE or MBD_KEY_PASSPHRASE_FILE set, the private keys are encrypted.
    """
    with command(as_json) as out:
        from certs.keys import Algorithm
        from mbd.workflow.witness import create_witness

        chosen = [Algorithm[each.name] for each in algorithm or [CosignatureAlgorithm.ED25519]]
        _show(out, create_witness(home, name=name, algorithms=chosen, passphrase=_passphrase()))


@app.command()
def show(home: Folder, as_json: Json = False) -> None:
    """Print a witness's verifier keys, for policies, and the logs that it knows."""
    with command(as_json) as out:
        from mbd.workflow.witness import open_witness

        _show(out, open_witness(home, passphrase=_passphrase()))


@app.command()
def serve(
    home: Folder,
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where; port 0 is any free one.")] = "127.0.0.1:8081",
    log: Annotated[
        list[str] | None,
        typer.Option(metavar="VKEY", help="A log's verifier key, besides those in the file `logs`; may be repeated."),
    ] = None,
) -> None:
    """Answer logs over HTTP (C2SP tlog-witness) until SIGTERM.

    It cosigns a checkpoint only if it extends the last one that it cosigned for that log. Prints its address, then a
    line of JSON for each request. TLS is for a proxy before it.
    """
    with command(as_json=False) as out:
        import sys

        from api.witness import create_witness
        from mbd.telemetry import logs
        from mbd.workflow.witness import open_witness

        witness = open_witness(home, passphrase=_passphrase(), logs=log or [])
        if not witness.logs:
            raise SettingsError(
                "The witness knows no log.", remedy=f"give --log VKEY, or write verifier keys into {home / 'logs'}"
            )
        logs.begin(sys.stderr, settings_for(None).log_level)
        serve_until_stopped(out, create_witness(witness), listen)


def _show(out: Output, witness: "Witness") -> None:
    out.result = {
        "name": witness.cosigners[0].name,
        "vkeys": [key.vkey for key in witness.keys],
        "logs": [key.vkey for key in witness.logs],
    }
    for key in witness.keys:
        out.unbroken(f"Witness key ({key.key.algorithm})", key.vkey)
    for key in witness.logs:
        out.unbroken("Known log", key.vkey)


def _passphrase() -> bytes | None:
    from mbd.workflow.signers import key_passphrase

    return key_passphrase(settings_for(None))
