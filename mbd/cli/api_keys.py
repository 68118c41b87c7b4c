"""``mbd api-keys``: who may call the API without an identity provider."""

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mbd.cli.options import Home, Json
from mbd.cli.output import command, settings_for

if TYPE_CHECKING:
    from mbd.records.api_keys import ApiKey

app = typer.Typer(help="Make, list and revoke local keys of the API.", no_args_is_help=True)

ROLES = {
    "agent": ("revocations:create", "revocations:read:own"),
    "officer": ("revocations:create", "revocations:review", "revocations:extend", "lineage:read", "callbacks:manage"),
    "auditor": ("lineage:read",),
    "engineer": ("lineage:read", "predictions:create"),
    "monitor": ("metrics:read",),
}
"""What a key of each role may do."""


@app.command()
def create(
    role: Annotated[str, typer.Option(metavar="ROLE", help=f"One of {', '.join(ROLES)}.")],
    label: Annotated[str, typer.Option(metavar="TEXT", help="What it is for. Name nobody.")],
    subject: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of an agent's key: the one person whom it is, as a proof of identity."),
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=3650, help="Days until it expires.")] = 365,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Make a key, and show it this once."""
    with command(as_json) as out:
        from mbd.errors import SettingsError
        from mbd.records import api_keys
        from mbd.records.database import begin_locked
        from mbd.workflow.intake import subject_key_of
        from mbd.workflow.office import open_office

        if role not in ROLES:
            raise SettingsError(f"'{role}' is no role.", remedy=f"use one of {', '.join(ROLES)}")
        if not label.strip() or not label.isprintable():
            raise SettingsError("A key needs a label that can be read.", remedy="say in a few words what it is for")
        with open_office(settings_for(home)) as office:
            now = office.clock()
            person = None if subject is None else subject_key_of(office, subject)
            with begin_locked(office.engine) as connection:
                key, token = api_keys.create(
                    connection,
                    label=label,
                    scopes=ROLES[role],
                    at=now,
                    subject_key=person,
                    expires_at=now + timedelta(days=days),
                )
        out.result = _as_json(key) | {"key": token}
        out.unbroken("Key", token)
        out.say(f"Its id is {key.id}. It is kept nowhere: copy it now.", lead="Made.")


@app.command("list")
def list_keys(home: Home = None, as_json: Json = False) -> None:
    """Show all keys that were made: never the keys themselves."""
    with command(as_json) as out:
        from mbd.records import api_keys
        from mbd.records.database import begin_snapshot
        from mbd.workflow.office import open_office

        with open_office(settings_for(home)) as office:
            now = office.clock()
            with begin_snapshot(office.engine) as connection:
                found = api_keys.every(connection)
        out.result = {"keys": [_as_json(key) for key in found]}
        if not found:
            out.say("There is no key. Make one with `mbd api-keys create`.")
            return
        rows = [(key.id, key.label, ", ".join(sorted(key.scopes)), key.state(now)) for key in found]
        out.table("API keys", ["id", "for", "scopes", "state"], rows)


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(metavar="KEY", help="A key's id, as `mbd api-keys list` prints it: key-...")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Let a key open nothing from now on, and tell its call-backs nothing more."""
    with command(as_json) as out:
        from mbd.records import api_keys, webhooks
        from mbd.records.database import begin_locked
        from mbd.workflow.office import open_office

        with open_office(settings_for(home)) as office, begin_locked(office.engine) as connection:
            revoked = api_keys.revoke(connection, key, at=office.clock())
            webhooks.disable_all_of(connection, key, because="key revoked", at=office.clock())
        out.result = _as_json(revoked)
        out.say(f"{key} opens nothing any more.", lead="Revoked.")


def _as_json(key: "ApiKey") -> dict[str, Any]:
    return {
        "id": key.id,
        "label": key.label,
        "scopes": sorted(key.scopes),
        "of_a_person": key.subject_key is not None,
        "created_at": key.created_at.isoformat(),
        "expires_at": key.expires_at.isoformat() if key.expires_at else None,
        "revoked_at": key.revoked_at.isoformat() if key.revoked_at else None,
    }
