"""``mbd db``: the database's schema."""

import typer

from mbd.cli.options import Home, Json
from mbd.cli.output import command, settings_for

app = typer.Typer(help="Bring the database up to date.", no_args_is_help=True)


@app.command()
def upgrade(home: Home = None, as_json: Json = False) -> None:
    """Bring the database to this program's schema. Safe to repeat."""
    with command(as_json) as out:
        from mbd.records.database import upgrade as run

        settings = settings_for(home)
        if settings.database_url is None:
            settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        run(settings.database)
        out.result = {"upgraded": True}
        out.say("The database has this program's schema.")
