"""What a witness answers to add-checkpoint (C2SP tlog-witness): the order of its checks, its codes and its words.

It is told what the witness remembers, and says what must be remembered before the answer. It knows no HTTP, no files.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from certs import checkpoint as checkpoints
from certs import note as notes
from certs.checkpoint import Checkpoint
from certs.encoding import decode_base64, decode_decimal, encode_base64
from certs.errors import CertificateError
from certs.keys import Signer
from certs.merkle import EMPTY_ROOT, HASH_BYTES, verify_consistency
from certs.note import NoteKey, SignatureLine

MAX_BYTES: Final = notes.MAX_CHARACTERS - (1 << 13)
"""Of a request: 16 post-quantum signatures of 5 kB fit, and the note can still be read with our own lines in it."""

MAX_PROOF: Final = 63
SIZE_TYPE: Final = "text/x.tlog.size"
"""The content type of the answer 409, whose body is the size that the witness remembers."""

TEXT_TYPE: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True)
class Answer:
    """What goes back: an HTTP status, a body and its content type."""

    status: int
    body: str
    content_type: str = TEXT_TYPE


class RefusalError(Exception):
    """A request that gets no cosignature.

    Attributes:
        answer: what goes back instead.
    """

    def __init__(self, status: int, body: str, content_type: str = TEXT_TYPE) -> None:
        super().__init__(f"{status}: {body}")
        self.answer = Answer(status, body, content_type)


@dataclass(frozen=True)
class Cosigner:
    """A witness's key under the witness's name."""

    name: str
    signer: Signer


@dataclass(frozen=True)
class Submission:
    """A request whose checkpoint is signed by a known log.

    Attributes:
        old: the size from which the proof leads.
        proof: RFC 6962 consistency proof from ``old`` to the checkpoint.
        lines: the signatures of the log that were verified; those of others are dropped.
    """

    old: int
    proof: tuple[bytes, ...]
    checkpoint: Checkpoint
    lines: tuple[SignatureLine, ...]


@dataclass(frozen=True)
class Cosigned:
    """The answer to a request that passed, and the note that must be on disk before it is given."""

    answer: Answer
    note: str


def request(old: int, proof: Sequence[bytes], note: str) -> str:
    """The body of a request for cosignatures."""
    lines = [f"old {old}", *map(encode_base64, proof)]
    return "\n".join(lines) + "\n\n" + note


def read(body: bytes, logs: Sequence[NoteKey]) -> Submission:
    """Check all of a request that does not depend on what the witness remembers of the log.

    Args:
        body: the request as it came.
        logs: the keys of all known logs, each under its origin.

    Raises:
        RefusalError: 400 malformed; 404 the origin is unknown; 403 no known key of it signed, or a known key's
            signature is wrong; 400 the old size is above the checkpoint's.
    """
    try:
        old, proof, note = _parse(body)
        checkpoint, lines = checkpoints.parse(note), notes.split(note)[1]
    except (CertificateError, ValueError) as error:
        reason = error.message if isinstance(error, CertificateError) else str(error)
        raise RefusalError(400, f"The request is malformed: {reason}\n") from None
    keys = [key for key in logs if key.name == checkpoint.origin]
    if not keys:
        raise RefusalError(404, "This witness does not know the log.\n")
    try:
        checkpoints.verify(note, keys)
    except CertificateError as error:
        raise RefusalError(403, f"{error.message}\n") from None
    if old > checkpoint.size:
        raise RefusalError(400, f"The old size {old} is above the checkpoint's, {checkpoint.size}.\n")
    return Submission(old, proof, checkpoint, tuple(line for line in lines if any(map(line.is_of, keys))))


def decide(
    submission: Submission, latest: Checkpoint | None, cosigners: Sequence[Cosigner], *, at: datetime
) -> Cosigned:
    """Cosign the checkpoint if it extends the latest one.

    The caller holds a lock on the origin from reading ``latest`` until the note is on disk: two requests at once could
    otherwise both be consistent with ``latest``, and the smaller of them be remembered last.

    Args:
        submission: the request.
        latest: what this witness cosigned last for that origin, or None.
        cosigners: the witness's keys.
        at: the time, which the cosignatures state.

    Raises:
        RefusalError: 409 the witness remembers another size, which is the body; 422 the checkpoint does not extend
            what it remembers.
    """
    size, root = (latest.size, latest.root) if latest else (0, EMPTY_ROOT)
    new = submission.checkpoint
    if submission.old != size:
        raise RefusalError(409, f"{size}\n", SIZE_TYPE)
    try:
        verify_consistency(size, new.size, root, new.root, submission.proof)
    except CertificateError as error:
        raise RefusalError(422, f"{error.message}\n") from None
    own = [checkpoints.cosign(new, cosigner.name, cosigner.signer, at=at) for cosigner in cosigners]
    answer = Answer(200, "".join(line.text for line in own))
    return Cosigned(answer, notes.join(new.text, [*submission.lines, *own]))


def _parse(body: bytes) -> tuple[int, tuple[bytes, ...], str]:
    """Old size, proof and note.

    Raises:
        ValueError: not of that form; `UnicodeDecodeError` is one.
    """
    if len(body) > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES} bytes.")
    head, separator, note = body.decode().partition("\n\n")
    first, *hashes = head.split("\n")
    word, space, size = first.partition(" ")
    if not separator or word != "old" or not space:
        raise ValueError("it does not begin with a line of the old size, a proof and an empty line.")
    if len(hashes) > MAX_PROOF:
        raise ValueError(f"the proof has more than {MAX_PROOF} hashes.")
    proof = tuple(map(decode_base64, hashes))
    if any(len(digest) != HASH_BYTES for digest in proof):
        raise ValueError("a hash of the proof does not have 32 bytes.")
    return decode_decimal(size), proof, note
