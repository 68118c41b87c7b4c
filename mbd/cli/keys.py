"""``mbd keys``: make a deployment's keys, replace them in good order or after a theft, show what of them is public."""

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from mbd.cli.options import Home, Json
from mbd.cli.output import Output, command, settings_for
from mbd.settings import KEY_URI, Settings

app = typer.Typer(help="Make, replace and show keys.", no_args_is_help=True)


class RotatedRole(StrEnum):
    """Keys that can be replaced."""

    CERTIFICATE = "certificate"
    LOG = "log"


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
            published = commit_to_noise(system)
        _show(out, settings)
        if not published:
            out.say(
                "Too few witnesses answered. The noise commitment is logged; its certificate is published by the next "
                "`mbd keys init`, `mbd train` or `mbd revoke` that they answer.",
                lead="Note:",
                style="yellow",
            )


def _key_uri(value: str | None) -> str | None:
    if value is not None and not re.fullmatch(KEY_URI, value):
        raise typer.BadParameter("it is no hsm:, awskms:, gcpkms: or azurekms: URI (docs/settings.md)")
    return value


NewKey = Annotated[
    str | None,
    typer.Option(
        metavar="URI", callback=_key_uri, help="A certificate key in a token or key service, instead of a new file."
    ),
]


@app.command()
def rotate(
    role: Annotated[RotatedRole, typer.Argument(metavar="ROLE", help="certificate or log.")],
    overlap_days: Annotated[
        float, typer.Option(min=0, help="How long the old key stays in use beside the new one.")
    ] = 30,
    new_key: NewKey = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Make a new key, log that it takes over, and publish both.

    During the overlap the old key goes on signing certificates and both sign checkpoints, so that everybody has time to
    fetch the new trusted root. The old private key is destroyed by the first rotation after its end.
    """
    with command(as_json) as out:
        from mbd.workflow.rotation import rotate as run
        from mbd.workflow.system import open_system

        with open_system(settings_for(home), create=False) as system:
            done = run(system, role.value, overlap=timedelta(days=overlap_days), new_key=new_key)
        out.result = _succession_json(done)
        out.unbroken(f"New {role} key", done.new_key)
        out.say(f"The old key, {done.old_key[:16]}, signs until {done.until:%Y-%m-%d %H:%M:%S} UTC.")
        then = f" Then set MBD_CERTIFICATE_KEY={new_key}" if new_key else ""
        out.say(f"give verifiers published/trusted_root.json anew before that.{then}", lead="Next:")


@app.command()
def compromised(
    key: Annotated[str, typer.Argument(metavar="KEY", help="The key's SHA-256, as `mbd keys show` prints it.")],
    since: Annotated[
        datetime, typer.Option(formats=["%Y-%m-%dT%H:%M:%SZ"], help="Since when somebody else may hold it (UTC).")
    ],
    new_key: NewKey = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """End a key that somebody else may hold, log it, and issue anew what it had signed and nobody can rely on.

    What a time stamp shows to be older stays valid. Safe to repeat: an interrupted run goes on.
    """
    with command(as_json) as out:
        from mbd.workflow.rotation import compromised as end
        from mbd.workflow.rotation import renew
        from mbd.workflow.system import open_system

        with open_system(settings_for(home), create=False) as system, out.stages() as stages:
            done = end(system, key, since=since.replace(tzinfo=UTC), new_key=new_key)
            renewed = renew(
                system.with_current_keys(new_key), key, on_step=lambda step: stages.update("renewing", None, step)
            )
        out.result = {
            "succession": _succession_json(done) if done else None,
            "renewed": [certificate.id for certificate in renewed],
        }
        if done:
            out.unbroken("New key", done.new_key)
        out.say(f"The log says that {key[:16]} may be in other hands. Certificates issued anew: {len(renewed)}.")
        out.say(
            "find out how it was taken; give verifiers published/trusted_root.json anew, today; send the new "
            "certificates to those who hold the old ones.",
            lead="Next:",
        )


@app.command()
def trust_authority(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where the authority answers (RFC 3161 over HTTP).")],
    chain: Annotated[
        Path,
        typer.Argument(
            metavar="CHAIN", exists=True, dir_okay=False, help="Its certificates (PEM), the one that signs first."
        ),
    ],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Let somebody else's time stamp authority state times, from now on. MBD_TIMESTAMP_URL has it asked."""
    with command(as_json) as out:
        from certs.timestamp import CertificateChain
        from mbd.workflow.rotation import trust_authority as run
        from mbd.workflow.system import open_system

        authority = CertificateChain.from_pem(chain.read_bytes())
        with open_system(settings_for(home), create=False) as system:
            run(system, url, authority)
        out.result = {"authority": authority.name, "url": url}
        out.say(f"{authority.name} may state times. To have it asked, set MBD_TIMESTAMP_URL={url}")


@app.command()
def show(home: Home = None, as_json: Json = False) -> None:
    """Print the public keys and where they are published."""
    with command(as_json) as out:
        _show(out, settings_for(home))


def _show(out: Output, settings: Settings) -> None:
    from mbd.workflow.keyring import open_keyring
    from mbd.workflow.office import utc_now
    from mbd.workflow.signers import external_signer, key_passphrase

    passphrase = key_passphrase(settings)
    keyring = open_keyring(settings.state, passphrase=passphrase, now=utc_now(), external=external_signer(settings))
    published = settings.state / "published"
    out.result = {
        "certificate_key": keyring.certificate_key.key_id,
        "certificate_key_uri": settings.certificate_key,
        "log_key": keyring.note_key.vkey,
        "log_ml_dsa_key": keyring.ml_dsa_key.vkey if keyring.ml_dsa_key else None,
        "keys": _keys_json(keyring.trusted),
        "noise_commitment": keyring.noise.commitment,
        "trusted_root": str(published / "trusted_root.json"),
        "encrypted": passphrase is not None,
    }
    out.unbroken("Certificate key (ECDSA P-256; SHA-256 of its SPKI)", keyring.certificate_key.key_id)
    if settings.certificate_key is not None:
        out.unbroken("It is kept in", settings.certificate_key)
    out.unbroken("Log key (Ed25519)", keyring.note_key.vkey)
    out.unbroken("Log key, SHA-256 of its SPKI", keyring.note_key.key.key_id)
    if keyring.ml_dsa_key:
        out.unbroken("Log key (ML-DSA-44), SHA-256 of its SPKI", keyring.ml_dsa_key.key.key_id)
    out.unbroken("Noise commitment", keyring.noise.commitment)
    out.unbroken("Published for verifiers", published)
    ended = [row for row in out.result["keys"] if row["until"]]
    if ended:
        rows = [(row["role"], (row["key"] or "-")[:16], row["from"], row["until"]) for row in ended]
        out.table("Keys with an end", ["role", "key", "from", "until"], rows)
    if passphrase is None:
        out.say(
            "The private keys are not encrypted: only file mode 0600 protects them. To have them encrypted, set "
            "MBD_KEY_PASSPHRASE_FILE before the first `mbd keys init`.",
            lead="Note:",
            style="yellow",
        )


def _keys_json(root: Any) -> list[dict[str, Any]]:
    """Every key that is or was trusted, with its window."""
    keys = [("certificate", signer.key.key_id, signer.valid_for) for signer in root.signers]
    keys += [(f"log {log.key.name}", log.key.key.key_id, log.valid_for) for log in root.logs]
    keys += [(f"time stamps, {authority.chain.name}", None, authority.valid_for) for authority in root.authorities]
    return [
        {
            "role": role,
            "key": key,
            "from": window.start.isoformat(),
            "until": window.end.isoformat() if window.end else None,
        }
        for role, key, window in keys
    ]


def _succession_json(done: Any) -> dict[str, str]:
    return {
        "role": done.role,
        "old_key": done.old_key,
        "new_key": done.new_key,
        "old_key_until": done.until.isoformat(),
    }
