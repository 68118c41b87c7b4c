"""New keys take over from old ones, in good order or after a theft.

A succession is logged and signed by the old certificate key; then the published trusted root names both keys, each with
its window. In the overlap the old key signs certificates, both sign checkpoints, and verifiers have time to fetch the
new trusted root. A private key whose window has ended is destroyed.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, TypeAlias

from certs.errors import CertificateError
from certs.key_files import FileSigner, load_signer
from certs.keys import EcdsaP256Signer, Ed25519Signer, PublicKey
from certs.note import NoteKey
from certs.notice import KeyCompromised, KeySucceeded
from certs.timestamp import CertificateChain
from certs.trusted_root import TrustedAuthority, TrustedLog, TrustedRoot, TrustedSigner, ValidFor, build_trusted_root
from certs.verification import verify
from mbd.durable import sync
from mbd.errors import SettingsError
from mbd.records import ledger, notices
from mbd.records.certificates import Certificate
from mbd.records.database import begin_locked
from mbd.workflow.issuance import publish_certificate
from mbd.workflow.keyring import add_key, key_path, publish
from mbd.workflow.log import sign_checkpoint
from mbd.workflow.notices import log_notice, reissue, signed_by
from mbd.workflow.signers import external_signer, key_passphrase
from mbd.workflow.system import System

Rotated: TypeAlias = Literal["certificate", "log"]

_ROLES: tuple[Rotated, ...] = ("certificate", "log")
_NEW: dict[Rotated, Callable[[], FileSigner]] = {"certificate": EcdsaP256Signer.generate, "log": Ed25519Signer.generate}


@dataclass(frozen=True)
class Succession:
    """A new key.

    Attributes:
        old_key: SHA-256 (hex) of the key that it takes over from.
        new_key: of the new one.
        until: when the old one's window ends.
    """

    role: Rotated
    old_key: str
    new_key: str
    until: datetime


def rotate(system: System, role: Rotated, *, overlap: timedelta, new_key: str | None = None) -> Succession:
    """Make a new key and publish it; the old one ends after the overlap.

    Args:
        system: the deployment.
        role: whose key.
        overlap: how long both are in use.
        new_key: the URI of a certificate key in a token or a key service, which is taken instead of a new file.

    Crash points: a key that no trusted root names signs nothing, and is taken up by the next rotation of its role. A
    succession that was logged and not published is logged once: the next rotation finds it.

    Raises:
        SettingsError: an earlier rotation of this role still overlaps, or the overlap is negative.
        SignerError: the new key cannot be reached.
    """
    if overlap < timedelta(0):
        raise SettingsError("An overlap is not negative.", remedy="give days, or 0 to end the old key at once")
    with system.exclusive():
        return _rotate(system, role, until=system.clock() + overlap, new_key=new_key)


def compromised(system: System, key_id: str, *, since: datetime, new_key: str | None = None) -> Succession | None:
    """Somebody else may hold a key since then: end it, put another in its place if it was in use, and log it.

    What it signed before ``since`` stays valid where a time stamp says so. Afterwards, with the keys read again,
    `renew` issues anew what does not.

    Raises:
        SettingsError: the trusted root has no such key, or the time lies ahead.
    """
    if since > system.clock():
        raise SettingsError("A key is not compromised in the future.", remedy="give the earliest time that it may be")
    with system.exclusive():
        root = system.keyring.trusted
        role = next((role for role in _ROLES if key_id in _windows(root, role)), None)
        if role is None:
            raise SettingsError(
                f"The trusted root has no key {key_id[:16]}.",
                remedy="give its whole SHA-256, as `mbd keys show` does",
            )
        end = min(since, system.clock() - timedelta(seconds=1))  # from this second on it signs nothing
        in_use = [key for key, window in _windows(root, role).items() if window.covers(system.clock())]
        succession = None
        if in_use == [key_id]:
            succession = _rotate(system, role, until=end, new_key=new_key)
        else:
            _publish(system, _ending(root, role, key_id, end))
        fresh = system.with_current_keys(certificate_key=new_key)
        with begin_locked(system.engine) as connection:
            if not any(known.kind == "key-compromised" for known in notices.about(connection, key_id)):
                index = ledger.head(connection).size
                log_notice(fresh, connection, KeyCompromised(key=key_id, since=since, since_index=index))
        sign_checkpoint(fresh)
        _destroy(system.home, role, key_id)
    return succession


def renew(system: System, key_id: str, on_step: Callable[[str], None] = lambda step: None) -> list[Certificate]:
    """Issue anew every current certificate under a key that does not verify any more. Returns the new ones.

    Each is whole when the next is begun; what a crash leaves undone, the next call does.
    """
    renewed = []
    for certificate in signed_by(system, key_id):
        if certificate.bundle is not None and not _still_verifies(system, certificate.bundle):
            on_step(f"issuing {certificate.id} anew")
            new = reissue(system, certificate.id)
            publish_certificate(system, new)
            renewed.append(new)
    return renewed


def trust_authority(system: System, url: str, chain: CertificateChain) -> None:
    """Let another time stamp authority state times, from now on. `MBD_TIMESTAMP_URL` has it asked.

    Raises:
        SettingsError: it is registered already.
    """
    with system.exclusive():
        root = system.keyring.trusted
        if any(authority.chain == chain for authority in root.authorities):
            raise SettingsError("The trusted root names this authority already.", remedy="set MBD_TIMESTAMP_URL")
        added = TrustedAuthority(chain, ValidFor(start=system.clock()), url)
        _publish(system, replace(root, authorities=(*root.authorities, added)))


def _still_verifies(system: System, bundle: str) -> bool:
    try:
        verify(bundle.encode(), system.keyring.trusted_root, at=system.clock())
    except CertificateError:
        return False
    return True


def _rotate(system: System, role: Rotated, *, until: datetime, new_key: str | None) -> Succession:
    root, now = system.keyring.trusted, system.clock()
    in_use = {key: window for key, window in _windows(root, role).items() if window.covers(now)}
    if len(in_use) != 1:
        raise SettingsError(
            f"Two keys for the {role} overlap until {min(w.end for w in in_use.values() if w.end):%Y-%m-%d %H:%M} UTC.",
            remedy="rotate again after that",
        )
    (old,) = in_use
    for ended, window in _windows(root, role).items():
        if window.end is not None and window.end < now:
            _destroy(system.home, role, ended)
    new = _external(system, role, new_key) if new_key else _unused(system, role) or _made(system, role)
    with begin_locked(system.engine) as connection:
        if not notices.about(connection, new.key_id):
            log_notice(system, connection, KeySucceeded(role=role, old_key=old, new_key=new.key_id))
    sign_checkpoint(system)
    _publish(system, _with(_ending(root, role, old, until), role, new, ValidFor(start=now)))
    return Succession(role, old, new.key_id, until)


def _windows(root: TrustedRoot, role: Rotated) -> dict[str, ValidFor]:
    """The keys of a role and their windows; of logs, those of the current origin."""
    if role == "certificate":
        return {signer.key.key_id: signer.valid_for for signer in root.signers}
    origin = root.logs[0].key.name
    return {log.key.key.key_id: log.valid_for for log in root.logs if log.key.name == origin}


def _ending(root: TrustedRoot, role: Rotated, key_id: str, end: datetime) -> TrustedRoot:
    if role == "certificate":
        signers = tuple(
            replace(each, valid_for=each.valid_for.ended(end)) if each.key.key_id == key_id else each
            for each in root.signers
        )
        return replace(root, signers=signers)
    logs = tuple(
        replace(each, valid_for=each.valid_for.ended(end)) if each.key.key.key_id == key_id else each
        for each in root.logs
    )
    return replace(root, logs=logs)


def _with(root: TrustedRoot, role: Rotated, key: PublicKey, window: ValidFor) -> TrustedRoot:
    if role == "certificate":
        return replace(root, signers=(*root.signers, TrustedSigner(key, window)))
    return replace(root, logs=(*root.logs, TrustedLog(NoteKey(root.logs[0].key.name, key), window)))


def _publish(system: System, root: TrustedRoot) -> None:
    publish(system.home, build_trusted_root(root.logs, root.signers, root.authorities))


def _made(system: System, role: Rotated) -> PublicKey:
    return add_key(system.home, role, _NEW[role](), passphrase=key_passphrase(system.settings))


def _external(system: System, role: Rotated, uri: str) -> PublicKey:
    signer = external_signer(system.settings.model_copy(update={"certificate_key": uri}))
    if role != "certificate" or signer is None:
        raise SettingsError("The log's key is a file.", remedy="rotate it without --new-key")
    if signer.key_id in _windows(system.keyring.trusted, role):
        raise SettingsError("This key is, or was, in use already.", remedy="make a new one in the token or service")
    return signer.key


def _unused(system: System, role: Rotated) -> PublicKey | None:
    """A key that a rotation made and did not live to publish."""
    known = {key_path(system.home, role, key_id) for key_id in _windows(system.keyring.trusted, role)}
    for path in sorted((system.home / "keys").glob(f"{role}-[0-9a-f]*.pem")):
        if path not in known:
            return PublicKey.from_spki(load_signer(path, passphrase=key_passphrase(system.settings)).public_key)
    return None


def _destroy(home: Path, role: Rotated, key_id: str) -> None:
    path = key_path(home, role, key_id)
    if path.exists():
        path.unlink()
        sync(path.parent)
