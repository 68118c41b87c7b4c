"""A deployment's secrets and what it publishes of them. It signs nothing itself and never prints a secret.

keys/certificate.pem    ECDSA P-256: signs certificates
keys/log.pem            Ed25519: signs checkpoints
keys/noise.secret       32 bytes: keys the noise; committed to in the log before any request is known
keys/subjects.secret    32 bytes: names people in the database
published/              trusted_root.json and PEM keys, for whoever verifies
"""

import hmac
import os
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from certs import checkpoint as checkpoints
from certs.key_files import load_signer, save_signer
from certs.keys import EcdsaP256Signer, Ed25519Signer, PublicKey, Signer
from certs.note import NoteKey
from certs.trusted_root import TrustedLog, TrustedRoot, TrustedSigner, ValidFor, build_trusted_root, parse
from mbd.durable import write_durably
from mbd.errors import SettingsError
from mbd.privacy.noise import SECRET_BYTES, NoiseSource
from mbd.records.ledger import TreeHead

_SUBJECT_DOMAIN = b"mbd subject key v1\0"


@dataclass(frozen=True)
class Keyring:
    """The keys of one deployment.

    Attributes:
        certificate: signs certificates.
        log: signs checkpoints.
        origin: the log's name.
        noise: the committed noise.
        trusted_root: what is published, as bytes.
    """

    certificate: Signer
    log: Signer
    origin: str
    noise: NoiseSource
    trusted_root: bytes
    _subjects: bytes = field(repr=False)

    def subject_key(self, subject: str) -> str:
        """How the database names a person: HMAC-SHA256 (hex) under a secret of this deployment."""
        return hmac.digest(self._subjects, _SUBJECT_DOMAIN + subject.encode(), "sha256").hex()

    @property
    def certificate_key(self) -> PublicKey:
        """The public half of the certificate key."""
        return PublicKey.from_spki(self.certificate.public_key)

    @property
    def note_key(self) -> NoteKey:
        """The public half of the log's key, under the log's name."""
        return NoteKey(self.origin, PublicKey.from_spki(self.log.public_key))

    @property
    def trusted(self) -> TrustedRoot:
        """What is published, parsed."""
        return parse(self.trusted_root)

    def read_checkpoint(self, note: str) -> TreeHead:
        """The head that a checkpoint of ours signs.

        Raises:
            CertificateError: it is not a checkpoint that this deployment's log key signed.
        """
        checkpoint, _ = checkpoints.verify(note, [self.note_key])
        return TreeHead(checkpoint.size, checkpoint.root)


def create_keyring(home: Path, *, origin: str, passphrase: bytes | None, now: datetime) -> Keyring:
    """Make all keys of a new deployment and publish their public halves.

    Crash point: the trusted root is written last; without it the folder counts as unmade, and the next start refuses
    it and says so, rather than sign with keys that nobody can know.

    Raises:
        SettingsError: there are keys already.
    """
    keys, published = home / "keys", home / "published"
    try:
        keys.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        raise SettingsError(
            f"There are keys in {keys} already.", remedy="use them; keys are never overwritten"
        ) from None
    published.mkdir(exist_ok=True)
    certificate, log = EcdsaP256Signer.generate(), Ed25519Signer.generate()
    save_signer(keys / "certificate.pem", certificate, passphrase=passphrase)
    save_signer(keys / "log.pem", log, passphrase=passphrase)
    for name in ("noise.secret", "subjects.secret"):
        _write_secret(keys / name, secrets.token_bytes(SECRET_BYTES))
    window = ValidFor(start=now)
    log_key = PublicKey.from_spki(log.public_key)
    certificate_key = PublicKey.from_spki(certificate.public_key)
    (published / "certificate-key.pem").write_bytes(certificate_key.pem)
    (published / "log-key.pem").write_bytes(log_key.pem)
    note_key = NoteKey(origin, log_key)
    (published / "log.vkey").write_text(note_key.vkey + "\n")
    root = build_trusted_root([TrustedLog(note_key, window)], [TrustedSigner(certificate_key, window)])
    write_durably(published / "trusted_root.json", root)
    return open_keyring(home, passphrase=passphrase)


def open_keyring(home: Path, *, passphrase: bytes | None) -> Keyring:
    """The keys of a deployment.

    Raises:
        SettingsError: there are none, or they are not all there.
        KeyFileError: a key file is readable by others, or the passphrase is wrong.
    """
    keys, root = home / "keys", home / "published" / "trusted_root.json"
    if not keys.exists():
        raise SettingsError(f"There are no keys in {keys}.", remedy="make them with `mbd keys init`")
    try:
        trusted_root = root.read_bytes()
        noise, subjects = (_read_secret(keys / name) for name in ("noise.secret", "subjects.secret"))
    except FileNotFoundError as error:
        raise SettingsError(
            f"The keys in {home} are not complete: {error.filename} is missing.",
            remedy="restore it from a backup; if `mbd keys init` was interrupted, remove keys/ and published/",
        ) from error
    return Keyring(
        certificate=load_signer(keys / "certificate.pem", passphrase=passphrase),
        log=load_signer(keys / "log.pem", passphrase=passphrase),
        origin=parse(trusted_root).logs[0].key.name,
        noise=NoiseSource(noise),
        trusted_root=trusted_root,
        _subjects=subjects,
    )


def _write_secret(path: Path, secret: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secret)
        file.flush()
        os.fsync(descriptor)


def _read_secret(path: Path) -> bytes:
    if path.stat().st_mode & 0o077:
        raise SettingsError(f"{path} can be read by others.", remedy=f"run: chmod 600 {path}")
    return path.read_bytes()
