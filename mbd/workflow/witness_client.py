"""Asks one witness to cosign a checkpoint (C2SP tlog-witness), over HTTP.

It knows no database: proofs come from its caller. What a witness says is believed only where its key signed it.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from certs import checkpoint as checkpoints
from certs import note as notes
from certs import witness as protocol
from certs.checkpoint import Checkpoint
from certs.encoding import decode_decimal
from certs.errors import CertificateError
from certs.note import SignatureLine
from certs.policy import PolicyWitness

if TYPE_CHECKING:
    import httpx

SECONDS = 10.0
"""How long a witness may take in all, from the first question to the end of the last answer."""

_QUESTIONS = 8
"""To one witness: each answer 409 beyond the first means that another process of our log has just been served."""

_MAX_ANSWER = 1 << 16
_QUOTED = 200

Proof = Callable[[int], Sequence[bytes]]
"""RFC 6962 consistency proof from a smaller size to the checkpoint's."""


@dataclass(frozen=True)
class Ahead:
    """The witness remembers a larger size than it was asked about."""

    size: int


@dataclass(frozen=True)
class Refused:
    """The witness says that the checkpoint does not extend what it remembers."""

    reason: str


@dataclass(frozen=True)
class Silent:
    """The witness gave no cosignature, and said nothing about our log's history."""

    reason: str


Answer = SignatureLine | Ahead | Refused | Silent


@dataclass(frozen=True)
class _Reply:
    status: int
    body: str


def ask(witness: PolicyWitness, note: str, proof: Proof, *, known: int, seconds: float = SECONDS) -> Answer:
    """Ask a witness that has a URL for its cosignature.

    Args:
        witness: whom.
        note: the checkpoint as the log signed it.
        proof: consistency proofs to it.
        known: the size that the witness cosigned last, as far as the caller knows; 0 if never.
        seconds: how long all of it may take.
    """
    import httpx  # noqa: PLC0415 - an extra, which logs without witnesses lack

    checkpoint = checkpoints.parse(note)
    old = known
    deadline = time.monotonic() + seconds
    with httpx.Client(timeout=seconds, headers={"accept-encoding": "identity"}) as client:
        for _ in range(_QUESTIONS):  # again after a 409, which says from where the proof has to lead
            try:
                reply = _post(client, witness, protocol.request(old, proof(old), note), deadline)
            except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
                return Silent(f"it cannot be reached ({type(error).__name__}: {_quoted(str(error))})")
            if reply.status != 409:
                return _read(witness, checkpoint, reply)
            try:
                old = decode_decimal(reply.body.removesuffix("\n"))
            except ValueError:
                return Silent("it answered 409 without a size")
            if old > checkpoint.size:
                return Ahead(old)
    return Silent("it remembered another size each time that it was asked")


def _post(client: "httpx.Client", witness: PolicyWitness, body: str, deadline: float) -> _Reply:
    url = f"{(witness.url or '').rstrip('/')}/add-checkpoint"
    received = bytearray()
    with client.stream("POST", url, content=body.encode()) as response:
        for chunk in response.iter_raw():
            received += chunk
            if len(received) > _MAX_ANSWER:
                return _Reply(response.status_code, "")
            if time.monotonic() > deadline:
                raise TimeoutError("the answer took too long")
    return _Reply(response.status_code, received.decode("utf-8", "replace"))


def _read(witness: PolicyWitness, checkpoint: Checkpoint, reply: _Reply) -> Answer:
    if reply.status == 200:
        return _cosignature(witness, checkpoint, reply.body)
    if reply.status == 422:
        return Refused(_quoted(reply.body))
    return Silent(f"it answered {reply.status}: {_quoted(reply.body)}")


def _cosignature(witness: PolicyWitness, checkpoint: Checkpoint, body: str) -> SignatureLine | Silent:
    """The witness's own line; lines of others are ignored."""
    try:
        lines = [line for line in notes.parse_lines(body) if line.is_of(witness.key)]
        checkpoints.cosigners(checkpoint, lines, [witness.key])
    except CertificateError as error:
        return Silent(f"its answer is not usable: {error.message}")
    if not lines or checkpoints.time_of(lines[0]) == 0:
        return Silent("its answer holds no cosignature with a time of the key that the policy names")
    return lines[0]


def _quoted(text: str) -> str:
    """A stranger's words, on one line and not for long."""
    return " ".join(text.split())[:_QUOTED]
