"""``mbd``: the root of the command line."""

import typer

from mbd import __version__
from mbd.cli import certificate, data, database, demo, keys, ledger, lineage, models, revoke

app = typer.Typer(
    name="mbd",
    help="Withdraw one modality of one person from multimodal models, and prove it with a signed certificate.",
    no_args_is_help=True,
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
app.command("train")(models.train)
app.command("evaluate")(models.evaluate)
app.command("predict")(models.predict)
app.command("revoke")(revoke.revoke)
app.add_typer(certificate.app, name="certificate")
app.add_typer(ledger.app, name="ledger")
app.command("lineage")(lineage.lineage)
app.add_typer(keys.app, name="keys")
app.add_typer(database.app, name="db")


def main() -> None:
    """The program's entry point."""
    app()
