"""What a certificate of absence says: that a live model's cohort holds no revocable channel of what was withdrawn.

Nothing was deleted, and nothing is said of any other version. These are frozen, append-only wire types, as those of
`certs.statement`, whose request, artifacts and manifest they share.
"""

from collections.abc import Sequence
from typing import Annotated, Final, Literal

from pydantic import Field

from certs.statement import STATEMENT_TYPE, Artifact, Manifest, Modality, Neighbour, Partition, Request
from certs.wire import Count, Digest, Slug, Text, Timestamp, Wire

MODALITY_ABSENCE: Final = "https://missing-by-design.dev/modality-absence/v1"


class ChannelAbsence(Wire):
    """That no leaf of the manifest has this key prefix: its neighbours are adjacent.

    ``subject`` is a person's commitment, the name by which the manifest would call them; null: nobody has it.
    """

    partition: Partition
    modality: Modality
    subject: Digest | None
    left: Neighbour | None
    right: Neighbour | None


class LiveVersion(Wire):
    """Which version of which model line was looked at; ``model_digest`` is of its manifest, a file of ``subject``."""

    model_line: Slug
    version: Count
    model_digest: Digest


class CheckedDataset(Wire):
    """The cohort of that version, and proofs that it does not hold what was withdrawn.

    A person is proven absent from both partitions. A modality of everybody is proven absent from the revocable one:
    nobody can withdraw what the public one holds.
    """

    manifest: Manifest
    absence: Annotated[tuple[ChannelAbsence, ...], Field(min_length=1)]


class ModalityAbsence(Wire):
    """The predicate of a certificate of absence."""

    request: Request
    subject_commitments: tuple[Digest, ...]
    lineage: LiveVersion
    dataset: CheckedDataset
    not_covered: Annotated[tuple[Text, ...], Field(min_length=1)]
    supersedes: Digest | None
    checked_at: Timestamp


class AbsenceStatement(Wire):
    """In-toto Statement v1: ``subject`` names the artifacts of the live model, and only those."""

    type_: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: Annotated[tuple[Artifact, ...], Field(min_length=1)]
    predicate_type: Literal["https://missing-by-design.dev/modality-absence/v1"]
    predicate: ModalityAbsence


def absence_statement(live: Sequence[Artifact], predicate: ModalityAbsence) -> AbsenceStatement:
    """The statement of an absence; ``live`` are all artifacts of the live model, its manifest among them."""
    return AbsenceStatement(
        type_=STATEMENT_TYPE, subject=tuple(live), predicate_type=MODALITY_ABSENCE, predicate=predicate
    )
