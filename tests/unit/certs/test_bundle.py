"""The certificate file: what is built is read back, and no byte of it can change."""

import json

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from certs import bundle
from certs import note as notes
from certs.encoding import canonical_json, encode_base64
from certs.errors import CertificateError, Code, VerificationError
from certs.vectors import make, make_stamped
from certs.verification import verify

UNAUTHENTICATED: frozenset[int] = frozenset()
"""Positions whose change is harmless by design. There are none: a certificate has one encoding."""


@pytest.mark.parametrize("name", ["certified", "channel", "noise-commitment"])
def test_no_byte_of_a_certificate_can_be_flipped(name, golden, trusted_root, at):
    """One bit of every byte, a different one from byte to byte."""
    original = golden(f"{name}.sigstore.json")
    verify(original, trusted_root, at=at)
    accepted = frozenset(n for n in range(len(original)) if _accepts(original, n, 1 << n % 8, trusted_root, at))
    assert accepted == UNAUTHENTICATED


def test_what_can_be_flipped_in_a_cosigned_certificate_stands_in_lines_of_unknown_keys(at):
    """A line of a witness, or of an algorithm, that the trusted root does not know, and no other byte."""
    original = (make_stamped.STAMPED / "successor.sigstore.json").read_bytes()
    root = (make_stamped.STAMPED / "trusted_root.json").read_bytes()
    keys = [make_stamped.ml_dsa_key, make_stamped.witness_key]
    note = bundle.parse(original).entry.inclusion_proof.checkpoint.envelope
    unknown: set[int] = set()
    for line in notes.split(note)[1]:
        if any(line.is_of(key) for key in keys):
            text = json.dumps(line.text, ensure_ascii=False)[1:-1].encode()
            unknown |= set(range(start := original.index(text), start + len(text)))
    inside = sorted(unknown)[::61]
    outside = [n for n in range(len(original)) if n not in unknown]
    assert len(outside) > 6000
    assert {n for n in outside if _accepts(original, n, 1 << n % 8, root, at)} == set()
    assert {n for n in inside if _accepts(original, n, 1, root, at)} <= unknown
    said = verify(original, root, at=at)
    for n in inside:
        if _accepts(original, n, 1, root, at):
            changed = verify(_flipped(original, n, 1), root, at=at)
            assert (changed.statement, changed.leaf_hash, changed.signed_at) == (
                said.statement,
                said.leaf_hash,
                said.signed_at,
            )


@pytest.mark.parametrize("bit", range(8))
@pytest.mark.parametrize("name", ["certified", "channel", "noise-commitment"])
def test_no_bit_of_a_certificate_can_be_flipped(name, bit, golden, trusted_root, at):
    """Each bit of every 29th byte: coprime to base64's groups of four, so that all places in a group occur."""
    original = golden(f"{name}.sigstore.json")
    sample = range(bit, len(original), 29)
    assert frozenset(n for n in sample if _accepts(original, n, 1 << bit, trusted_root, at)) == UNAUTHENTICATED


def test_no_byte_can_be_removed_or_repeated(golden, trusted_root, at):
    original = golden("noise-commitment.sigstore.json")
    for n in range(len(original)):
        for changed in (original[:n] + original[n + 1 :], original[: n + 1] + original[n:]):
            with pytest.raises(VerificationError):
                verify(changed, trusted_root, at=at)


def test_the_second_form_of_an_ecdsa_signature_is_refused(golden, trusted_root, at):
    """(r, n - s) is as good a signature as (r, s): only the log entry, which has the first, tells them apart."""
    document = json.loads(golden("certified.sigstore.json"))
    parsed = bundle.parse(golden("certified.sigstore.json"))
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    r, s = decode_dss_signature(parsed.dsse_envelope.signature.sig)
    other = encode_dss_signature(r, order - s)
    assert make.certificate_key.verifies(other, parsed.dsse_envelope.signed_bytes)
    document["dsseEnvelope"]["signatures"][0]["sig"] = encode_base64(other)
    with pytest.raises(VerificationError) as failure:
        verify(canonical_json(document), trusted_root, at=at)
    assert (failure.value.step, failure.value.code) == (5, Code.ENTRY_MISMATCH)


def test_a_bundle_is_read_back_as_it_was_built(golden):
    parsed = bundle.parse(golden("exact.sigstore.json"))
    entry, proof = parsed.entry, parsed.entry.inclusion_proof
    again = bundle.build(
        parsed.dsse_envelope,
        make.certificate_key,
        log_id=entry.log_id.key_id,
        index=entry.log_index,
        tree_size=proof.tree_size,
        path=proof.hashes,
        body=entry.canonicalized_body,
        checkpoint=proof.checkpoint.envelope,
    )
    assert again == parsed
    assert again.canonical() == golden("exact.sigstore.json")


def test_a_bundle_whose_path_cannot_be_is_not_built(golden):
    parsed = bundle.parse(golden("exact.sigstore.json"))
    with pytest.raises(CertificateError) as failure:
        bundle.build(
            parsed.dsse_envelope,
            make.certificate_key,
            log_id=b"",
            index=2,
            tree_size=9,
            path=[],
            body=b"",
            checkpoint="",
        )
    assert failure.value.code is Code.INCLUSION_INVALID


def test_an_empty_list_of_time_stamps_is_accepted(golden, trusted_root, at):
    document = json.loads(golden("exact.sigstore.json"))
    document["verificationMaterial"]["timestampVerificationData"] = {"rfc3161Timestamps": []}
    assert verify(canonical_json(document), trusted_root, at=at).steps[3].result == "not present"


@pytest.mark.parametrize("document", [b"[]", b"null", b"1", b'"x"', b"{}"])
def test_what_is_no_bundle_at_all_is_called_that(document):
    with pytest.raises(CertificateError) as failure:
        bundle.parse(document)
    assert failure.value.code is Code.BUNDLE_VERSION_UNKNOWN


def _accepts(original, position, mask, trusted_root, at) -> bool:
    try:
        verify(_flipped(original, position, mask), trusted_root, at=at)
    except VerificationError:
        return False
    return True


def _flipped(original, position, mask) -> bytes:
    changed = bytearray(original)
    changed[position] ^= mask
    return bytes(changed)
