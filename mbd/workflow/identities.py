"""People as the database knows them: a keyed hash to match them by, and an encrypted way to reach them, nothing else.

One secret of the deployment, ``keys/subjects.secret``, makes all of it. Whoever has the database alone can neither test
a guess of who is in it nor read how to reach anybody.
"""

import hmac
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mbd.errors import SettingsError

SECRET = "subjects.secret"  # noqa: S105 - the name of the file
CODE_DIGITS = 8

_SUBJECT_DOMAIN = b"mbd subject key v1\0"
_NONCE_BYTES = 12


@dataclass(frozen=True)
class Identities:
    """What the deployment's secret can do."""

    _secret: bytes = field(repr=False)

    def subject_key(self, subject: str) -> str:
        """How the database names a person: HMAC-SHA256 (hex) under a secret of this deployment."""
        return hmac.digest(self._secret, _SUBJECT_DOMAIN + subject.encode(), "sha256").hex()

    def derive(self, purpose: str) -> bytes:
        """A secret of 32 bytes for one purpose (HKDF-SHA256, RFC 5869): it tells nothing of the others."""
        return HKDF(SHA256(), length=32, salt=None, info=b"mbd " + purpose.encode()).derive(self._secret)

    def seal(self, plain: bytes, context: str) -> bytes:
        """Encrypt with AES-256-GCM, bound to what it belongs to: it opens nowhere else."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._box.encrypt(nonce, plain, context.encode())

    def open(self, sealed: bytes, context: str) -> bytes:
        """What was sealed.

        Raises:
            SettingsError: it was changed, moved from elsewhere, or sealed under another secret.
        """
        try:
            return self._box.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], context.encode())
        except (InvalidTag, ValueError):
            raise SettingsError(
                f"What is kept encrypted for '{context}' does not open.",
                remedy=f"restore keys/{SECRET} and the database as they were at one time",
            ) from None

    def code(self, request: str, number: int) -> str:
        """The code of a request's message of that number, which proves that somebody could read it.

        It is computed and never kept: what waits to be sent holds no secret.
        """
        mac = hmac.digest(self.derive("verification codes v1"), f"{request}\0{number}".encode(), "sha256")
        return f"{int.from_bytes(mac) % 10**CODE_DIGITS:0{CODE_DIGITS}d}"

    @property
    def _box(self) -> AESGCM:
        return AESGCM(self.derive("sealed at rest v1"))


def load_identities(home: Path) -> Identities:
    """The identities of a deployment.

    Raises:
        SettingsError: its secret is missing, or others can read it.
    """
    return Identities(read_secret(home / "keys" / SECRET))


def read_secret(path: Path) -> bytes:
    """A secret's file, which its owner alone may read.

    Raises:
        SettingsError: it is not there, or others can read it.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise SettingsError(f"{path} can be read by others.", remedy=f"run: chmod 600 {path}")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise SettingsError(
            f"The keys in {path.parent.parent} are not complete: {path} is missing.",
            remedy="restore it from a backup; if `mbd keys init` was interrupted, remove keys/ and published/",
        ) from error
