"""Checkpoints and signed notes: the public example of the format's authors, and everything that must be refused."""

import pytest

from certs import checkpoint as checkpoints
from certs.checkpoint import Checkpoint, NoteKey
from certs.encoding import encode_base64
from certs.errors import CertificateError, Code
from certs.keys import EcdsaP256Signer, Ed25519Signer, PublicKey

ORIGIN = "example.org/log"
ROOT = bytes(range(32))


@pytest.fixture(scope="module")
def signer():
    return Ed25519Signer.generate()


@pytest.fixture(scope="module")
def key(signer):
    return NoteKey(ORIGIN, PublicKey.from_spki(signer.public_key))


@pytest.fixture(scope="module")
def note(signer):
    return checkpoints.sign(Checkpoint(ORIGIN, 42, ROOT), [(ORIGIN, signer)])


def test_the_published_example_of_a_note_verifies():
    """The example key and signature of Go's note package."""
    key = NoteKey.from_vkey("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    text = b"If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
    typed = checkpoints._decode(
        "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
    )
    assert typed[:4] == key.log_id[:4]
    assert key.key.verifies(typed[4:], text)
    assert key.vkey == "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"


def test_a_checkpoint_reads_as_the_specification_prints_it():
    text = Checkpoint("example.com/behind-the-sofa", 20852163, ROOT).text
    assert text == f"example.com/behind-the-sofa\n20852163\n{encode_base64(ROOT)}\n"


def test_what_is_signed_verifies(note, key):
    assert checkpoints.verify(note, [key]) == (Checkpoint(ORIGIN, 42, ROOT), (key,))
    assert checkpoints.parse(note) == Checkpoint(ORIGIN, 42, ROOT)


def test_extension_lines_are_kept_and_signed(signer, key):
    extended = Checkpoint(ORIGIN, 0, ROOT, ("one", "two words"))
    note = checkpoints.sign(extended, [(ORIGIN, signer)])
    assert checkpoints.verify(note, [key])[0] == extended
    _refused(Code.CHECKPOINT_SIGNATURE_INVALID, note.replace("one", "two"), [key])


def test_two_keys_of_one_log_can_sign_together(signer, key):
    new = Ed25519Signer.generate()
    new_key = NoteKey(ORIGIN, PublicKey.from_spki(new.public_key))
    note = checkpoints.sign(Checkpoint(ORIGIN, 7, ROOT), [(ORIGIN, signer), (ORIGIN, new)])
    assert checkpoints.verify(note, [key, new_key])[1] == (key, new_key)
    assert checkpoints.verify(note, [new_key])[1] == (new_key,)


def test_lines_of_unknown_keys_are_ignored(note, key, signer):
    witness = Ed25519Signer.generate()
    signed = checkpoints.sign(Checkpoint(ORIGIN, 42, ROOT), [("witness.example", witness), (ORIGIN, signer)])
    assert checkpoints.verify(signed, [key])[1] == (key,)
    same_name = checkpoints.sign(Checkpoint(ORIGIN, 42, ROOT), [(ORIGIN, witness), (ORIGIN, signer)])
    assert checkpoints.verify(same_name, [key])[1] == (key,)
    _refused(Code.CHECKPOINT_SIGNATURE_INVALID, note, [NoteKey(ORIGIN, PublicKey.from_spki(witness.public_key))])


def test_a_wrong_signature_of_a_known_key_spoils_a_note_that_another_signed(note, key):
    new = Ed25519Signer.generate()
    new_key = NoteKey(ORIGIN, PublicKey.from_spki(new.public_key))
    forged = note + f"— {ORIGIN} {encode_base64(new_key.log_id[:4] + bytes(64))}\n"
    assert checkpoints.verify(forged, [key])[1] == (key,)
    _refused(Code.CHECKPOINT_SIGNATURE_INVALID, forged, [key, new_key])


def test_the_key_of_another_log_cannot_sign_for_this_one():
    other = Ed25519Signer.generate()
    key = NoteKey("other.example", PublicKey.from_spki(other.public_key))
    note = checkpoints.sign(Checkpoint(ORIGIN, 42, ROOT), [("other.example", other)])
    _refused(Code.CHECKPOINT_ORIGIN_MISMATCH, note, [key])


def test_every_changed_character_is_noticed(note, key):
    for position in range(len(note)):
        changed = note[:position] + chr(ord(note[position]) ^ 1) + note[position + 1 :]
        with pytest.raises(CertificateError):
            checkpoints.verify(changed, [key])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\n42\n", "\n042\n"),
        ("\n42\n", "\n+42\n"),
        ("\n42\n", "\n-1\n"),
        ("\n42\n", "\n42 \n"),
        ("\n42\n", "\n\n"),
        ("\n42\n", "\n9223372036854775808\n"),
        ("\n42\n", "\n42\r\n"),
        ("\n42\n", "\n42\n\n"),
        ("AAECAw", "AAECA"),
        ("AAECAw", "!AECAw"),
        ("— ", "- "),
        ("— example", "—  example"),
        ("— example.org/log", "— "),
        (" exa", " +exa"),
        ("\n\n", "\n"),
        (ORIGIN + "\n42", "\n42"),
    ],
)
def test_a_malformed_checkpoint_is_refused(old, new, note, key):
    assert old in note
    _refused(Code.CHECKPOINT_MALFORMED, note.replace(old, new, 1), [key])


def test_truncated_and_padded_checkpoints_are_refused(note, key):
    for changed in ("", "\n", note[:-1], note + "x", note + "\n", note + "\n\n", note + "x" * (1 << 17) + "\n"):
        _refused(Code.CHECKPOINT_MALFORMED, changed, [key])
    text = note[: note.index("\n\n")]
    _refused(Code.CHECKPOINT_MALFORMED, f"{text}\n\n— {ORIGIN} AAAA\n", [key])


@pytest.mark.parametrize("name", ["", "with space", "with+plus", "tab\t", "no\u00a0break"])
def test_a_key_name_has_no_space_and_no_plus(name, key):
    with pytest.raises(CertificateError) as failure:
        NoteKey(name, key.key)
    assert failure.value.code is Code.KEY_INVALID


def test_a_log_key_is_ed25519():
    with pytest.raises(CertificateError, match="Ed25519"):
        NoteKey(ORIGIN, PublicKey.from_spki(EcdsaP256Signer.generate().public_key))


@pytest.mark.parametrize(
    "change", [lambda v: v.replace("+", "+0", 1), lambda v: v[:-4], lambda v: "x" + v, lambda v: ""]
)
def test_a_verifier_key_that_does_not_fit_itself_is_refused(change, key):
    assert NoteKey.from_vkey(key.vkey) == key
    with pytest.raises(CertificateError) as failure:
        NoteKey.from_vkey(change(key.vkey))
    assert failure.value.code is Code.KEY_INVALID


def test_a_verifier_key_of_another_algorithm_is_refused(key):
    with pytest.raises(CertificateError, match="not an Ed25519"):
        NoteKey.from_vkey(f"{ORIGIN}+00000000+{encode_base64(bytes([4]) + bytes(32))}")


def _refused(code, note, keys):
    with pytest.raises(CertificateError) as failure:
        checkpoints.verify(note, keys)
    assert failure.value.code is code
