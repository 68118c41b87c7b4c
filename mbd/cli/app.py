"""``mbd``: the root of the command line."""

import os
import sys

import typer

from mbd import __version__
from mbd.cli import (
    api_keys,
    attack,
    benchmark,
    certificate,
    clips,
    data,
    database,
    deletion,
    demo,
    erasure,
    keys,
    ledger,
    lineage,
    models,
    predictor,
    requests,
    revoke,
    serving,
    towers,
    witness,
    worker,
)
from mbd.cli.output import print_error

_NAME = "mbd"

app = typer.Typer(
    name=_NAME,
    help="Withdraw one modality of one person from multimodal models, and prove it with a signed certificate.",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help and usage errors: they can be copied, searched and piped
    pretty_exceptions_enable=False,
)


def _version(show: bool) -> None:
    if show:
        typer.echo(f"missing-by-design {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Options that come before a command."""


app.command("demo")(demo.demo)
app.add_typer(data.app, name="data")
app.add_typer(clips.app, name="clips")
app.command("train")(models.train)
app.command("evaluate")(models.evaluate)
app.command("predict")(models.predict)
app.command("benchmark")(benchmark.benchmark)
app.command("revoke")(revoke.revoke)
app.add_typer(requests.app, name="requests")
app.add_typer(deletion.app, name="deletion")
app.add_typer(towers.app, name="towers")
app.add_typer(attack.app, name="attack")
certificate.app.command("opening")(erasure.opening)
app.add_typer(certificate.app, name="certificate")
app.command("forget")(erasure.forget)
app.add_typer(ledger.app, name="ledger")
app.add_typer(lineage.app, name="lineage")
app.add_typer(keys.app, name="keys")
app.add_typer(api_keys.app, name="api-keys")
app.add_typer(database.app, name="db")
app.add_typer(witness.app, name="witness")
app.command("serve")(serving.serve)
app.command("worker")(worker.worker)
app.command("predictor")(predictor.predictor)


def main() -> None:
    """The program's entry point."""
    # Before anything loads OpenMP: on busy cores its threads would burn the time that they wait for each other.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if "--json" in sys.argv[1:]:
        sys.exit(_main_for_programs())
    app(prog_name=_NAME)  # however it was started


def _main_for_programs() -> int:
    """Run the command; a usage error, too, is one JSON object on standard output."""
    try:
        code = app(prog_name=_NAME, standalone_mode=False)
    except typer.TyperException as error:
        print_error("UsageError", error.format_message(), "see --help")
        return error.exit_code
    return code if isinstance(code, int) else 0
