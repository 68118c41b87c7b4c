"""The second signature of a checkpoint, under an implementation of ML-DSA-44 that shares nothing with ours."""

import base64
from hashlib import sha256

import pytest
from dilithium_py.ml_dsa import ML_DSA_44

from certs import checkpoint as checkpoints
from certs.note import NoteKey
from certs.vectors.make_stamped import ORIGIN, STAMPED

NOTE = (STAMPED / "log" / "checkpoint").read_text("utf-8")
VKEY = (STAMPED / "log-ml-dsa-44.vkey").read_text("utf-8").strip()


def signed_message(name, origin, time, size, root):
    """``cosigned_message`` of C2SP tlog-cosignature, field by field."""
    return (
        b"subtree/v1\n\0"
        + bytes([len(name)])
        + name
        + time
        + bytes([len(origin)])
        + origin
        + (0).to_bytes(8, "big")
        + size.to_bytes(8, "big")
        + root
    )


@pytest.fixture
def parts():
    text, _, lines = NOTE.partition("\n\n")
    origin, size, root = text.split("\n")
    line = next(line for line in lines.splitlines() if len(line) > 3000)
    signed = base64.b64decode(line.split(" ")[2])
    key = base64.b64decode(VKEY.split("+", 2)[2])
    assert (key[0], len(key), len(signed)) == (0x06, 1 + 1312, 4 + 8 + 2420)
    assert line.split(" ")[1] == origin == ORIGIN
    return key[1:], signed[4:12], signed[12:], origin.encode(), int(size), base64.b64decode(root)


def test_it_verifies_the_second_signature(parts):
    key, time, signature, origin, size, root = parts
    assert ML_DSA_44.verify(key, signed_message(origin, origin, time, size, root), signature)


def test_it_refuses_another_size_root_time_and_key(parts):
    key, time, signature, origin, size, root = parts
    later = (int.from_bytes(time, "big") + 1).to_bytes(8, "big")
    for message in (
        signed_message(origin, origin, time, size + 1, root),
        signed_message(origin, origin, time, size, bytes(32)),
        signed_message(origin, origin, later, size, root),
        signed_message(origin[:-1], origin, time, size, root),
    ):
        assert not ML_DSA_44.verify(key, message, signature)
    other, _ = ML_DSA_44.keygen()
    assert not ML_DSA_44.verify(other, signed_message(origin, origin, time, size, root), signature)


def test_a_client_that_does_not_know_it_sees_the_first_signature_alone():
    first = NoteKey.from_vkey((STAMPED / "log.vkey").read_text("utf-8").strip())
    assert checkpoints.verify(NOTE, [first])[1] == (first,)
    second = NoteKey.from_vkey(VKEY)
    assert checkpoints.verify(NOTE, [first, second])[1] == (first, second)


def test_ours_verifies_a_checkpoint_that_it_signed():
    """The other way round: their signature, our reader."""
    key, secret = ML_DSA_44.keygen()
    root, time = bytes(range(32)), (1_780_000_000).to_bytes(8, "big")
    message = signed_message(b"cosigner.example", b"example.org/log", time, 7, root)
    line_key = NoteKey.from_vkey(_vkey("cosigner.example", key))
    head = checkpoints.Checkpoint("example.org/log", 7, root)
    line = checkpoints.SignatureLine(
        "cosigner.example", line_key.key_id, time + ML_DSA_44.sign(secret, message, deterministic=True)
    )
    assert checkpoints.cosigners(head, [line], [line_key]) == (line_key,)


def _vkey(name, key):
    typed = b"\x06" + key
    key_id = sha256(name.encode() + b"\n" + typed).digest()[:4]
    return f"{name}+{key_id.hex()}+{base64.b64encode(typed).decode()}"
