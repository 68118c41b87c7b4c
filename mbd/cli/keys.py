"""``mbd keys``: make a deployment's keys, and show what of them is public."""

import typer

from mbd.cli.options import Home, Json
from mbd.cli.output import Output, command, settings_for
from mbd.settings import Settings

app = typer.Typer(help="Make and show keys.", no_args_is_help=True)


@app.command()
def init(home: Home = None, as_json: Json = False) -> None:
    """Make a new deployment: folder, database, keys.

    Logs the commitment to the noise secret, so that it precedes every request. With MBD_KEY_PASSPHRASE set, the private
    keys are encrypted. A deployment that has keys keeps them.
    """
    with command(as_json) as out:
        from mbd.workflow.log import commit_to_noise
        from mbd.workflow.system import open_system

        settings = settings_for(home)
        with open_system(settings, create=True) as system:
            published = commit_to_noise(system)
        _show(out, settings)
        if not published:
            out.say(
                "Too few witnesses answered. The noise commitment is logged; its certificate is published by the next "
                "`mbd keys init`, `mbd train` or `mbd revoke` that they answer.",
                lead="Note:",
                style="yellow",
            )


@app.command()
def show(home: Home = None, as_json: Json = False) -> None:
    """Print the public keys and where they are published."""
    with command(as_json) as out:
        _show(out, settings_for(home))


def _show(out: Output, settings: Settings) -> None:
    from mbd.workflow.keyring import open_keyring

    passphrase = settings.key_passphrase.get_secret_value().encode() if settings.key_passphrase else None
    keyring = open_keyring(settings.state, passphrase=passphrase)
    published = settings.state / "published"
    out.result = {
        "certificate_key": keyring.certificate_key.key_id,
        "log_key": keyring.note_key.vkey,
        "noise_commitment": keyring.noise.commitment,
        "trusted_root": str(published / "trusted_root.json"),
        "encrypted": passphrase is not None,
    }
    out.unbroken("Certificate key (ECDSA P-256; SHA-256 of its SPKI)", keyring.certificate_key.key_id)
    out.unbroken("Log key (Ed25519)", keyring.note_key.vkey)
    out.unbroken("Noise commitment", keyring.noise.commitment)
    out.unbroken("Published for verifiers", published)
    if passphrase is None:
        out.say(
            "The private keys are not encrypted: only file mode 0600 protects them. To have them encrypted, set "
            "MBD_KEY_PASSPHRASE before the first `mbd keys init`.",
            lead="Note:",
            style="yellow",
        )
