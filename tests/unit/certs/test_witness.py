"""What a witness answers, check by check: C2SP tlog-witness, add-checkpoint."""

from datetime import UTC, datetime

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey
from hypothesis import given
from hypothesis import strategies as st

from certs import checkpoint as checkpoints
from certs.checkpoint import Checkpoint
from certs.encoding import decode_base64, encode_base64
from certs.keys import Ed25519Signer, MlDsa44Signer, PublicKey
from certs.merkle import leaf_hash
from certs.note import NoteKey, SignatureLine, join, parse_lines, split
from certs.witness import MAX_BYTES, SIZE_TYPE, Cosigner, RefusalError, decide, read, request
from mbd.hashing import tree_root
from mbd.records.tree import consistency_ranges

ORIGIN = "example.org/log"
AT = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
LOG = Ed25519Signer.generate()
LOG_KEY = NoteKey(ORIGIN, PublicKey.from_spki(LOG.public_key))
STRANGER = Ed25519Signer.generate()
ED, ML = (
    Cosigner("witness.example/w1", Ed25519Signer.generate()),
    Cosigner("witness.example/w1", MlDsa44Signer.generate()),
)
LEAVES = [leaf_hash(f"entry {n}".encode()) for n in range(20)]
OTHERS = [leaf_hash(f"another {n}".encode()) for n in range(20)]


def head(size, leaves=LEAVES):
    return Checkpoint(ORIGIN, size, tree_root(leaves[:size]))


def proof(old, new, leaves=LEAVES):
    return [tree_root(leaves[low:high]) for low, high in consistency_ranges(old, new)] if old else []


def signed(checkpoint, signers=(LOG,)):
    return checkpoints.sign(checkpoint, list(signers), at=AT)


def submit(old, new, latest=None, *, leaves=LEAVES, hashes=None, note=None, logs=(LOG_KEY,), cosigners=(ED,)):
    """The answer to a request, and the note to remember: None if it was refused."""
    hashes = proof(old, new, leaves) if hashes is None else hashes
    body = request(old, hashes, note or signed(head(new, leaves)))
    return answer(body.encode(), latest, logs, cosigners)


def answer(body, latest=None, logs=(LOG_KEY,), cosigners=(ED,)):
    try:
        cosigned = decide(read(body, logs), latest, cosigners, at=AT)
    except RefusalError as refused:
        return refused.answer, None
    return cosigned.answer, cosigned.note


def test_the_first_checkpoint_of_a_log_is_cosigned_without_a_proof():
    said, note = submit(0, 7)
    assert (said.status, said.content_type) == (200, "text/plain; charset=utf-8")
    (line,) = parse_lines(said.body)
    assert note == signed(head(7)) + line.text


@pytest.mark.parametrize(("old", "new"), [(old, new) for new in range(1, 20, 3) for old in range(0, new + 1, 2)])
def test_a_growing_log_is_cosigned(old, new):
    assert submit(old, new, head(old))[0].status == 200


def test_the_same_checkpoint_is_cosigned_again():
    assert submit(7, 7, head(7))[0].status == 200
    assert submit(0, 0, head(0))[0].status == 200


def test_the_empty_log_is_cosigned_with_its_one_root():
    assert submit(0, 0)[0].status == 200
    wrong = signed(Checkpoint(ORIGIN, 0, bytes(32)))
    assert submit(0, 0, note=wrong)[0].status == 422
    assert submit(0, 0, head(0), note=wrong)[0].status == 422


def test_each_key_of_the_witness_gives_a_line():
    said, note = submit(0, 7, cosigners=(ED, ML))
    assert [len(line.signature) for line in parse_lines(said.body)] == [8 + 64, 8 + 2420]
    assert note.endswith(said.body)


def test_the_bytes_of_an_ed25519_cosignature_are_those_of_the_specification():
    """Put together here from C2SP tlog-cosignature, and verified by `cryptography` alone."""
    said, _ = submit(0, 7)
    dash, name, encoded = said.body.rstrip("\n").split(" ")
    assert (dash, name) == ("\u2014", "witness.example/w1")
    raw = decode_base64(encoded)
    time = int.from_bytes(raw[4:12], "big")
    assert time == 1780315200 == AT.timestamp()
    message = f"cosignature/v1\ntime 1780315200\n{ORIGIN}\n7\n{encode_base64(tree_root(LEAVES[:7]))}\n".encode()
    key = Ed25519PublicKey.from_public_bytes(PublicKey.from_spki(ED.signer.public_key).raw)
    key.verify(raw[12:], message)
    with pytest.raises(InvalidSignature):
        key.verify(raw[12:], message.replace(b"time 1", b"time 2"))


def test_the_bytes_of_an_ml_dsa_44_cosignature_are_those_of_the_specification():
    said, _ = submit(0, 7, cosigners=(ML,))
    raw = decode_base64(said.body.rstrip("\n").split(" ")[2])
    message = (
        b"subtree/v1\n\x00"
        b"\x12witness.example/w1"
        + (1780315200).to_bytes(8, "big")
        + b"\x0fexample.org/log"
        + (0).to_bytes(8, "big")
        + (7).to_bytes(8, "big")
        + tree_root(LEAVES[:7])
    )
    key = MLDSA44PublicKey.from_public_bytes(PublicKey.from_spki(ML.signer.public_key).raw)
    key.verify(raw[12:], message)
    with pytest.raises(InvalidSignature):
        key.verify(raw[12:], message[:-1] + b"\x00")


def test_another_size_than_the_remembered_one_is_a_conflict_that_tells_the_size():
    for old, latest, told in ((0, head(7), "7\n"), (5, head(7), "7\n"), (7, head(5), "5\n"), (7, None, "0\n")):
        said, note = submit(old, 9, latest)
        assert (said.status, said.body, said.content_type, note) == (409, told, SIZE_TYPE, None)
    assert SIZE_TYPE == "text/x.tlog.size"


def test_a_smaller_checkpoint_than_the_remembered_one_is_never_cosigned():
    """An honest old size is above the checkpoint's (400), any other one a conflict (409)."""
    assert submit(7, 5, head(7), hashes=[])[0].status == 400
    assert submit(5, 5, head(7))[0].status == 409
    assert submit(0, 5, head(7))[0].status == 409


def test_an_old_size_above_the_checkpoints_is_malformed_whatever_is_remembered():
    for latest in (None, head(3), head(9)):
        assert submit(9, 7, latest, hashes=[])[0].status == 400


def test_a_fork_is_refused():
    assert submit(7, 9, head(7), leaves=OTHERS)[0].status == 422
    assert submit(7, 7, head(7), leaves=OTHERS)[0].status == 422
    mixed = LEAVES[:5] + OTHERS[5:]
    assert submit(7, 9, head(7), leaves=mixed)[0].status == 422
    assert submit(5, 9, head(5), leaves=mixed)[0].status == 200


@pytest.mark.parametrize(
    ("old", "new", "hashes"),
    [
        (0, 7, [LEAVES[0]]),  # from nothing no proof is needed, and none is taken
        (7, 7, [LEAVES[0]]),
        (7, 9, []),
        (7, 9, proof(7, 9)[:-1]),
        (7, 9, [*proof(7, 9), LEAVES[0]]),
        (7, 9, proof(7, 9)[::-1]),
        (7, 9, proof(6, 9)),
    ],
)
def test_a_proof_that_does_not_hold_is_refused(old, new, hashes):
    assert submit(old, new, head(old) if old else None, hashes=hashes)[0].status == 422


def test_a_log_that_it_does_not_know_is_not_found():
    other = signed(Checkpoint("other.example", 7, tree_root(LEAVES[:7])))
    assert submit(0, 7, note=other)[0].status == 404
    assert submit(0, 7, logs=())[0].status == 404
    # the checkpoint says whose it is, not the line below it
    text, lines = split(signed(head(7)))
    assert submit(0, 7, note=join(text.replace(ORIGIN, "other.example"), lines))[0].status == 404


def test_without_a_right_signature_of_a_known_key_it_is_forbidden():
    assert submit(0, 7, note=signed(head(7), [STRANGER]))[0].status == 403
    text, (line,) = split(signed(head(7)))
    wrong = SignatureLine(line.name, line.key_id, bytes(64))
    assert submit(0, 7, note=join(text, [wrong]))[0].status == 403
    assert submit(0, 7, note=join(text, [line, wrong]))[0].status == 403
    assert submit(0, 7, note=join(text, [SignatureLine("other.example", line.key_id, line.signature)]))[0].status == 403


def test_forbidden_comes_before_what_is_said_of_sizes():
    assert submit(9, 7, head(3), hashes=[], note=signed(head(7), [STRANGER]))[0].status == 403


def test_lines_of_unknown_keys_are_ignored_and_not_remembered():
    foreign = checkpoints.cosign(head(7), "witness.example/w2", Ed25519Signer.generate(), at=AT)
    said, note = submit(0, 7, note=signed(head(7), [STRANGER, LOG]) + foreign.text)
    assert said.status == 200
    assert note == signed(head(7)) + said.body


def test_a_log_can_sign_with_two_keys_or_with_ml_dsa_44_alone():
    second = MlDsa44Signer.generate()
    key = NoteKey(ORIGIN, PublicKey.from_spki(second.public_key), 0x06)
    note = signed(head(7), [LOG, second])
    assert submit(0, 7, note=note, logs=(LOG_KEY, key))[1].startswith(note)
    assert submit(0, 7, note=signed(head(7), [second]), logs=(key,))[0].status == 200


def test_extension_lines_are_cosigned_as_they_are():
    note = signed(Checkpoint(ORIGIN, 7, tree_root(LEAVES[:7]), ("extra",)))
    assert submit(0, 7, note=note)[1].startswith(note)


GOOD = request(3, proof(3, 9), signed(head(9)))


@pytest.mark.parametrize(
    "change",
    [
        lambda body: b"",
        lambda body: body[:-1],
        lambda body: body + b"\n",
        lambda body: body.replace(b"old 3", b"old 03"),
        lambda body: body.replace(b"old 3", b"old +3"),
        lambda body: body.replace(b"old 3", b"old -3"),
        lambda body: body.replace(b"old 3", b"old"),
        lambda body: body.replace(b"old 3", b"old "),
        lambda body: body.replace(b"old 3", b"old  3"),
        lambda body: body.replace(b"old 3", b"old 3 "),
        lambda body: body.replace(b"old 3", b"Old 3"),
        lambda body: body.replace(b"old 3", b"old 9223372036854775808"),
        lambda body: body.replace(b"old 3\n", b""),
        lambda body: body.replace(b"old 3\n", b"\n"),
        lambda body: body.replace(b"old 3\n", b"old 3\r\n"),
        lambda body: body.replace(b"old 3\n", b"old 3\n!!!!\n"),
        lambda body: body.replace(b"old 3\n", b"old 3\nAAAA\n"),
        lambda body: body.replace(b"old 3\n", b"old 3\n" + b"A" * 43 + b"= \n"),
        lambda body: body.replace(b"old 3\n", b"old 3\n" + (b"A" * 43 + b"=\n") * 64),
        lambda body: body.replace(b"\n\n", b"\n", 1),
        lambda body: body.replace(b"\n9\n", b"\n09\n"),
        lambda body: body + b"\xff",
        lambda body: body + b"\xe2\x80\x94 x AAAAAAA=\n" * (MAX_BYTES // 15),
    ],
)
def test_a_malformed_request_is_bad(change):
    assert answer(GOOD.encode(), head(3))[0].status == 200
    said, note = answer(change(GOOD.encode()), head(3))
    assert (said.status, note) == (400, None)


def test_what_is_remembered_of_the_largest_request_can_be_read_again():
    """A note that grew past what we read would lock the log out for ever."""
    extension = "x" * (MAX_BYTES - len(request(0, [], signed(head(7)))) - 200)
    note = signed(Checkpoint(ORIGIN, 7, tree_root(LEAVES[:7]), (extension,)))
    body = request(0, [], note).encode()
    assert MAX_BYTES - 300 < len(body) <= MAX_BYTES
    longest = [Cosigner("w" * 255, ED.signer), Cosigner("w" * 255, ML.signer)]
    assert checkpoints.parse(answer(body, cosigners=longest)[1]).size == 7


def test_no_sequence_of_requests_makes_a_witness_forget():
    """Whatever is asked, the remembered size never shrinks and every remembered root is of one history."""
    latest = head(1)  # what comes after nothing is any log's to choose
    for old in range(12):
        for new in range(12):
            for leaves in (OTHERS, LEAVES):
                said, note = submit(
                    old, new, latest, leaves=leaves, hashes=proof(old, new, leaves) if old <= new else []
                )
                if note is None:
                    assert said.status in (400, 409, 422)
                    continue
                after = checkpoints.parse(note)
                assert after.size >= latest.size
                assert after.root == tree_root(LEAVES[: after.size])
                latest = after
    assert latest.size == 11


@given(st.one_of(st.binary(max_size=300), st.tuples(st.integers(0, len(GOOD.encode()) - 1), st.binary(max_size=3))))
def test_whatever_comes_gets_an_answer_and_only_the_whole_request_a_cosignature(data):
    if isinstance(data, tuple):
        at, inserted = data
        data = GOOD.encode()[:at] + inserted + GOOD.encode()[at + len(inserted) :]
    said, note = answer(data, head(3))
    assert said.status in (200, 400, 403, 404, 409, 422)
    assert (said.status == 200) == (note is not None)
    if said.status == 200:
        assert checkpoints.parse(note) == head(9)
