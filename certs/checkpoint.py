"""Signed tree heads: C2SP tlog-checkpoint in a signed note, under the log's signature and cosigners'.

A checkpoint says "the log of this origin had this root at this size". A cosigner (a witness) says with it "and at this
time it was the largest that I have seen, consistent with all before". It knows neither leaves nor proofs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Never

from certs import note as notes
from certs.encoding import decode_base64, decode_decimal, encode_base64
from certs.errors import CertificateError, Code
from certs.keys import Algorithm, PublicKey, Signer
from certs.merkle import HASH_BYTES
from certs.note import NoteKey, SignatureLine, SignatureType

_TIME_BYTES = 8
_REMEDY = "ask the log for its checkpoint as it was signed"
_COSIGNATURE = {
    Algorithm.ED25519: SignatureType.COSIGNATURE_ED25519,
    Algorithm.ML_DSA_44: SignatureType.COSIGNATURE_ML_DSA_44,
}


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
        """The note's text."""
        return "\n".join([self.origin, str(self.size), encode_base64(self.root), *self.extensions]) + "\n"


def sign(checkpoint: Checkpoint, signers: Sequence[Signer], *, at: datetime) -> str:
    """The note that a log signs under its origin: Ed25519 lines over the text, ML-DSA-44 lines as a cosigner's."""
    return notes.join(
        checkpoint.text,
        (
            _sign_as_log(checkpoint, signer)
            if signer.algorithm is Algorithm.ED25519
            else cosign(checkpoint, checkpoint.origin, signer, at=at)
            for signer in signers
        ),
    )


def cosign(checkpoint: Checkpoint, name: str, signer: Signer, *, at: datetime) -> SignatureLine:
    """A cosigner's line: C2SP tlog-cosignature, of the kind that the signer's algorithm has.

    Raises:
        CertificateError: ``key-invalid`` for an algorithm that cannot cosign.
    """
    kind = _COSIGNATURE.get(signer.algorithm)
    if kind is None:
        raise CertificateError(
            Code.KEY_INVALID, f"{signer.algorithm} cannot cosign.", remedy="use an Ed25519 or ML-DSA-44 key"
        )
    key = NoteKey(name, PublicKey.from_spki(signer.public_key), kind)
    time = int(at.timestamp())
    signature = signer.sign(_cosigned_message(key, checkpoint, time))
    return SignatureLine(name, key.key_id, time.to_bytes(_TIME_BYTES) + signature)


def parse(note: str) -> Checkpoint:
    """What a note says, **without** checking who signed it.

    Raises:
        CertificateError: ``checkpoint-malformed``.
    """
    return _parse_text(notes.split(note)[0])


def verify(note: str, keys: Sequence[NoteKey]) -> tuple[Checkpoint, tuple[NoteKey, ...]]:
    """The checkpoint and those of the keys that signed it, the log's among them.

    Lines of unknown keys are ignored (rotation, witnesses); a known key's wrong signature spoils the whole note. The
    log signed when a key did whose name is the origin.

    Raises:
        CertificateError: ``checkpoint-malformed``, ``checkpoint-signature-invalid`` or ``checkpoint-origin-mismatch``
            (signed by the key of another log).
    """
    text, lines = notes.split(note)
    checkpoint = _parse_text(text)
    signed_by = cosigners(checkpoint, lines, keys)
    if not signed_by:
        _refuse(Code.CHECKPOINT_SIGNATURE_INVALID, "No known key signed the checkpoint.")
    if any(key.name != checkpoint.origin and key.type is SignatureType.LOG for key in signed_by):
        _refuse(Code.CHECKPOINT_ORIGIN_MISMATCH, f"The checkpoint is of {checkpoint.origin}, signed by another log.")
    if all(key.name != checkpoint.origin for key in signed_by):
        _refuse(Code.CHECKPOINT_SIGNATURE_INVALID, "Witnesses signed the checkpoint, and the log itself did not.")
    return checkpoint, signed_by


def cosigners(checkpoint: Checkpoint, lines: Sequence[SignatureLine], keys: Sequence[NoteKey]) -> tuple[NoteKey, ...]:
    """Those of the keys, each once, that have a line here, whose every line is right.

    Raises:
        CertificateError: ``checkpoint-signature-invalid``: a known key's line is wrong.
    """
    signed_by: dict[NoteKey, None] = {}
    for line in lines:
        for key in keys:
            if not line.is_of(key):
                continue
            if not _verifies(key, checkpoint, line.signature):
                _refuse(Code.CHECKPOINT_SIGNATURE_INVALID, f"The checkpoint's signature by {line.name} is wrong.")
            signed_by[key] = None
    return tuple(signed_by)


def time_of(cosignature: SignatureLine) -> int:
    """When its cosigner says that it signed, in seconds since 1970; 0 says nothing."""
    return int.from_bytes(cosignature.signature[:_TIME_BYTES])


def _sign_as_log(checkpoint: Checkpoint, signer: Signer) -> SignatureLine:
    key = NoteKey(checkpoint.origin, PublicKey.from_spki(signer.public_key))
    return SignatureLine(key.name, key.key_id, signer.sign(checkpoint.text.encode()))


def _verifies(key: NoteKey, checkpoint: Checkpoint, signed: bytes) -> bool:
    if key.type is SignatureType.LOG:
        return key.key.verifies(signed, checkpoint.text.encode())
    time, signature = int.from_bytes(signed[:_TIME_BYTES]), signed[_TIME_BYTES:]
    return time < 1 << 63 and key.key.verifies(signature, _cosigned_message(key, checkpoint, time))


def _cosigned_message(key: NoteKey, checkpoint: Checkpoint, time: int) -> bytes:
    """What a cosigner signs (C2SP tlog-cosignature): lines of text for Ed25519, a structure for ML-DSA-44."""
    if key.type is SignatureType.COSIGNATURE_ED25519:
        return f"cosignature/v1\ntime {time}\n{checkpoint.text}".encode()
    name, origin = key.name.encode(), checkpoint.origin.encode()
    if max(len(name), len(origin)) > 255:
        _refuse(Code.CHECKPOINT_MALFORMED, "The name of a cosigner or of the log has more than 255 bytes.")
    return b"".join(
        (
            b"subtree/v1\n\0",
            len(name).to_bytes(1) + name,
            time.to_bytes(_TIME_BYTES),
            len(origin).to_bytes(1) + origin,
            bytes(_TIME_BYTES),  # the tree from its first leaf
            checkpoint.size.to_bytes(_TIME_BYTES),
            checkpoint.root,
        )
    )


def _parse_text(text: str) -> Checkpoint:
    lines = text[:-1].split("\n")
    if len(lines) < 3 or not all(lines):
        _refuse(Code.CHECKPOINT_MALFORMED, "The checkpoint does not have origin, size and root on lines of their own.")
    try:
        size = decode_decimal(lines[1])
    except ValueError:
        _refuse(Code.CHECKPOINT_MALFORMED, "The checkpoint's size is not a plain decimal number.")
    try:
        root = decode_base64(lines[2])
    except ValueError:
        _refuse(Code.CHECKPOINT_MALFORMED, "The checkpoint's root is not base64.")
    if len(root) != HASH_BYTES:
        _refuse(Code.CHECKPOINT_MALFORMED, "The checkpoint's root does not have 32 bytes.")
    return Checkpoint(origin=lines[0], size=size, root=root, extensions=tuple(lines[3:]))


def _refuse(code: Code, message: str) -> Never:
    raise CertificateError(code, message, remedy=_REMEDY)
