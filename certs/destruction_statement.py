"""What a statement of destruction says: which files of a retired version were removed, and what that does not prove.

It claims an act, and no more: nobody can prove that no copy exists. These are frozen, append-only wire types, as those
of `certs.statement`. The signed envelope stands alone: it is no certificate, and the log has no entry of it.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import Field

from certs import dsse
from certs.dsse import Envelope
from certs.errors import CertificateError, Code
from certs.keys import PublicKey, Signer
from certs.statement import STATEMENT_TYPE, Artifact, DigestSet
from certs.wire import Count, Digest, Slug, Text, Timestamp, Wire

VERSION_DESTRUCTION: Final = "https://missing-by-design.dev/version-destruction/v1"
MANIFEST: Final = "model.json"
"""The file of a version that names its other files; its digest is the version's."""

CLAIMED: Final = (
    "When the files were counted, the folder of this version held the files that are listed, and no others.",
    "Afterwards each of them was unlinked and its folder removed, and the file system was told to make that durable.",
)
NOT_COVERED: Final = (
    "Blocks of the disk: unlinking frees them and overwrites nothing.",
    "Flash memory and file systems that copy on write: overwriting would not have reached the old blocks either.",
    "Backups, snapshots and replicas of the file system, and copies that somebody made.",
    "Files of other versions with the same content: a backbone made of public rows alone goes on in the next version.",
    "Memory and swap space of processes that had loaded the files.",
)

_REMEDY = "ask the issuer for the statement as it was signed"


class RemovedFile(Wire):
    """One file.

    ``bytes`` and ``digest`` are null for files of rows: of two versions in a row, sizes and digests would tell about
    the person who left in between. The digest of the cohort's manifest, which names these files by their digests and
    holds 32 random bytes, stands for them.
    """

    name: Text
    bytes: Count | None
    digest: Digest | None


class DestroyedVersion(Wire):
    """Which version of which model line; ``model_digest`` is of its manifest, ``cohort_root`` of its rows' manifest."""

    model_line: Slug
    version: Count
    model_digest: Digest
    cohort_root: Digest


class VersionDestruction(Wire):
    """The predicate. No files: there were none to remove when the operator looked.

    ``method`` ``unlink``: what `CLAIMED` says in words; ``counted_at`` is before the first file was removed,
    ``destroyed_at`` after the last one was.
    """

    lineage: DestroyedVersion
    removed: tuple[RemovedFile, ...]
    method: Literal["unlink"]
    claimed: Annotated[tuple[Text, ...], Field(min_length=1)]
    not_covered: Annotated[tuple[Text, ...], Field(min_length=1)]
    counted_at: Timestamp
    destroyed_at: Timestamp


class DestructionStatement(Wire):
    """In-toto Statement v1: ``subject`` is the version's manifest, which names all other files of the model."""

    type_: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: Annotated[tuple[Artifact, ...], Field(min_length=1, max_length=1)]
    predicate_type: Literal["https://missing-by-design.dev/version-destruction/v1"]
    predicate: VersionDestruction


def sign(
    version: DestroyedVersion,
    removed: Sequence[RemovedFile],
    *,
    counted_at: datetime,
    destroyed_at: datetime,
    signer: Signer,
) -> Envelope:
    """The signed statement that a version's files were unlinked."""
    artifact = Artifact(name=MANIFEST, digest=DigestSet(sha256=version.model_digest))
    statement = DestructionStatement(
        type_=STATEMENT_TYPE,
        subject=(artifact,),
        predicate_type=VERSION_DESTRUCTION,
        predicate=VersionDestruction(
            lineage=version,
            removed=tuple(removed),
            method="unlink",
            claimed=CLAIMED,
            not_covered=NOT_COVERED,
            counted_at=counted_at,
            destroyed_at=destroyed_at,
        ),
    )
    return dsse.sign(statement.canonical(), signer)


def verify(envelope: bytes, key: PublicKey) -> VersionDestruction:
    """What a signed envelope (JSON) says, if this key signed it and it does not contradict itself.

    Raises:
        CertificateError: ``json-*``, ``payload-type-unknown``, ``signature-invalid``, ``statement-malformed``,
            ``model-identity``: its subject is another model's manifest; ``time-order``: removed before it was counted.
    """
    parsed = Envelope.parse(envelope, Code.STATEMENT_MALFORMED, remedy=_REMEDY)
    dsse.verify(parsed, key)
    statement = DestructionStatement.parse(parsed.payload, Code.STATEMENT_MALFORMED, remedy=_REMEDY)
    said, named = statement.predicate, statement.subject[0]
    if (named.name, named.digest.sha256) != (MANIFEST, said.lineage.model_digest):
        raise CertificateError(Code.MODEL_IDENTITY, "Its subject is not the version's manifest.", remedy=_REMEDY)
    if said.destroyed_at < said.counted_at:
        raise CertificateError(Code.TIME_ORDER, "The files were removed before they were counted.", remedy=_REMEDY)
    return said
