"""Checkpoints and signed notes: the public example of the format's authors, and everything that must be refused."""

from datetime import UTC, datetime

import pytest

from certs import checkpoint as checkpoints
from certs.checkpoint import Checkpoint
from certs.encoding import decode_base64, encode_base64
from certs.errors import CertificateError, Code
from certs.keys import EcdsaP256Signer, Ed25519Signer, MlDsa44Signer, PublicKey
from certs.note import NoteKey, SignatureLine, SignatureType, join, parse_lines

ORIGIN = "example.org/log"
ROOT = bytes(range(32))
HEAD = Checkpoint(ORIGIN, 42, ROOT)
AT = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def signer():
    return Ed25519Signer.generate()


@pytest.fixture(scope="module")
def key(signer):
    return NoteKey(ORIGIN, PublicKey.from_spki(signer.public_key))


@pytest.fixture(scope="module")
def note(signer):
    return checkpoints.sign(HEAD, [signer], at=AT)


def test_the_published_example_of_a_note_verifies():
    """The example key and signature of Go's note package."""
    key = NoteKey.from_vkey("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    text = b"If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
    typed = decode_base64(
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
    note = checkpoints.sign(extended, [signer], at=AT)
    assert checkpoints.verify(note, [key])[0] == extended
    _refused(Code.CHECKPOINT_SIGNATURE_INVALID, note.replace("one", "two"), [key])


def test_two_keys_of_one_log_can_sign_together(signer, key):
    new = Ed25519Signer.generate()
    new_key = NoteKey(ORIGIN, PublicKey.from_spki(new.public_key))
    note = checkpoints.sign(Checkpoint(ORIGIN, 7, ROOT), [signer, new], at=AT)
    assert checkpoints.verify(note, [key, new_key])[1] == (key, new_key)
    assert checkpoints.verify(note, [new_key])[1] == (new_key,)


def test_lines_of_unknown_keys_are_ignored(note, key, signer):
    witness = Ed25519Signer.generate()
    cosigned = note + checkpoints.cosign(HEAD, "witness.example", witness, at=AT).text
    assert checkpoints.verify(cosigned, [key])[1] == (key,)
    same_name = checkpoints.sign(HEAD, [witness, signer], at=AT)
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
    note = join(HEAD.text, [SignatureLine(key.name, key.key_id, other.sign(HEAD.text.encode()))])
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
    for kind in (0, 2, 5, 255):
        with pytest.raises(CertificateError, match="neither Ed25519 nor ML-DSA-44"):
            NoteKey.from_vkey(f"{ORIGIN}+00000000+{encode_base64(bytes([kind]) + bytes(32))}")


WITNESSES = [(Ed25519Signer, SignatureType.COSIGNATURE_ED25519), (MlDsa44Signer, SignatureType.COSIGNATURE_ML_DSA_44)]


@pytest.mark.parametrize(("algorithm", "kind"), WITNESSES)
def test_a_cosignature_verifies_beside_the_logs_signature(algorithm, kind, note, key):
    signer = algorithm.generate()
    witness = NoteKey("witness.example/w", PublicKey.from_spki(signer.public_key), kind)
    line = checkpoints.cosign(HEAD, witness.name, signer, at=AT)
    assert int.from_bytes(line.signature[:8]) == AT.timestamp()
    assert parse_lines(line.text) == (line,)
    assert checkpoints.verify(note + line.text, [witness, key])[1] == (key, witness)
    assert checkpoints.verify(note + line.text + line.text, [witness, key])[1] == (key, witness)
    assert NoteKey.from_vkey(witness.vkey) == witness


@pytest.mark.parametrize(("algorithm", "kind"), WITNESSES)
def test_a_cosignature_holds_for_its_own_checkpoint_time_and_key(algorithm, kind, note, key):
    signer = algorithm.generate()
    witness = NoteKey("witness.example/w", PublicKey.from_spki(signer.public_key), kind)
    line = checkpoints.cosign(HEAD, witness.name, signer, at=AT)
    for at in range(0, len(line.signature), 97):
        changed = bytearray(line.signature)
        changed[at] ^= 1
        wrong = SignatureLine(line.name, line.key_id, bytes(changed))
        _refused(Code.CHECKPOINT_SIGNATURE_INVALID, note + wrong.text, [key, witness])
    for other in (Checkpoint(ORIGIN, 43, ROOT), Checkpoint(ORIGIN, 42, bytes(32)), Checkpoint("example.org", 42, ROOT)):
        with pytest.raises(CertificateError, match="is wrong"):
            checkpoints.cosigners(other, [line], [witness])
    stranger = NoteKey(witness.name, PublicKey.from_spki(algorithm.generate().public_key), kind)
    assert checkpoints.verify(note + line.text, [key, stranger])[1] == (key,)


def test_witnesses_without_the_log_are_no_checkpoint():
    signer = Ed25519Signer.generate()
    witness = NoteKey("witness.example/w", PublicKey.from_spki(signer.public_key), SignatureType.COSIGNATURE_ED25519)
    alone = join(HEAD.text, [checkpoints.cosign(HEAD, witness.name, signer, at=AT)])
    with pytest.raises(CertificateError, match="the log itself did not"):
        checkpoints.verify(alone, [witness])


def test_a_log_may_sign_with_a_second_algorithm_that_some_clients_do_not_know(signer, key):
    second = MlDsa44Signer.generate()
    second_key = NoteKey(ORIGIN, PublicKey.from_spki(second.public_key), SignatureType.COSIGNATURE_ML_DSA_44)
    note = checkpoints.sign(HEAD, [signer, second], at=AT)
    assert checkpoints.verify(note, [key])[1] == (key,)
    assert checkpoints.verify(note, [key, second_key])[1] == (key, second_key)
    assert checkpoints.verify(note, [second_key])[1] == (second_key,)
    line = checkpoints.cosign(HEAD, ORIGIN, second, at=AT)
    wrong = SignatureLine(ORIGIN, line.key_id, line.signature[:-1] + bytes([line.signature[-1] ^ 1]))
    _refused(Code.CHECKPOINT_SIGNATURE_INVALID, checkpoints.sign(HEAD, [signer], at=AT) + wrong.text, [key, second_key])


def test_an_ecdsa_key_cannot_cosign():
    with pytest.raises(CertificateError, match="cannot cosign"):
        checkpoints.cosign(HEAD, "witness.example", EcdsaP256Signer.generate(), at=AT)


def test_a_published_cosignature_has_the_form_that_we_read():
    """The example of C2SP tlog-cosignature: its log line and its witness line stand under keys that it does not print.

    So the one thing that can be held against it is the form: four bytes of key id, eight of time, 64 of signature.
    """
    line = parse_lines(
        "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0x"
        "Ue+mbIUBkBIfZ+qnA==\n"
    )[0]
    assert len(line.signature) == 8 + 64
    assert int.from_bytes(line.signature[:8]) == 1679315147


def _refused(code, note, keys):
    with pytest.raises(CertificateError) as failure:
        checkpoints.verify(note, keys)
    assert failure.value.code is code
