"""Verification as a whole: times, trust, artifacts, the noise commitment, and honest words."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from certs import checkpoint as checkpoints
from certs import trusted_root as roots
from certs.checkpoint import Checkpoint
from certs.encoding import canonical_json
from certs.errors import Code, VerificationError
from certs.keys import Ed25519Signer, PublicKey
from certs.note import NoteKey, SignatureLine, join
from certs.trusted_root import TrustedLog, TrustedSigner, ValidFor
from certs.vectors import make
from certs.verification import STEPS, verify

MODEL = {"model.json": make.digest_of("model 3")}
HEADS = {"heads.safetensors": make.digest_of("heads 3")}


def test_the_report_never_calls_a_missing_step_passed(golden, trusted_root, at):
    verified = verify(golden("certified.sigstore.json"), trusted_root, at=at)
    assert [step.number for step in verified.steps] == sorted(STEPS)
    assert {step.number for step in verified.steps if step.result == "not present"} == {4, 6, 8}
    assert verified.verdict.startswith("valid as of checkpoint size 6")
    assert (verified.leaf_index, verified.tree_size) == (1, 6)
    assert verified.key_id == make.certificate_key.key_id
    assert verified.log_id == make.log_key.log_id.hex()


@pytest.mark.parametrize(
    ("signer", "log", "failure"),
    [
        (ValidFor(start=datetime(2026, 7, 1, tzinfo=UTC)), None, (2, Code.KEY_NOT_VALID)),
        (ValidFor(start=make.VALID_FROM, end=datetime(2026, 5, 31, tzinfo=UTC)), None, (2, Code.KEY_NOT_VALID)),
        (ValidFor(start=datetime(2026, 3, 3, tzinfo=UTC)), None, (7, Code.TIME_ORDER)),
        (None, ValidFor(start=datetime(2026, 7, 1, tzinfo=UTC)), (5, Code.LOG_KEY_NOT_VALID)),
        (None, ValidFor(start=make.VALID_FROM, end=datetime(2026, 5, 31, tzinfo=UTC)), (5, Code.LOG_KEY_NOT_VALID)),
    ],
)
def test_keys_are_trusted_only_in_their_windows(signer, log, failure, golden, at):
    always = ValidFor(start=make.VALID_FROM)
    root = roots.build_trusted_root(
        [TrustedLog(make.log_key, log or always)], [TrustedSigner(make.certificate_key, signer or always)]
    )
    _refused(*failure, golden("certified.sigstore.json"), root, at=at)


def test_a_deletion_of_tomorrow_is_refused_beyond_the_skew_of_clocks(golden, trusted_root):
    certificate = golden("certified.sigstore.json")
    verify(certificate, trusted_root, at=make.DELETED_AT - timedelta(minutes=5))
    _refused(7, Code.TIME_ORDER, certificate, trusted_root, at=make.DELETED_AT - timedelta(minutes=5, seconds=1))


def test_another_issuers_trusted_root_does_not_verify_our_certificate(golden, at):
    other = PublicKey.from_spki(Ed25519Signer.generate().public_key)
    window = ValidFor(start=make.VALID_FROM)
    root = roots.build_trusted_root([TrustedLog(make.log_key, window)], [TrustedSigner(other, window)])
    _refused(2, Code.KEY_UNKNOWN, golden("certified.sigstore.json"), root, at=at)
    foreign = NoteKey(make.ORIGIN, other)
    root = roots.build_trusted_root([TrustedLog(foreign, window)], [TrustedSigner(make.certificate_key, window)])
    _refused(5, Code.LOG_UNKNOWN, golden("certified.sigstore.json"), root, at=at)


def test_a_checkpoint_of_another_log_that_we_trust_too_is_refused(golden, at, locate):
    """Both logs are trusted; the entry names one and brings the other's checkpoint."""
    window = ValidFor(start=make.VALID_FROM)
    signer = Ed25519Signer.generate()
    other = NoteKey("other.example/log", PublicKey.from_spki(signer.public_key))
    logs = [TrustedLog(make.log_key, window), TrustedLog(other, window)]
    root = roots.build_trusted_root(logs, [TrustedSigner(make.certificate_key, window)])
    document = json.loads(golden("certified.sigstore.json"))
    holder, last = locate(document, "/verificationMaterial/tlogEntries/0/inclusionProof/checkpoint/envelope")
    original = checkpoints.parse(holder[last])
    elsewhere = Checkpoint("other.example/log", original.size, original.root)
    holder[last] = checkpoints.sign(elsewhere, [signer], at=at)
    _refused(5, Code.CHECKPOINT_SIGNATURE_INVALID, canonical_json(document), root, at=at)
    signed = make.log_signer.sign(elsewhere.text.encode())
    holder[last] = join(elsewhere.text, [SignatureLine(make.ORIGIN, make.log_key.key_id, signed)])
    _refused(5, Code.CHECKPOINT_ORIGIN_MISMATCH, canonical_json(document), root, at=at)


def test_the_model_files_are_checked_by_name_and_digest(golden, trusted_root, at):
    certificate = golden("certified.sigstore.json")
    verified = verify(certificate, trusted_root, at=at, artifacts=MODEL | HEADS)
    assert verified.steps[-1].result == "passed"
    assert "2 of 3 files" in verified.steps[-1].detail
    assert "1 of 3 files" in verify(certificate, trusted_root, at=at, artifacts=HEADS).steps[-1].detail
    unknown = {"other.bin": make.digest_of("heads 3")}
    _refused(8, Code.ARTIFACT_UNKNOWN, certificate, trusted_root, at=at, artifacts=unknown)
    other = {"model.json": make.digest_of("heads 3")}
    _refused(8, Code.ARTIFACT_MISMATCH, certificate, trusted_root, at=at, artifacts=other)


def test_the_model_before_the_deletion_is_recognised(golden, trusted_root, at):
    before = {"heads.safetensors": make.digest_of("heads 2")}
    error = _refused(
        8, Code.ARTIFACT_MISMATCH, golden("certified.sigstore.json"), trusted_root, at=at, artifacts=before
    )
    assert "the model before the deletion" in error.message


def test_a_person_with_the_opening_finds_themselves_and_nobody_else_does(golden, trusted_root, at):
    certificate = golden("certified.sigstore.json")
    opening = make.OPENINGS["Cy"]
    last = verify(certificate, trusted_root, at=at, openings={"Cy": opening}).steps[-1]
    assert (last.result, last.detail) == ("passed", "Checked: the certificate is about 'Cy'.")
    wrong = ({"Ada": make.OPENINGS["Ada"]}, {"Ada": opening}, {"Cy": bytes(32)}, {"Cy": opening[:-1]}, {"cy": opening})
    for openings in (*wrong, {"Cy": opening, "Ada": make.OPENINGS["Ada"]}):
        _refused(8, Code.OPENING_MISMATCH, certificate, trusted_root, at=at, openings=openings)
    for about_nobody in ("exact", "noise-commitment"):
        other = golden(f"{about_nobody}.sigstore.json")
        _refused(8, Code.OPENING_MISMATCH, other, trusted_root, at=at, openings={"Cy": opening})


def test_the_noise_commitment_is_checked_against_its_own_certificate(golden, trusted_root, at, reissue):
    commitment = golden("noise-commitment.sigstore.json")
    certificate = golden("certified.sigstore.json")
    verified = verify(certificate, trusted_root, at=at, noise_commitment=commitment)
    assert "noise commitment" in verified.steps[-1].detail
    for changes in (
        {"/predicate/procedure/noise/commitment": "11" * 32},
        {"/predicate/procedure/noise/algorithm": "another"},
    ):
        changed = reissue("certified", changes)
        verify(changed, trusted_root, at=at)
        _refused(8, Code.COMMITMENT_MISMATCH, changed, trusted_root, at=at, noise_commitment=commitment)
    _refused(8, Code.COMMITMENT_MISMATCH, certificate, trusted_root, at=at, noise_commitment=certificate)
    exact = golden("exact.sigstore.json")
    _refused(8, Code.COMMITMENT_MISMATCH, exact, trusted_root, at=at, noise_commitment=commitment)
    broken = commitment.replace(b"hashedrekord", b"hashedrekore")
    error = _refused(8, Code.BUNDLE_MALFORMED, certificate, trusted_root, at=at, noise_commitment=broken)
    assert "own certificate fails in step 1" in error.message


def test_a_secret_committed_to_after_the_request_is_refused(golden, trusted_root, at, reissue):
    early = reissue("certified", {"/predicate/request/requestedAt": "2026-01-02T07:59:59Z"})
    commitment = golden("noise-commitment.sigstore.json")
    verify(early, trusted_root, at=at)
    _refused(8, Code.TIME_ORDER, early, trusted_root, at=at, noise_commitment=commitment)


def test_verifying_loads_nothing_of_ours_and_no_science():
    ours = ("mbd", "api", "migrations", "torch", "numpy", "scipy", "sqlalchemy", "alembic")
    program = f"import sys, certs.verification; print([m for m in sys.modules if m.split('.')[0] in {ours}])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def _refused(step, code, *arguments, **options) -> VerificationError:
    with pytest.raises(VerificationError) as failure:
        verify(*arguments, **options)
    assert (failure.value.step, failure.value.code) == (step, code)
    assert str(failure.value).startswith(f"Step {step}: [{code}]")
    return failure.value
