"""A deployment's secrets and what it publishes of them. It signs nothing itself and never prints a secret.

keys/certificate-ID.pem   ECDSA P-256: signs certificates; none where a token or a key service does
keys/log-ID.pem           Ed25519: signs checkpoints
keys/log-ml-dsa-44-ID.pem ML-DSA-44: signs them too, where that is asked for
keys/time-stamps-ID.pem   ECDSA P-256: the deployment's own time stamp authority
keys/noise.secret         32 bytes: keys the noise; committed to in the log before any request is known
keys/subjects.secret      32 bytes: names people in the database
published/                trusted_root.json, tlog-policy and PEM keys, for whoever verifies

ID is the beginning of the SHA-256 of the public key. The published trusted root says which keys there are and when each
may sign; what it does not name is not used.
"""

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

from certs import checkpoint as checkpoints
from certs.key_files import FileSigner, load_signer, save_signer
from certs.keys import EcdsaP256Signer, Ed25519Signer, MlDsa44Signer, PublicKey, Signer
from certs.note import NoteKey, SignatureType
from certs.timestamp_authority import TimestampAuthority
from certs.trusted_root import (
    TrustedAuthority,
    TrustedLog,
    TrustedRoot,
    TrustedSigner,
    ValidFor,
    build_trusted_root,
    parse,
)
from mbd.durable import write_durably
from mbd.errors import SettingsError
from mbd.privacy.noise import SECRET_BYTES, NoiseSource
from mbd.records.ledger import TreeHead
from mbd.workflow.dumps import forbid_core_dumps
from mbd.workflow.identities import SECRET, read_secret

Role: TypeAlias = Literal["certificate", "log", "log-ml-dsa-44", "time-stamps"]
"""What a key file is for; the beginning of its name."""

_T = TypeVar("_T", TrustedLog, TrustedSigner)
_NOISE = "noise.secret"
_ID_CHARACTERS = 16


@dataclass(frozen=True)
class Keyring:
    """The keys of one deployment.

    Attributes:
        certificate: signs certificates.
        logs: sign checkpoints together: all Ed25519 keys of the log whose windows are open, the oldest first, and the
            ML-DSA-44 key if there is one.
        origin: the log's name.
        authority: the deployment's own time stamp authority.
        noise: the committed noise.
        trusted_root: what is published, as bytes.
    """

    certificate: Signer
    logs: tuple[Signer, ...]
    origin: str
    authority: TimestampAuthority
    noise: NoiseSource
    trusted_root: bytes

    @property
    def certificate_key(self) -> PublicKey:
        """The public half of the certificate key."""
        return PublicKey.from_spki(self.certificate.public_key)

    @property
    def note_key(self) -> NoteKey:
        """The log's key that bundles name: the oldest open one, which verifiers have known for longest."""
        return NoteKey(self.origin, PublicKey.from_spki(self.logs[0].public_key))

    @property
    def log_keys(self) -> tuple[NoteKey, ...]:
        """All keys that the log has or had, the ML-DSA-44 one among them."""
        known = tuple(log.key for log in self.trusted.logs if log.key.name == self.origin)
        return (*known, self.ml_dsa_key) if self.ml_dsa_key else known

    @property
    def ml_dsa_key(self) -> NoteKey | None:
        """The log's second algorithm, if it has one."""
        for signer in self.logs:
            key = PublicKey.from_spki(signer.public_key)
            if isinstance(signer, MlDsa44Signer):
                return NoteKey(self.origin, key, SignatureType.COSIGNATURE_ML_DSA_44)
        return None

    @property
    def trusted(self) -> TrustedRoot:
        """What is published, parsed."""
        return parse(self.trusted_root)

    def read_checkpoint(self, note: str) -> TreeHead:
        """The head that a checkpoint of ours signs, under any key that the log has or had.

        Raises:
            CertificateError: it is not a checkpoint that this deployment's log signed.
        """
        checkpoint, _ = checkpoints.verify(note, self.log_keys)
        return TreeHead(checkpoint.size, checkpoint.root)


def create_keyring(
    home: Path,
    *,
    origin: str,
    passphrase: bytes | None,
    ml_dsa: bool,
    now: datetime,
    external: Signer | None = None,
) -> Keyring:
    """Make all keys of a new deployment and publish their public halves.

    The certificate key is not made where `external` has one already.

    Crash point: the trusted root is written last; without it the folder counts as unmade, and the next start refuses
    it and says so, rather than sign with keys that nobody can know.

    Raises:
        SettingsError: there are keys already.
    """
    forbid_core_dumps()
    keys = home / "keys"
    try:
        keys.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        raise SettingsError(
            f"There are keys in {keys} already.", remedy="use them; keys are never overwritten"
        ) from None
    for name in (_NOISE, SECRET):
        _write_secret(keys / name, secrets.token_bytes(SECRET_BYTES))
    if ml_dsa:
        add_key(home, "log-ml-dsa-44", MlDsa44Signer.generate(), passphrase=passphrase)
    authority = TimestampAuthority.generate(origin, now=now)
    add_key(home, "time-stamps", authority.signer, passphrase=passphrase)
    window = ValidFor(start=now)
    if external is None:
        certificate = add_key(home, "certificate", EcdsaP256Signer.generate(), passphrase=passphrase)
    else:
        certificate = PublicKey.from_spki(external.public_key)
    log = NoteKey(origin, add_key(home, "log", Ed25519Signer.generate(), passphrase=passphrase))
    publish(
        home,
        build_trusted_root(
            [TrustedLog(log, window)], [TrustedSigner(certificate, window)], [TrustedAuthority(authority.chain, window)]
        ),
    )
    return open_keyring(home, passphrase=passphrase, now=now, external=external)


def add_key(home: Path, role: Role, signer: FileSigner, *, passphrase: bytes | None) -> PublicKey:
    """Write a new private key. It signs nothing until a trusted root names it."""
    save_signer(key_path(home, role, signer.key_id), signer, passphrase=passphrase)
    return PublicKey.from_spki(signer.public_key)


def key_path(home: Path, role: Role, key_id: str) -> Path:
    """Where a private key lies, by its SHA-256 (hex)."""
    return home / "keys" / f"{role}-{key_id[:_ID_CHARACTERS]}.pem"


def publish(home: Path, trusted_root: bytes) -> None:
    """Replace what is published. From the moment that the trusted root is on disk, it is in force.

    Crash point: the files beside it are made of it, and the next training or revocation makes what is missing.
    """
    published = home / "published"
    published.mkdir(parents=True, exist_ok=True)
    write_durably(published / "trusted_root.json", trusted_root)
    publish_derived(home)


def publish_derived(home: Path) -> None:
    """The same keys in the forms that other tools read: PEM, verifier keys, and chains of time stamp authorities."""
    published = home / "published"
    root = parse((published / "trusted_root.json").read_bytes())
    files: dict[str, bytes] = {}
    for signer in root.signers:
        files[f"certificate-key-{signer.key.key_id[:_ID_CHARACTERS]}.pem"] = signer.key.pem
    for log in root.logs:
        name = f"log-key-{log.key.key.key_id[:_ID_CHARACTERS]}"
        files |= {f"{name}.pem": log.key.key.pem, f"{name}.vkey": f"{log.key.vkey}\n".encode()}
    for number, authority in enumerate(root.authorities):
        files[f"time-stamp-chain-{number}.pem"] = authority.chain.pem
    for file, data in files.items():
        path = published / file
        if not path.exists() or path.read_bytes() != data:
            write_durably(path, data)


def open_keyring(home: Path, *, passphrase: bytes | None, now: datetime, external: Signer | None = None) -> Keyring:
    """The keys of a deployment that may sign now.

    In an overlap of two keys the older one signs certificates until its window ends, and both sign checkpoints.

    Raises:
        SettingsError: there are none, they are not all there, or the certificate key is not in the trusted root.
        KeyFileError: a key file is readable by others, or the passphrase is wrong.
    """
    forbid_core_dumps()
    keys, root_path = home / "keys", home / "published" / "trusted_root.json"
    if not keys.exists():
        raise SettingsError(f"There are no keys in {keys}.", remedy="make them with `mbd keys init`")
    try:
        trusted_root = root_path.read_bytes()
    except FileNotFoundError as error:
        raise SettingsError(
            f"The keys in {home} are not complete: {error.filename} is missing.",
            remedy="restore it from a backup; if `mbd keys init` was interrupted, remove keys/ and published/",
        ) from error
    noise = read_secret(keys / _NOISE)
    root = parse(trusted_root)
    origin = root.logs[0].key.name
    open_logs = _open([log for log in root.logs if log.key.name == origin], now)
    if not open_logs:
        raise SettingsError("No key of the log may sign now: every window has ended.", remedy="see docs/keys.md")
    chain = next(authority.chain for authority in root.authorities if authority.uri is None)
    authority_key = PublicKey.from_certificate(chain.certificates[0])
    stamper = load_signer(key_path(home, "time-stamps", authority_key.key_id), passphrase=passphrase)
    assert isinstance(stamper, EcdsaP256Signer), "our authority's key is made so"
    logs: list[Signer] = [
        load_signer(key_path(home, "log", log.key.key.key_id), passphrase=passphrase) for log in open_logs
    ]
    logs += [load_signer(path, passphrase=passphrase) for path in sorted(keys.glob("log-ml-dsa-44-*.pem"))]
    return Keyring(
        certificate=_certificate_signer(home, root, now=now, passphrase=passphrase, external=external),
        logs=tuple(logs),
        origin=origin,
        authority=TimestampAuthority(stamper, chain),
        noise=NoiseSource(noise),
        trusted_root=trusted_root,
    )


def _open(trusted: Sequence[_T], now: datetime) -> list[_T]:
    """Those whose window is open, the oldest first."""
    return sorted((each for each in trusted if each.valid_for.covers(now)), key=lambda each: each.valid_for.start)


def _certificate_signer(
    home: Path, root: TrustedRoot, *, now: datetime, passphrase: bytes | None, external: Signer | None
) -> Signer:
    """Who signs certificates now: of the keys that may, the oldest that is here."""
    if external is not None and external.key_id not in {signer.key.key_id for signer in root.signers}:
        raise SettingsError(
            "The key that MBD_CERTIFICATE_KEY names is not one that this deployment's trusted_root.json names.",
            remedy="set it as when the keys were made; to change keys, `mbd keys rotate certificate --new-key URI`",
        )
    for key_id in (signer.key.key_id for signer in _open(root.signers, now)):
        if external is not None and external.key_id == key_id:
            return external
        path = key_path(home, "certificate", key_id)
        if path.exists():
            return load_signer(path, passphrase=passphrase)
    raise SettingsError(
        "No certificate key that is here is one that trusted_root.json lets sign now.",
        remedy="set MBD_CERTIFICATE_KEY to the key that was made or rotated to, or restore its file from a backup",
    )


def _write_secret(path: Path, secret: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secret)
        file.flush()
        os.fsync(descriptor)
