"""Keys: two algorithms, one encoding, no weak points."""

import copy
import os
import pickle
import re
import stat

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from certs.errors import CertificateError, Code, KeyFileError
from certs.key_files import load_signer, save_signer
from certs.keys import Algorithm, EcdsaP256Signer, Ed25519Signer, PublicKey, UnsafeEphemeralSigner, check_ed25519_point

SIGNERS = [EcdsaP256Signer.generate, Ed25519Signer.generate]
EPHEMERAL = [UnsafeEphemeralSigner.generate, lambda: UnsafeEphemeralSigner.generate(Algorithm.ED25519)]
P = 2**255 - 19


@pytest.mark.parametrize("generate", SIGNERS + EPHEMERAL)
def test_every_signer_keeps_the_promise_of_the_interface(generate):
    signer = generate()
    key = PublicKey.from_spki(signer.public_key)
    assert (key.algorithm, key.key_id) == (signer.algorithm, signer.key_id)
    signature = signer.sign(b"message")
    assert key.verifies(signature, b"message")
    assert not key.verifies(signature, b"massage")
    assert not key.verifies(b"", b"message")
    assert PublicKey.from_pem(key.pem) == key
    assert not PublicKey.from_spki(generate().public_key).verifies(signature, b"message")


@pytest.mark.parametrize("generate", SIGNERS)
@pytest.mark.parametrize("passphrase", [None, b"correct horse"])
def test_a_key_file_is_private_and_read_back(generate, passphrase, tmp_path):
    signer, path = generate(), tmp_path / "key.pem"
    save_signer(path, signer, passphrase=passphrase)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (b"ENCRYPTED" in path.read_bytes()) == (passphrase is not None)
    assert load_signer(path, passphrase=passphrase).key_id == signer.key_id


def test_a_key_file_is_private_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        save_signer(tmp_path / "key.pem", Ed25519Signer.generate(), passphrase=None)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600


def test_a_key_is_never_overwritten(tmp_path):
    path = tmp_path / "key.pem"
    save_signer(path, Ed25519Signer.generate(), passphrase=None)
    before = path.read_bytes()
    with pytest.raises(KeyFileError) as failure:
        save_signer(path, Ed25519Signer.generate(), passphrase=None)
    assert failure.value.code is Code.KEY_FILE_EXISTS
    assert path.read_bytes() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644, 0o666])
def test_a_key_that_others_can_reach_is_refused(mode, tmp_path):
    path = tmp_path / "key.pem"
    save_signer(path, Ed25519Signer.generate(), passphrase=None)
    path.chmod(mode)
    with pytest.raises(KeyFileError) as failure:
        load_signer(path, passphrase=None)
    assert failure.value.code is Code.KEY_FILE_PERMISSIONS
    assert f"chmod 600 {path}" in failure.value.remedy


@pytest.mark.parametrize(
    ("made_with", "opened_with", "says"),
    [(b"right", b"wrong", "decrypted"), (b"right", None, "is encrypted"), (None, b"any", "is not encrypted")],
)
def test_a_wrong_passphrase_is_called_that(made_with, opened_with, says, tmp_path):
    path = tmp_path / "key.pem"
    save_signer(path, Ed25519Signer.generate(), passphrase=made_with)
    with pytest.raises(KeyFileError, match=says) as failure:
        load_signer(path, passphrase=opened_with)
    assert failure.value.code is Code.KEY_FILE_PASSPHRASE


def test_what_is_no_key_of_ours_is_refused(tmp_path):
    other = ec.generate_private_key(ec.SECP384R1())
    contents = [b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
    contents.append(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    for content in contents:
        path = tmp_path / "key.pem"
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(KeyFileError) as failure:
            load_signer(path, passphrase=None)
        assert failure.value.code is Code.KEY_FILE_UNREADABLE
    with pytest.raises(KeyFileError, match="cannot be opened"):
        load_signer(tmp_path / "absent.pem", passphrase=None)


def test_other_kinds_of_public_key_are_refused():
    keys = [
        ec.generate_private_key(ec.SECP384R1()).public_key(),
        ec.generate_private_key(ec.SECP256K1()).public_key(),
        rsa.generate_private_key(65537, 2048).public_key(),
    ]
    for key in keys:
        _refused(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    _refused(b"")
    _refused(b"\x30\x00")
    with pytest.raises(CertificateError, match="PEM"):
        PublicKey.from_pem(b"no key")


def test_a_second_encoding_of_a_key_is_refused():
    p256 = EcdsaP256Signer.generate()
    spki = p256.public_key
    compressed = p256.private_key.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    _refused(spki[:1] + bytes([57]) + spki[2:24] + bytes([34]) + b"\x00" + compressed)
    _refused(spki + b"\x00")


def _refused(spki):
    with pytest.raises(CertificateError) as failure:
        PublicKey.from_spki(spki)
    assert failure.value.code is Code.KEY_INVALID


# The eight points of small order, each y with both signs, and their encodings that are not reduced mod p.
_ORDER_8 = int.from_bytes(bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), "little")
SMALL = [0, 1, P - 1, P, P + 1, _ORDER_8, P - _ORDER_8]


@pytest.mark.parametrize("sign", [0, 1])
@pytest.mark.parametrize("y", SMALL)
def test_ed25519_points_of_small_order_are_refused(y, sign):
    with pytest.raises(CertificateError) as failure:
        check_ed25519_point((y | sign << 255).to_bytes(32, "little"))
    assert failure.value.code is Code.KEY_INVALID


def test_the_points_of_small_order_are_all_there_are():
    """8 times each point is neutral, by doubling on the Montgomery form of the curve, u = (1 + y) / (1 - y)."""
    for y in {0, 1, P - 1, _ORDER_8, P - _ORDER_8} - {1}:
        u = (1 + y) * pow(1 - y, -1, P) % P
        x, z = u, 1
        for _ in range(3):
            aa, bb = (x + z) ** 2 % P, (x - z) ** 2 % P
            difference = aa - bb
            x, z = aa * bb % P, difference * (aa + 121665 * difference) % P
        assert z == 0


@pytest.mark.parametrize("length", [0, 31, 33])
def test_ed25519_keys_have_32_bytes(length):
    with pytest.raises(CertificateError):
        check_ed25519_point(b"\x02" * length)


@given(st.integers(P, 2**255 - 1), st.booleans())
def test_unreduced_ed25519_keys_are_refused(y, sign):
    with pytest.raises(CertificateError):
        check_ed25519_point((y | sign << 255).to_bytes(32, "little"))


@given(st.binary(min_size=32, max_size=32))
def test_every_real_ed25519_key_is_accepted(seed):
    raw = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    assert PublicKey.from_raw(Algorithm.ED25519, raw).raw == raw


def test_points_off_the_curve_are_refused():
    refused = 0
    for y in range(2, 42):
        try:
            check_ed25519_point(y.to_bytes(32, "little"))
        except CertificateError:
            refused += 1
    assert 10 < refused < 30  # about half of all y have no x


def test_an_ecdsa_key_has_no_raw_form():
    with pytest.raises(CertificateError, match="no raw form"):
        _ = PublicKey.from_spki(EcdsaP256Signer.generate().public_key).raw
    with pytest.raises(CertificateError, match="not the bytes"):
        PublicKey.from_raw(Algorithm.ECDSA_P256, bytes(64))


@pytest.mark.parametrize("generate", SIGNERS + EPHEMERAL)
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_signer_is_neither_pickled_nor_copied(generate, duplicate):
    with pytest.raises(TypeError, match="neither pickled nor copied"):
        duplicate(generate())


@pytest.mark.parametrize("generate", SIGNERS + EPHEMERAL)
def test_a_signer_shows_nothing_of_its_key(generate):
    assert re.fullmatch(r"(UnsafeEphemeralSigner\(signer=)?\w+Signer\(\)\)?", repr(generate()))
