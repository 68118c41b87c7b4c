"""Step 6: a copy of the log tells what it says later of a certificate; one that lies or is too short is refused."""

import json
from datetime import UTC, datetime

import pytest

from certs import bundle, notice
from certs import checkpoint as checkpoints
from certs.checkpoint import Checkpoint
from certs.errors import Code, VerificationError
from certs.keys import EcdsaP256Signer, Ed25519Signer, PublicKey
from certs.note import NoteKey, SignatureType
from certs.notice import CertificateRevoked, KeyCompromised, Predicate, Reason
from certs.tiles import EntryBundle
from certs.trusted_root import TrustedLog, TrustedRoot, ValidFor, build_trusted_root, parse
from certs.vectors import make, make_stamped
from certs.vectors.make_stamped import STAMPED, tile_files
from certs.verification import verify

AT = datetime(2026, 6, 1, tzinfo=UTC)
EXPECTED = json.loads((STAMPED / "expected.json").read_text("utf-8"))
ROOT = (STAMPED / "trusted_root.json").read_bytes()
LEAVES = EntryBundle(0, 11).parse((STAMPED / "log" / EntryBundle(0, 11).path).read_bytes())


def read(path):
    file = STAMPED / "log" / path
    return file.read_bytes() if file.exists() else None


def certificate(name):
    return (STAMPED / f"{name}.sigstore.json").read_bytes()


def copy_of(leaves, *, signers=(make_stamped.log_signer,), origin=make_stamped.ORIGIN):
    """A copy of a log with these entries, as a function from path to bytes."""
    note = checkpoints.sign(Checkpoint(origin, len(leaves), make.root_of(leaves)), signers, at=AT)
    files = {"checkpoint": note.encode(), **dict(tile_files(leaves))}
    return files.get


def refused(code, data, *logs, root=ROOT, step=6):
    with pytest.raises(VerificationError) as failure:
        verify(data, root, at=AT, logs=logs)
    assert (failure.value.step, failure.value.code) == (step, code)
    assert failure.value.remedy
    return failure.value.message


@pytest.mark.parametrize("case", EXPECTED, ids=lambda case: case["certificate"].partition(".")[0])
def test_the_golden_answers_hold_with_and_without_the_logs_copy(case):
    data = (STAMPED / case["certificate"]).read_bytes()
    alone = verify(data, ROOT, at=AT)
    assert case["code"] is None
    assert [(s.number, s.result) for s in alone.steps if s.number in (4, 6)] == [(4, "passed"), (6, "not present")]
    if case["codeWithLog"] is None:
        verified = verify(data, ROOT, at=AT, logs=[read])
        assert verified.verdict == f"valid as of checkpoint size 11 of {make_stamped.ORIGIN}"
        assert {step.number: step.result for step in verified.steps}[6] == "passed"
    else:
        refused(case["codeWithLog"], data, read)


def test_the_message_names_the_entry_and_the_successor():
    message = refused(Code.CERTIFICATE_REVOKED, certificate("superseded"), read)
    successor = bundle.parse(certificate("successor"))
    assert "Entry 10" in message
    assert notice.read(LEAVES[10])[0].notice.superseded_by in message
    assert make_stamped.leaf_hash(successor.entry.canonicalized_body).hex() in message


def test_a_stamp_before_the_theft_does_not_help_a_certificate_that_the_log_has_after_it():
    """A thief who bribes the authority for an old time still cannot put the entry into the log's past."""
    theft = notice.read(LEAVES[8])[0].notice
    before = bundle.parse(certificate("before-the-theft")).entry.log_index
    assert theft.since_index > before
    earlier = KeyCompromised(key=theft.key, since=theft.since, since_index=before)
    said = notice.leaf(Predicate(issued_at=AT, notice=earlier), make_stamped.successor)
    refused(Code.KEY_COMPROMISED, certificate("before-the-theft"), copy_of([*LEAVES, said]))


def test_a_copy_that_ends_before_the_certificate_is_refused():
    assert "7 entries" not in refused(Code.LOG_COPY_INVALID, certificate("successor"), copy_of(LEAVES[:8]))


def test_a_copy_of_another_log_is_refused():
    other = Ed25519Signer.generate()
    key = NoteKey("other.example/log", PublicKey.from_spki(other.public_key))
    window = ValidFor(start=make.VALID_FROM)
    root = parse(ROOT)
    both = _build(root, logs=(*root.logs, TrustedLog(key, window)))
    foreign = copy_of(LEAVES, signers=[other], origin=key.name)
    refused(Code.LOG_COPY_INVALID, certificate("successor"), foreign, root=both)
    refused(Code.CHECKPOINT_SIGNATURE_INVALID, certificate("successor"), foreign)


def test_a_forked_copy_is_refused():
    """The log signed a second history, in which the revocation never happened."""
    forked = [*LEAVES[:10], LEAVES[10][:-1] + b" }"]
    refused(Code.CONSISTENCY_INVALID, certificate("successor"), copy_of(forked))


def test_a_copy_that_hides_an_entry_is_refused():
    for change in (lambda entries: entries[:-1], lambda entries: [*entries[:-1], b"nothing to see"]):
        hidden = {"tile/entries/000.p/11": _encoded(change(LEAVES))}
        refused_by = {Code.TILE_MALFORMED, Code.TILE_MISMATCH}
        with pytest.raises(VerificationError) as failure:
            verify(
                certificate("superseded"), ROOT, at=AT, logs=[lambda path, files=hidden: files.get(path) or read(path)]
            )
        assert failure.value.code in refused_by
    refused(Code.TILE_MISSING, certificate("superseded"), lambda path: None if "entries" in path else read(path))
    refused(Code.LOG_COPY_INVALID, certificate("superseded"), lambda path: None)
    refused(Code.LOG_COPY_INVALID, certificate("superseded"), lambda path: b"\xff")


def test_a_notice_under_an_unknown_key_or_of_an_unknown_kind_is_not_passed_by():
    said = Predicate(
        issued_at=AT, notice=CertificateRevoked(leaf_hash="a" * 64, reason=Reason.CLAIM_WITHDRAWN, superseded_by=None)
    )
    strange = notice.leaf(said, EcdsaP256Signer.generate())
    refused(Code.KEY_UNKNOWN, certificate("successor"), copy_of([*LEAVES, strange]))
    garbage = b'{"apiVersion":"0.0.1","kind":"notice","spec":{}}'
    refused(Code.NOTICE_MALFORMED, certificate("successor"), copy_of([*LEAVES, garbage]))


def test_a_checkpoint_under_a_stolen_log_key_alone_does_not_count():
    new = Ed25519Signer.generate()
    key = NoteKey(make_stamped.ORIGIN, PublicKey.from_spki(new.public_key))
    root = parse(ROOT)
    both = _build(root, logs=(*root.logs, TrustedLog(key, ValidFor(start=make.VALID_FROM))))
    theft = KeyCompromised(key=make_stamped.log_signer.key_id, since=AT, since_index=11)
    leaves = [*LEAVES, notice.leaf(Predicate(issued_at=AT, notice=theft), make_stamped.successor)]
    refused(Code.KEY_COMPROMISED, certificate("successor"), copy_of(leaves), root=both)
    signed_by_both = copy_of(leaves, signers=[make_stamped.log_signer, new])
    verified = verify(certificate("successor"), both, at=AT, logs=[signed_by_both])
    assert verified.tree_size == 12


def test_a_log_that_took_over_can_revoke_what_the_old_one_has():
    other = Ed25519Signer.generate()
    key = NoteKey("next.example/log", PublicKey.from_spki(other.public_key))
    root = parse(ROOT)
    both = _build(root, logs=(*root.logs, TrustedLog(key, ValidFor(start=make.VALID_FROM))))
    own = make_stamped.leaf_hash(bundle.parse(certificate("successor")).entry.canonicalized_body).hex()
    revoked = CertificateRevoked(leaf_hash=own, reason=Reason.CLAIM_WITHDRAWN, superseded_by=None)
    said = notice.leaf(Predicate(issued_at=AT, notice=revoked), make_stamped.successor)
    later = copy_of([said], signers=[other], origin=key.name)
    message = refused(Code.CERTIFICATE_REVOKED, certificate("successor"), read, later, root=both)
    assert "next.example/log" in message
    assert verify(certificate("successor"), both, at=AT, logs=[read]).tree_size == 11


def test_a_revoked_window_ends_what_has_no_stamp_before_it():
    """The published root alone tells as much as a theft's notice does, to those who have no copy of the log."""
    root = parse(ROOT)
    ended = tuple(
        type(signer)(signer.key, ValidFor(start=signer.valid_for.start, end=make_stamped.STOLEN_SINCE))
        for signer in root.signers[:1]
    )
    published = _build(root, signers=(*ended, *root.signers[1:]))
    refused(Code.KEY_NOT_VALID, certificate("by-the-thief"), root=published, step=4)
    assert verify(certificate("before-the-theft"), published, at=AT).signed_at == make.DELETED_AT


def _encoded(entries):
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def _build(root: TrustedRoot, *, logs=None, signers=None) -> bytes:
    return build_trusted_root(logs or root.logs, signers or root.signers, root.authorities)


def policy_of(quorum, *witnesses, log=True):
    lines = [f"log {make_stamped.log_key.vkey}"] if log else []
    lines += [f"witness w{number} {key.vkey}" for number, key in enumerate(witnesses)]
    return "\n".join([*lines, f"quorum {quorum}", ""]).encode()


@pytest.mark.parametrize("log", [True, False])
def test_a_policy_asks_for_witnesses_and_the_report_names_them(log):
    known, second = make_stamped.witness_key, make_stamped.ml_dsa_key
    verified = verify(certificate("successor"), ROOT, at=AT, policy=policy_of("w0", known, log=log))
    assert known.name in verified.steps[4].detail
    verified = verify(certificate("successor"), ROOT, at=AT, policy=policy_of("w0", second, known, log=log))
    assert make_stamped.ORIGIN in verified.steps[4].detail
    verified = verify(certificate("successor"), ROOT, at=AT, policy=policy_of("none", log=log))
    assert "no witness" in verified.steps[4].detail


def test_a_quorum_that_is_not_reached_and_a_policy_for_another_log_are_refused():
    strange = NoteKey(
        make_stamped.witness_key.name, PublicKey.from_spki(Ed25519Signer.generate().public_key), SignatureType(4)
    )
    for policy, code, step in (
        (policy_of("w0", strange), Code.WITNESS_QUORUM_MISSING, 5),
        (policy_of("none").replace(b"log stamped", b"log stomped"), Code.KEY_INVALID, 1),
        (policy_of("w0"), Code.POLICY_MALFORMED, 1),
        (f"log {make.log_key.vkey}\nquorum none\n".encode(), Code.CHECKPOINT_SIGNATURE_INVALID, 5),
    ):
        with pytest.raises(VerificationError) as failure:
            verify(certificate("successor"), ROOT, at=AT, policy=policy)
        assert (failure.value.step, failure.value.code) == (step, code)
