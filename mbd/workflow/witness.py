"""A witness's folder: its name, its keys, the logs that it knows, and what it has cosigned last for each of them.

name                    the key name under which it cosigns
ed25519.pem, ...        a private key for each algorithm
logs                    verifier keys of known logs, one a line
checkpoints/<hash>      the cosigned checkpoint, by SHA-256 of the log's origin; beside it a lock

It knows neither our ledger nor HTTP. The folder must never go back in time: a witness that is restored from a backup
has forgotten sizes, and would cosign a second history. Give a restored one a new name and new keys.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from certs import checkpoint as checkpoints
from certs.checkpoint import Checkpoint
from certs.errors import CertificateError
from certs.key_files import load_signer, save_signer
from certs.keys import Algorithm, Ed25519Signer, MlDsa44Signer, PublicKey
from certs.note import NoteKey, SignatureType
from certs.witness import Cosigner, Submission, decide, read
from mbd.durable import locked, sync, write_durably
from mbd.errors import SettingsError
from mbd.workflow.dumps import forbid_core_dumps

KEY_FILES = {Algorithm.ED25519: "ed25519.pem", Algorithm.ML_DSA_44: "ml-dsa-44.pem"}
_TYPES = {
    Algorithm.ED25519: SignatureType.COSIGNATURE_ED25519,
    Algorithm.ML_DSA_44: SignatureType.COSIGNATURE_ML_DSA_44,
}
_LONGEST_NAME = 255
"""Bytes of a witness's or a log's name that an ML-DSA-44 cosignature can hold."""


@dataclass(frozen=True)
class Witness:
    """An opened witness. Any number of threads and processes may use one folder at once.

    Attributes:
        home: its folder.
        cosigners: its keys, all under its name.
        logs: the keys of the logs that it knows.
        clock: the time, with a zone.
    """

    home: Path
    cosigners: tuple[Cosigner, ...]
    logs: tuple[NoteKey, ...]
    clock: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))

    @property
    def keys(self) -> tuple[NoteKey, ...]:
        """The public halves of its keys, for policies."""
        return tuple(
            NoteKey(each.name, PublicKey.from_spki(each.signer.public_key), _TYPES[each.signer.algorithm])
            for each in self.cosigners
        )

    def read(self, body: bytes) -> Submission:
        """What a request says, once all is checked that needs no memory.

        Raises:
            RefusalError: see `certs.witness.read`.
        """
        return read(body, self.logs)

    def cosign(self, submission: Submission) -> str:
        """The witness's signature lines for a checkpoint that extends what it remembers.

        Crash point: the new checkpoint is on disk before the lines are returned. Whoever asked and got no answer asks
        again, and learns from the refusal (409) which size is remembered.

        Raises:
            RefusalError: see `certs.witness.decide`.
            SettingsError: what it remembers is damaged.
        """
        path = self._path(sha256(submission.checkpoint.origin.encode()).hexdigest())
        with locked(path.with_suffix(".lock")):
            latest = self._latest(path, submission.checkpoint.origin)
            cosigned = decide(submission, latest, self.cosigners, at=self.clock())
            write_durably(path, cosigned.note.encode())
        return cosigned.answer.body

    def checkpoint(self, origin_hash: str) -> bytes | None:
        """The note that it cosigned last, by SHA-256 (lower-case hex) of the log's origin, or None."""
        known = {sha256(key.name.encode()).hexdigest() for key in self.logs}
        try:
            return self._path(origin_hash).read_bytes() if origin_hash in known else None
        except FileNotFoundError:
            return None

    def _path(self, origin_hash: str) -> Path:
        return self.home / "checkpoints" / origin_hash

    def _latest(self, path: Path, origin: str) -> Checkpoint | None:
        try:
            latest = checkpoints.parse(path.read_bytes().decode())
        except FileNotFoundError:
            return None
        except (CertificateError, UnicodeDecodeError):
            latest = None
        if latest is None or latest.origin != origin:
            raise SettingsError(
                f"What the witness remembers of {origin} in {path} is damaged.",
                remedy="do not remove it, for the witness would forget; retire this witness and make a new one",
            )
        return latest


def create_witness(home: Path, *, name: str, algorithms: Sequence[Algorithm], passphrase: bytes | None) -> Witness:
    """Make a new witness.

    Crash point: the name is written last; without it the folder is no witness, and nothing was signed with its keys.

    Raises:
        SettingsError: there is a witness already, or the name cannot be one.
        KeyFileError: a key file is there already.
    """
    forbid_core_dumps()
    _require_name(name)
    if (home / "name").exists():
        raise SettingsError(f"There is a witness in {home} already.", remedy="use it; its keys are never overwritten")
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    sync(home.parent)
    (home / "checkpoints").mkdir(mode=0o700, exist_ok=True)
    for algorithm in dict.fromkeys(algorithms):
        signer = Ed25519Signer.generate() if algorithm is Algorithm.ED25519 else MlDsa44Signer.generate()
        save_signer(home / KEY_FILES[algorithm], signer, passphrase=passphrase)
    write_durably(home / "name", f"{name}\n".encode())
    return open_witness(home, passphrase=passphrase)


def open_witness(home: Path, *, passphrase: bytes | None, logs: Sequence[str] = ()) -> Witness:
    """A witness that `create_witness` made.

    Args:
        home: its folder.
        passphrase: of its private keys.
        logs: verifier keys of logs that it knows besides those of its file.

    Raises:
        SettingsError: there is none, or a log's key or name is not usable.
        KeyFileError: a key file is readable by others, or the passphrase is wrong.
    """
    forbid_core_dumps()
    try:
        name = (home / "name").read_text("utf-8").removesuffix("\n")
    except FileNotFoundError:
        raise SettingsError(f"There is no witness in {home}.", remedy="make one with `mbd witness init`") from None
    _require_name(name)
    signers = [load_signer(home / file, passphrase=passphrase) for file in KEY_FILES.values() if (home / file).exists()]
    if not signers:
        raise SettingsError(f"The witness in {home} has no key.", remedy="restore its key files from a backup")
    file = home / "logs"
    listed = file.read_text("utf-8").splitlines() if file.exists() else []
    vkeys = [line.strip() for line in [*listed, *logs] if line.strip() and not line.strip().startswith("#")]
    cosigners = tuple(Cosigner(name, signer) for signer in signers)
    return Witness(home, cosigners, tuple(dict.fromkeys(map(_log_key, vkeys))))


def _log_key(vkey: str) -> NoteKey:
    try:
        key = NoteKey.from_vkey(vkey)
    except CertificateError as error:
        raise SettingsError(f"A log's verifier key is not usable: {error.message}", remedy=error.remedy) from None
    _require_name(key.name)
    return key


def _require_name(name: str) -> None:
    try:
        NoteKey(name, PublicKey.from_spki(Ed25519Signer.generate().public_key))
    except CertificateError as error:
        raise SettingsError(error.message, remedy="use a URL without scheme, as witness.example/w1") from None
    if len(name.encode()) > _LONGEST_NAME:
        raise SettingsError(f"The name {name[:40]}... has more than {_LONGEST_NAME} bytes.", remedy="use a shorter one")
