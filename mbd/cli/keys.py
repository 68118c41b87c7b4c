"""``mbd keys``: make a deployment's keys, and show what of them is public."""

import typer

from mbd.cli.options import Home, Json
from mbd.cli.output import Output, command, settings_for
from mbd.settings import Settings

app = typer.Typer(help="Make and show keys.", no_args_is_help=True)


@app.command()
def init(home: Home = None, as_json: Json = False) -> None:
    """Make a new deployment: folder, database, keys.

    Logs the commitment to the noise secret, so that it precedes every request. With MBD_KEY_PASSPHRASE or
    MBD_KEY_PASSPHRASE_FILE set, the private keys are encrypted. With MBD_CERTIFICATE_KEY set, that token or key service
    signs certificates. A deployment that has keys keeps them.
    """
    with command(as_json) as out:
        from mbd.workflow.log import commit_to_noise
        from mbd.workflow.system import open_system

        settings = settings_for(home)
        with open_system(settings, create=True) as system:
            commit_to_noise(system)
        _show(out, settings)


@app.command()
def show(home: Home = None, as_json: Json = False) -> None:
    """Print the public keys and where they are published."""
    with command(as_json) as out:
        _show(out, settings_for(home))


def _show(out: Output, settings: Settings) -> None:
    from mbd.workflow.keyring import open_keyring
    from mbd.workflow.signers import external_signer, key_passphrase

    passphrase = key_passphrase(settings)
    keyring = open_keyring(settings.state, passphrase=passphrase, external=external_signer(settings))
    published = settings.state / "published"
    out.result = {
        "certificate_key": keyring.certificate_key.key_id,
        "certificate_key_uri": settings.certificate_key,
        "log_key": keyring.note_key.vkey,
        "noise_commitment": keyring.noise.commitment,
        "trusted_root": str(published / "trusted_root.json"),
        "encrypted": passphrase is not None,
    }
    out.unbroken("Certificate key (ECDSA P-256; SHA-256 of its SPKI)", keyring.certificate_key.key_id)
    if settings.certificate_key is not None:
        out.unbroken("It is kept in", settings.certificate_key)
    out.unbroken("Log key (Ed25519)", keyring.note_key.vkey)
    out.unbroken("Noise commitment", keyring.noise.commitment)
    out.unbroken("Published for verifiers", published)
    if passphrase is None:
        out.say(
            "The private keys are not encrypted: only file mode 0600 protects them. To have them encrypted, set "
            "MBD_KEY_PASSPHRASE_FILE before the first `mbd keys init`.",
            lead="Note:",
            style="yellow",
        )
