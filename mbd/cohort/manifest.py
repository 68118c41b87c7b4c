"""A Merkle tree over what a cohort holds, and proofs that a subject's channel is not in it.

One leaf for each row and present channel, sorted, so that two neighbours prove that nothing lies between them. Contents
are HMACs under a key that is drawn for each manifest; a subject's name is an HMAC under an opening of their own, which
derives from that key. Without key or opening a leaf names nobody, and destroying the key unlinks it. It knows nothing
of files or certificates; whoever verifies a proof uses `certs.absence`.
"""

import bisect
import hmac
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from typing import Any, TypedDict

from mbd.cohort.cohort import EVERYONE, Feature, Partition, Row
from mbd.cohort.modality import Modality
from mbd.cohort.piecewise import PiecewiseCohort
from mbd.errors import CohortError
from mbd.hashing import arrays_digest, canonical_json, json_digest, leaf_hash, path_in, tree_levels, tree_root

KEY_BYTES = 32

_IN_ORDER = attrgetter("partition", "modality", "subject", "content")  # text sorts as its UTF-8 bytes do

_OPENING_DOMAIN = b"mbd manifest opening v2\0"
_SUBJECT_DOMAIN = b"mbd manifest subject v2\0"
_CONTENT_DOMAIN = b"mbd manifest content v1\0"


class LeafFields(TypedDict):
    """What a leaf commits to; its data is the RFC 8785 bytes of this object."""

    content: str
    modality: str
    partition: str
    subject: str


class Neighbour(TypedDict):
    """A leaf beside the gap, with its RFC 6962 audit path, nearest sibling first (hex)."""

    index: int
    leaf: LeafFields
    path: list[str]


class AbsenceProof(TypedDict):
    """No leaf has these three fields: the sorted leaves left and right of where it would stand are neighbours.

    ``subject`` is a commitment, or None for everyone. A side is None where the gap is at that end of the tree.
    """

    partition: str
    modality: str
    subject: str | None
    left: Neighbour | None
    right: Neighbour | None


@dataclass(frozen=True, slots=True)
class Leaf:
    """One channel of one row, as commitments; the fields in sort order."""

    partition: str
    modality: str
    subject: str
    content: str

    @property
    def fields(self) -> LeafFields:
        """The leaf as it is written."""
        return {
            "content": self.content,
            "modality": self.modality,
            "partition": self.partition,
            "subject": self.subject,
        }

    @property
    def position(self) -> tuple[bytes, bytes, bytes, bytes]:
        """What leaves are sorted by: UTF-8 bytes, field by field."""
        return (
            self.partition.encode(),
            self.modality.encode(),
            self.subject.encode(),
            self.content.encode(),
        )


@dataclass(frozen=True)
class Manifest:
    """The tree over a cohort.

    Attributes:
        leaves: sorted by partition, modality, subject commitment and content digest.
        rows: how many rows the cohort has.
        key: the 32 secret bytes under which subjects and contents are committed.
    """

    leaves: tuple[Leaf, ...]
    rows: int
    key: bytes = field(repr=False)

    @cached_property
    def root(self) -> str:
        """The RFC 6962 root, hex."""
        return tree_root(self._hashes).hex()

    def commitment(self, subject: str) -> str:
        """A subject's name in this manifest: HMAC-SHA256(opening, domain || subject), hex."""
        return _name(self.key, subject)

    def opening(self, subject: str) -> bytes:
        """What shows a person that a commitment is theirs, and tells nothing about anybody else; 32 bytes."""
        return _opening(self.key, subject)

    def absence(self, subject: str, modality: Modality, partition: Partition = Partition.REVOCABLE) -> AbsenceProof:
        """Proof that no row of the subject, or of `EVERYONE`, in this partition has the channel.

        Raises:
            CohortError: it is there.
        """
        named = None if subject == EVERYONE else self.commitment(subject)
        wanted: tuple[bytes, ...] = (partition.encode(), modality.encode())
        if named is not None:
            wanted += (named.encode(),)

        def prefix(leaf: Leaf) -> tuple[bytes, ...]:
            return leaf.position[: len(wanted)]

        right = bisect.bisect_left(self.leaves, wanted, key=prefix)
        if right < len(self.leaves) and prefix(self.leaves[right]) == wanted:
            who = f"the {partition} partition" if named is None else f"subject '{subject}'"
            raise CohortError(
                f"The manifest still holds {modality} of {who}.", remedy="revoke it first; then prove its absence"
            )
        return {
            "partition": partition.value,
            "modality": modality.value,
            "subject": named,
            "left": self._neighbour(right - 1),
            "right": self._neighbour(right),
        }

    @cached_property
    def _hashes(self) -> list[bytes]:
        return [leaf_hash(canonical_json(leaf.fields)) for leaf in self.leaves]

    @cached_property
    def _levels(self) -> list[list[bytes]]:
        return tree_levels(self._hashes)

    def _neighbour(self, index: int) -> Neighbour | None:
        if not 0 <= index < len(self.leaves):
            return None
        path = path_in(self._levels, index)
        return {"index": index, "leaf": self.leaves[index].fields, "path": [node.hex() for node in path]}


def build_manifest(cohort: PiecewiseCohort, key: bytes) -> Manifest:
    """The manifest of all rows, in any order of rows and any pieces, under 32 fresh random bytes."""
    if len(key) != KEY_BYTES:
        raise CohortError(
            f"A manifest key has {KEY_BYTES} bytes, not {len(key)}.", remedy="draw one with secrets.token_bytes"
        )
    subjects: dict[str, str] = {}
    leaves: list[Leaf] = []
    rows = 0
    for piece in cohort.pieces():
        rows += len(piece)
        subjects |= {name: _name(key, name) for name in piece.subjects if name not in subjects}
        leaves += [
            Leaf(
                partition=row.partition.value,
                modality=modality.value,
                subject=subjects[row.subject],
                content=_commit(key, _CONTENT_DOMAIN, bytes.fromhex(_content(row, modality, feature))),
            )
            for modality in piece.modalities
            for row, feature in zip(piece.rows, piece.features[modality], strict=True)
            if feature is not None
        ]
    leaves.sort(key=_IN_ORDER)
    return Manifest(tuple(leaves), rows, key)


def _content(row: Row, modality: Modality, feature: Feature) -> str:
    """What the leaf is evidence of: the clip, its label and split, and the channel's dtype, shape and bytes."""
    content: dict[str, Any] = {
        "clip": row.clip,
        "label": row.label,
        "split": row.split.value,
        "features": arrays_digest({modality.value: feature}),
    }
    return json_digest(content)


def _opening(key: bytes, subject: str) -> bytes:
    return hmac.digest(key, _OPENING_DOMAIN + subject.encode(), "sha256")


def _name(key: bytes, subject: str) -> str:
    return _commit(_opening(key, subject), _SUBJECT_DOMAIN, subject.encode())


def _commit(key: bytes, domain: bytes, data: bytes) -> str:
    return hmac.digest(key, domain + data, "sha256").hex()
