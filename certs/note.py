"""Signed notes (C2SP signed-note): a text, an empty line, and signature lines, each under a named key.

Three kinds of keys are known: logs (Ed25519), and cosigners (Ed25519 or ML-DSA-44, C2SP tlog-cosignature), which sign
a time as well. It knows how a note is put together and whose lines are in it, not what the text says.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from typing import Final, Never

from certs.encoding import decode_base64, encode_base64
from certs.errors import CertificateError, Code
from certs.keys import Algorithm, PublicKey

MAX_CHARACTERS: Final = 1 << 17
KEY_ID_BYTES: Final = 4
_NO_CHARACTER = re.compile(r"[\x00-\x09\x0b-\x1f\ud800-\udfff]")
_KEY_NAME = re.compile(r"[^\s+]+")
_SIGNATURE_LINE = re.compile(r"— ([^\s+]+) ([A-Za-z0-9+/=]+)")
_REMEDY = "ask the log for its checkpoint as it was signed"


class SignatureType(IntEnum):
    """What a signature line signs; the numbers are those of C2SP signed-note."""

    LOG = 0x01
    """Ed25519 over the text."""
    COSIGNATURE_ED25519 = 0x04
    """Ed25519 over a time and the text (``cosignature/v1``)."""
    COSIGNATURE_ML_DSA_44 = 0x06
    """ML-DSA-44 over the cosigner's name, a time, and the checkpoint's origin, size and root (``subtree/v1``)."""


_ALGORITHM = {
    SignatureType.LOG: Algorithm.ED25519,
    SignatureType.COSIGNATURE_ED25519: Algorithm.ED25519,
    SignatureType.COSIGNATURE_ML_DSA_44: Algorithm.ML_DSA_44,
}


@dataclass(frozen=True)
class NoteKey:
    """A public key under its name, as signed notes know it.

    Attributes:
        name: the key's name; for a log its origin.
        key: an Ed25519 or ML-DSA-44 key, as its type says.
        type: what the key signs.
    """

    name: str
    key: PublicKey
    type: SignatureType = SignatureType.LOG

    def __post_init__(self) -> None:
        if not _KEY_NAME.fullmatch(self.name) or _NO_CHARACTER.search(self.name):
            _refuse_key(f"{self.name!r} cannot name a key: it is empty, has a space or a plus, or is no text.")
        if self.key.algorithm is not _ALGORITHM[self.type]:
            who = "A log" if self.type is SignatureType.LOG else "This kind of cosigner"
            which = "ML-DSA-44" if self.type is SignatureType.COSIGNATURE_ML_DSA_44 else "Ed25519"
            _refuse_key(f"{who} signs with {which}.")

    @property
    def log_id(self) -> bytes:
        """SHA-256(name || 0x0A || type || key), 32 bytes; its first four are the note's key id."""
        return sha256(self.name.encode() + b"\n" + self._typed).digest()

    @property
    def key_id(self) -> bytes:
        """The four bytes before a signature of this key."""
        return self.log_id[:KEY_ID_BYTES]

    @property
    def vkey(self) -> str:
        """The text form ``name+hash+base64(type || key)`` that C2SP tools read."""
        return f"{self.name}+{self.key_id.hex()}+{encode_base64(self._typed)}"

    @classmethod
    def from_vkey(cls, vkey: str) -> "NoteKey":
        """The inverse of `vkey`.

        Raises:
            CertificateError: ``key-invalid``.
        """
        name, _, rest = vkey.partition("+")
        hash_hex, _, encoded = rest.partition("+")
        try:
            typed = decode_base64(encoded)
        except ValueError:
            _refuse_key("The verifier key is not of the form name+hash+base64.")
        if typed[:1] not in {bytes([kind]) for kind in SignatureType}:
            _refuse_key("The verifier key is neither Ed25519 nor ML-DSA-44 of a type that is known here.")
        kind = SignatureType(typed[0])
        note_key = cls(name, PublicKey.from_raw(_ALGORITHM[kind], typed[1:]), kind)
        if note_key.key_id.hex() != hash_hex:
            _refuse_key("The verifier key's hash does not fit its name and key.")
        return note_key

    @property
    def _typed(self) -> bytes:
        return bytes([self.type]) + self.key.raw


@dataclass(frozen=True)
class SignatureLine:
    """One line of a note: somebody's name, the key id, and what follows it.

    Attributes:
        key_id: four bytes.
        signature: the rest; of a cosignature, eight bytes of time come first.
    """

    name: str
    key_id: bytes
    signature: bytes

    @property
    def text(self) -> str:
        """The line with its newline."""
        return f"— {self.name} {encode_base64(self.key_id + self.signature)}\n"

    def is_of(self, key: NoteKey) -> bool:
        """Whether the line says that it is this key's."""
        return self.name == key.name and self.key_id == key.key_id


def join(text: str, lines: Iterable[SignatureLine]) -> str:
    """The note of a text and its signature lines."""
    return text + "\n" + "".join(line.text for line in lines)


def split(note: str) -> tuple[str, tuple[SignatureLine, ...]]:
    """The text and the signature lines of a note, of which there is at least one. Nothing is checked of them.

    Raises:
        CertificateError: ``checkpoint-malformed``.
    """
    if len(note) > MAX_CHARACTERS or not note.endswith("\n"):
        _refuse("The checkpoint is too long or its last line is not complete.")
    if _NO_CHARACTER.search(note):
        _refuse("The checkpoint holds a control character, or half of a surrogate pair.")
    text, separator, block = note.rpartition("\n\n")
    if not separator or not block:
        _refuse("The checkpoint has no signatures.")
    return text + "\n", parse_lines(block)


def parse_lines(block: str) -> tuple[SignatureLine, ...]:
    """Signature lines alone, each with its newline, as a witness returns them.

    Raises:
        CertificateError: ``checkpoint-malformed``.
    """
    lines = []
    if not block.endswith("\n"):
        _refuse("The last signature line is not complete.")
    for line in block[:-1].split("\n"):
        match = _SIGNATURE_LINE.fullmatch(line)
        if not match:
            _refuse("A signature line of the checkpoint is malformed.")
        try:
            signed = decode_base64(match[2])
        except ValueError:
            _refuse("A signature line of the checkpoint is not base64.")
        if len(signed) <= KEY_ID_BYTES:
            _refuse("A signature of the checkpoint is too short.")
        lines.append(SignatureLine(match[1], signed[:KEY_ID_BYTES], signed[KEY_ID_BYTES:]))
    return tuple(lines)


def _refuse(message: str) -> Never:
    raise CertificateError(Code.CHECKPOINT_MALFORMED, message, remedy=_REMEDY)


def _refuse_key(message: str) -> Never:
    raise CertificateError(Code.KEY_INVALID, message, remedy="ask for the verifier key as its owner publishes it")
