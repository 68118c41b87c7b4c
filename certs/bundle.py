"""The certificate file: a Sigstore Bundle v0.3 with a public key hint, a DSSE envelope and one entry of our log.

A certificate has one encoding, the RFC 8785 form of its JSON: no byte of it can change without being noticed. It knows
how a bundle is written, not whether it is true.
"""

from collections.abc import Sequence
from typing import Annotated, Final, Literal

from pydantic import Field

from certs.dsse import Envelope
from certs.encoding import canonical_json, parse_json, shown
from certs.entry import KIND, VERSION
from certs.errors import CertificateError, Code
from certs.keys import PublicKey
from certs.merkle import leaf_hash, root_from_inclusion
from certs.proof import TlogProof
from certs.wire import Base64, Decimal, LogId, Wire

MEDIA_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
_REMEDY = "ask the issuer for the certificate as it was issued; do not edit or re-format it"


class PublicKeyIdentifier(Wire):
    """Which key signed: base64 of SHA-256 of its SPKI DER."""

    hint: str


class KindVersion(Wire):
    """The kind of log entry; there is one."""

    kind: Literal["hashedrekord"] = KIND
    version: Literal["0.0.2"] = VERSION


class SignedCheckpoint(Wire):
    """The signed note, verbatim."""

    envelope: str


class InclusionProof(Wire):
    """The RFC 6962 audit path of the entry, the leaf's sibling first, in the tree of the checkpoint."""

    log_index: Decimal
    root_hash: Base64
    tree_size: Decimal
    hashes: Annotated[tuple[Base64, ...], Field(max_length=63)]
    checkpoint: SignedCheckpoint


class LogEntry(Wire):
    """The entry, its place and its proof."""

    log_index: Decimal
    log_id: LogId
    kind_version: KindVersion
    inclusion_proof: InclusionProof
    canonicalized_body: Base64


class Rfc3161Timestamp(Wire):
    """One time stamp token (RFC 3161) over the signature."""

    signed_timestamp: Base64


class TimestampVerificationData(Wire):
    """Time stamps beside the log."""

    rfc3161_timestamps: Annotated[tuple[Rfc3161Timestamp, ...], Field(alias="rfc3161Timestamps", max_length=8)] = ()


class VerificationMaterial(Wire):
    """Everything but the signed envelope."""

    public_key: PublicKeyIdentifier
    tlog_entries: Annotated[tuple[LogEntry, ...], Field(min_length=1, max_length=1)]
    timestamp_verification_data: TimestampVerificationData | None = None


class Bundle(Wire):
    """A certificate as a file."""

    media_type: Literal["application/vnd.dev.sigstore.bundle.v0.3+json"] = MEDIA_TYPE
    verification_material: VerificationMaterial
    dsse_envelope: Envelope

    @property
    def entry(self) -> LogEntry:
        """The one log entry."""
        return self.verification_material.tlog_entries[0]

    @property
    def hint(self) -> str:
        """Which key signed: base64 of SHA-256 of its SPKI DER."""
        return self.verification_material.public_key.hint

    @property
    def timestamps(self) -> tuple[bytes, ...]:
        """The time stamp tokens, DER."""
        data = self.verification_material.timestamp_verification_data
        return tuple(token.signed_timestamp for token in data.rfc3161_timestamps) if data else ()

    def canonical(self) -> bytes:
        """The file's bytes. Members that may be absent are left out, as protobuf's JSON does."""
        return canonical_json(self.model_dump(mode="json", by_alias=True, exclude_none=True))


def build(
    envelope: Envelope,
    key: PublicKey,
    *,
    log_id: bytes,
    index: int,
    tree_size: int,
    path: Sequence[bytes],
    body: bytes,
    checkpoint: str,
    timestamps: Sequence[bytes] = (),
) -> Bundle:
    """A bundle from a signed envelope and where its leaf stands.

    Args:
        envelope: as `certs.dsse.sign` returns it.
        key: the key that signed it.
        log_id: `certs.note.NoteKey.log_id`, 32 bytes.
        index: the leaf's position in the log.
        tree_size: the checkpoint's size.
        path: the audit path at ``tree_size``.
        body: the leaf, as `certs.entry.leaf` returns it.
        checkpoint: the signed note.
        timestamps: RFC 3161 time stamp responses (DER) over the envelope's signature.

    Raises:
        CertificateError: ``inclusion-invalid`` when path, index and size cannot belong together.
    """
    proof = InclusionProof(
        log_index=index,
        root_hash=root_from_inclusion(index, tree_size, leaf_hash(body), path),
        tree_size=tree_size,
        hashes=tuple(path),
        checkpoint=SignedCheckpoint(envelope=checkpoint),
    )
    entry = LogEntry(
        log_index=index,
        log_id=LogId(key_id=log_id),
        kind_version=KindVersion(),
        inclusion_proof=proof,
        canonicalized_body=body,
    )
    stamps = tuple(Rfc3161Timestamp(signed_timestamp=token) for token in timestamps)
    material = VerificationMaterial(
        public_key=PublicKeyIdentifier(hint=key.hint),
        tlog_entries=(entry,),
        timestamp_verification_data=TimestampVerificationData(rfc3161_timestamps=stamps) if stamps else None,
    )
    return Bundle(verification_material=material, dsse_envelope=envelope)


def text_proof(bundle: Bundle) -> TlogProof:
    """The C2SP text proof of the same entry under the same checkpoint."""
    proof = bundle.entry.inclusion_proof
    return TlogProof(proof.log_index, proof.hashes, proof.checkpoint.envelope)


def parse(data: bytes) -> Bundle:
    """A bundle from its bytes, which must be their own canonical form.

    Raises:
        CertificateError: ``json-*``, ``bundle-version-unknown``, ``bundle-malformed`` or ``bundle-not-canonical``.
    """
    value = parse_json(data)
    media_type = value.get("mediaType") if isinstance(value, dict) else None
    if media_type != MEDIA_TYPE:
        raise CertificateError(
            Code.BUNDLE_VERSION_UNKNOWN,
            f"The file's media type is {shown(media_type)}, not {MEDIA_TYPE}.",
            remedy="check that this is a certificate; a newer one needs a newer verifier",
        )
    bundle = Bundle.parse(data, Code.BUNDLE_MALFORMED, remedy=_REMEDY)
    if bundle.canonical() != data:
        raise CertificateError(
            Code.BUNDLE_NOT_CANONICAL,
            "The file says what a certificate says, but not in the one encoding (RFC 8785) that certificates have.",
            remedy=_REMEDY,
        )
    return bundle
