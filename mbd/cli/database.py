"""``mbd db``: the database's schema."""

import typer

from mbd.cli.output import Home, Json, command, settings_for

app = typer.Typer(help="The database's schema.", no_args_is_help=True)


@app.command()
def upgrade(home: Home = None, as_json: Json = False) -> None:
    """Bring the database to this program's schema. Safe to repeat; nothing is lost."""
    with command(as_json) as out:
        from mbd.records.database import upgrade as run

        settings = settings_for(home)
        if settings.database_url is None:
            settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        run(settings.database)
        out.result = {"upgraded": True}
        out.say("The database has this program's schema.")
