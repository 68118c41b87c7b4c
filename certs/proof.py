"""The C2SP text proof (``c2sp.org/tlog-proof@v1``) that a leaf is in a log: one small file, read by C2SP tools.

It carries index, audit path and checkpoint, not the leaf: the holder brings that. The format's optional line of
extra data is authenticated by nothing, so we neither write nor accept it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Never

from certs import checkpoint as checkpoints
from certs.checkpoint import Checkpoint
from certs.encoding import decode_base64, decode_decimal, encode_base64
from certs.errors import CertificateError, Code
from certs.merkle import HASH_BYTES, leaf_hash, verify_inclusion
from certs.note import NoteKey

HEADER = "c2sp.org/tlog-proof@v1"
MAX_PATH = 63


@dataclass(frozen=True)
class TlogProof:
    """Where a leaf stands in a log.

    Attributes:
        index: the leaf's position, from 0.
        path: the RFC 6962 audit path, the leaf's sibling first.
        checkpoint: the signed note.
    """

    index: int
    path: tuple[bytes, ...]
    checkpoint: str

    @property
    def text(self) -> str:
        """The file's content."""
        lines = [HEADER, f"index {self.index}", *(encode_base64(digest) for digest in self.path)]
        return "\n".join(lines) + "\n\n" + self.checkpoint


def parse(text: str) -> TlogProof:
    """What a proof file says, without checking anything of it.

    Raises:
        CertificateError: ``proof-malformed``.
    """
    head, separator, note = text.partition("\n\n")
    lines = head.split("\n")
    if not separator or len(lines) < 2 or lines[0] != HEADER or not lines[1].startswith("index "):
        _refuse(f"The file does not begin as {HEADER} with an index and end with a checkpoint.")
    if len(lines) - 2 > MAX_PATH:
        _refuse("The proof has more hashes than any log needs.")
    try:
        index = decode_decimal(lines[1].removeprefix("index "))
        path = tuple(decode_base64(line) for line in lines[2:])
    except ValueError as error:
        _refuse(f"A line of the proof is {error}.")
    if any(len(digest) != HASH_BYTES for digest in path):
        _refuse("A hash of the proof does not have 32 bytes.")
    return TlogProof(index, path, note)


def verify(proof: TlogProof, leaf: bytes, keys: Sequence[NoteKey]) -> Checkpoint:
    """The checkpoint under which the leaf stands at the proof's index.

    Raises:
        CertificateError: ``checkpoint-*`` or ``inclusion-invalid``.
    """
    checkpoint, _ = checkpoints.verify(proof.checkpoint, keys)
    verify_inclusion(proof.index, checkpoint.size, leaf_hash(leaf), proof.path, checkpoint.root)
    return checkpoint


def _refuse(message: str) -> Never:
    raise CertificateError(Code.PROOF_MALFORMED, message, remedy="ask the log for the proof again")
