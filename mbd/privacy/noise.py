"""Committed Gaussian noise: a ChaCha20 stream keyed by HKDF(secret, context). It keeps and logs nothing.

The operator commits to the secret in the log before any request is known. Whoever learns the stream's key can
subtract the noise, so neither the key nor the secret leaves this module except to the key file that holds it.
"""

import hashlib
import hmac
from dataclasses import dataclass, field

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray
from scipy.special import ndtri

from mbd.errors import PrivacyError

ALGORITHM = "chacha20-hkdf-sha256-sign-ndtri128"
SECRET_BYTES = 32
_COMMITMENT_LABEL = b"mbd noise commitment v1\0"
_KEY_LABEL = b"mbd noise stream v1\0"


@dataclass(frozen=True)
class NoiseSource:
    """Standard normal numbers that an auditor who is shown the secret can draw again.

    Attributes:
        secret: 32 bytes from the operating system's generator.
    """

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != SECRET_BYTES:
            raise PrivacyError(
                f"A noise secret has {SECRET_BYTES} bytes; this one has {len(self.secret)}.",
                remedy="make one with `mbd keys init`",
            )

    @property
    def commitment(self) -> str:
        """SHA-256 (hex) that binds the secret without showing it: the secret has 256 bits of its own."""
        return hashlib.sha256(_COMMITMENT_LABEL + self.secret).hexdigest()

    def matches(self, commitment: str) -> bool:
        """Whether this is the secret that was committed to."""
        return hmac.compare_digest(self.commitment, commitment)

    def standard_normal(self, context: bytes, count: int) -> NDArray[np.float64]:
        """The first ``count`` numbers of the stream that belongs to ``context``, float64 [count].

        The context must name everything that determines the mean which the noise hides: two releases with
        different means and one context would cancel their noise. 17 bytes make one number: a sign, and 128 bits
        that fix its half-tail, so that neighbouring values lie within float64's rounding of each other everywhere,
        far out in the tails as well.
        """
        key = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=_KEY_LABEL + context).derive(self.secret)
        stream = Cipher(algorithms.ChaCha20(key, b"\0" * 16), mode=None).encryptor().update(b"\0" * (17 * count))
        drawn = np.frombuffer(stream, dtype=np.dtype([("sign", "u1"), ("high", "<u8"), ("low", "<u8")]))
        high, low = drawn["high"].astype(np.float64), drawn["low"].astype(np.float64)
        half_tail = (high * 2.0**64 + low + 0.5) * 2.0**-129  # in (0, 1/2], with full relative precision
        magnitude = -np.asarray(ndtri(half_tail), dtype=np.float64)
        return np.where(drawn["sign"] & 1, magnitude, -magnitude)
