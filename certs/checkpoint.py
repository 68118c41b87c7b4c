"""Signed tree heads: C2SP tlog-checkpoint inside a C2SP signed-note with Ed25519 signatures (type 0x01).

A checkpoint says "the log of this origin had this root at this size". It knows neither leaves nor proofs.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Never

from certs.encoding import decode_base64, decode_decimal, encode_base64
from certs.errors import CertificateError, Code
from certs.keys import Algorithm, PublicKey, Signer
from certs.merkle import HASH_BYTES

MAX_NOTE_CHARACTERS = 1 << 17
_ED25519 = b"\x01"
_KEY_NAME = re.compile(r"[^\s+]+")
_SIGNATURE_LINE = re.compile(r"— ([^\s+]+) ([A-Za-z0-9+/=]+)")
_REMEDY = "ask the log for its checkpoint as it was signed"


@dataclass(frozen=True)
class NoteKey:
    """A log's public key under its name, as signed notes know it.

    Attributes:
        name: the key's name, for a log its origin.
        key: an Ed25519 key.
    """

    name: str
    key: PublicKey

    def __post_init__(self) -> None:
        if not _KEY_NAME.fullmatch(self.name):
            _refuse(Code.KEY_INVALID, f"{self.name!r} cannot name a key: it is empty or has a space or a plus.")
        if self.key.algorithm is not Algorithm.ED25519:
            _refuse(Code.KEY_INVALID, "A log signs with Ed25519.")

    @property
    def log_id(self) -> bytes:
        """SHA-256(name || 0x0A || 0x01 || key), 32 bytes; its first four are the note's key id."""
        return sha256(self.name.encode() + b"\n" + _ED25519 + self.key.ed25519_bytes).digest()

    @property
    def vkey(self) -> str:
        """The text form ``name+hash+base64(0x01 || key)`` that C2SP tools read."""
        return f"{self.name}+{self.log_id[:4].hex()}+{encode_base64(_ED25519 + self.key.ed25519_bytes)}"

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
            _refuse(Code.KEY_INVALID, "The verifier key is not of the form name+hash+base64.")
        if typed[:1] != _ED25519:
            _refuse(Code.KEY_INVALID, "The verifier key is not an Ed25519 key.")
        note_key = cls(name, PublicKey.from_ed25519(typed[1:]))
        if note_key.log_id[:4].hex() != hash_hex:
            _refuse(Code.KEY_INVALID, "The verifier key's hash does not fit its name and key.")
        return note_key


@dataclass(frozen=True)
class Checkpoint:
    """What a log says of itself at one size.

    Attributes:
        origin: the log's name, a URL without scheme.
        size: the number of leaves.
        root: the RFC 6962 root over them, 32 bytes.
        extensions: further lines, normally none.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The note's text, which is what is signed."""
        return "\n".join([self.origin, str(self.size), encode_base64(self.root), *self.extensions]) + "\n"


def sign(checkpoint: Checkpoint, signers: Sequence[tuple[str, Signer]]) -> str:
    """The signed note: the text, an empty line, and one signature line for each (key name, Ed25519 signer)."""
    lines = []
    for name, signer in signers:
        key = NoteKey(name, PublicKey.from_spki(signer.public_key))
        signature = signer.sign(checkpoint.text.encode())
        lines.append(f"— {name} {encode_base64(key.log_id[:4] + signature)}\n")
    return checkpoint.text + "\n" + "".join(lines)


def parse(note: str) -> Checkpoint:
    """What a note says, **without** checking who signed it.

    Raises:
        CertificateError: ``checkpoint-malformed``.
    """
    return _parse_text(_split(note)[0])


def verify(note: str, keys: Sequence[NoteKey]) -> tuple[Checkpoint, tuple[NoteKey, ...]]:
    """The checkpoint and those of the keys that signed it, at least one.

    Lines of unknown keys are ignored (rotation, witnesses); a known key's wrong signature spoils the whole note.

    Raises:
        CertificateError: ``checkpoint-malformed``, ``checkpoint-signature-invalid`` or ``checkpoint-origin-mismatch``
            (signed by a key whose name is not the origin).
    """
    text, signatures = _split(note)
    checkpoint = _parse_text(text)
    signed_by = []
    for name, typed in signatures:
        for key in keys:
            if key.name != name or key.log_id[:4] != typed[:4]:
                continue
            if not key.key.verifies(typed[4:], text.encode()):
                _refuse(Code.CHECKPOINT_SIGNATURE_INVALID, f"The checkpoint's signature by {name} is wrong.")
            signed_by.append(key)
    if not signed_by:
        _refuse(Code.CHECKPOINT_SIGNATURE_INVALID, "No known key signed the checkpoint.")
    if any(key.name != checkpoint.origin for key in signed_by):
        _refuse(Code.CHECKPOINT_ORIGIN_MISMATCH, f"The checkpoint is of {checkpoint.origin}, signed by another log.")
    return checkpoint, tuple(signed_by)


def _split(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    """The text, and (key name, key id and signature) of each signature line."""
    if len(note) > MAX_NOTE_CHARACTERS or not note.endswith("\n"):
        _refuse(Code.CHECKPOINT_MALFORMED, "The checkpoint is too long or its last line is not complete.")
    if any(ord(character) < 0x20 and character != "\n" for character in note):
        _refuse(Code.CHECKPOINT_MALFORMED, "The checkpoint holds a control character.")
    text, separator, block = note.rpartition("\n\n")
    if not separator or not block:
        _refuse(Code.CHECKPOINT_MALFORMED, "The checkpoint has no signatures.")
    signatures = []
    for line in block[:-1].split("\n"):
        match = _SIGNATURE_LINE.fullmatch(line)
        if not match:
            _refuse(Code.CHECKPOINT_MALFORMED, "A signature line of the checkpoint is malformed.")
        typed = _decode(match[2])
        if len(typed) < 5:
            _refuse(Code.CHECKPOINT_MALFORMED, "A signature of the checkpoint is too short.")
        signatures.append((match[1], typed))
    return text + "\n", signatures


def _parse_text(text: str) -> Checkpoint:
    lines = text[:-1].split("\n")
    if len(lines) < 3 or not all(lines):
        _refuse(Code.CHECKPOINT_MALFORMED, "The checkpoint does not have origin, size and root on lines of their own.")
    try:
        size = decode_decimal(lines[1])
    except ValueError:
        _refuse(Code.CHECKPOINT_MALFORMED, "The checkpoint's size is not a plain decimal number.")
    root = _decode(lines[2])
    if len(root) != HASH_BYTES:
        _refuse(Code.CHECKPOINT_MALFORMED, "The checkpoint's root does not have 32 bytes.")
    return Checkpoint(origin=lines[0], size=size, root=root, extensions=tuple(lines[3:]))


def _decode(text: str) -> bytes:
    try:
        return decode_base64(text)
    except ValueError:
        _refuse(Code.CHECKPOINT_MALFORMED, "The checkpoint holds something that is not base64.")


def _refuse(code: Code, message: str) -> Never:
    raise CertificateError(code, message, remedy=_REMEDY)
