"""Edge cases of keys and signatures: vectors that others published, and the same kinds of flaws made here.

The published ones are read when MBD_TEST_VECTORS names a folder with checkouts of C2SP's `wycheproof` and `CCTV`.
"""

import json
import os
from collections import Counter
from hashlib import sha512
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import example, given
from hypothesis import strategies as st

from certs.errors import CertificateError, Code
from certs.keys import Algorithm, EcdsaP256Signer, Ed25519Signer, PublicKey

MESSAGE = b"what is signed"


# Published vectors.


def published(name):
    folder = os.environ.get("MBD_TEST_VECTORS")
    if not folder:
        pytest.skip("no published vectors: MBD_TEST_VECTORS names no folder with wycheproof/ and CCTV/")
    return json.loads((Path(folder) / name).read_bytes())


@pytest.mark.parametrize(("name", "least"), [("ed25519", 150), ("ecdsa_secp256r1_sha256", 480)])
def test_wycheproof_signatures_are_judged_as_published(name, least):
    seen = Counter()
    for group in published(f"wycheproof/testvectors_v1/{name}_test.json")["testGroups"]:
        key = PublicKey.from_spki(bytes.fromhex(group["publicKeyDer"]))
        for test in group["tests"]:
            verdict = key.verifies(bytes.fromhex(test["sig"]), bytes.fromhex(test["msg"]))
            assert verdict == (test["result"] == "valid"), test
            seen[verdict] += 1
    assert seen.total() >= least
    assert min(seen[True], seen[False]) > 50


def test_wycheproof_ml_dsa_signatures_are_judged_as_published():
    """Those without a context: checkpoints have none."""
    judged = 0
    for group in published("wycheproof/testvectors_v1/mldsa_44_verify_test.json")["testGroups"]:
        raw = bytes.fromhex(group["publicKey"])
        for vector in group["tests"]:
            if vector.get("ctx"):
                continue
            try:
                key = PublicKey.from_raw(Algorithm.ML_DSA_44, raw)
                valid = key.verifies(bytes.fromhex(vector["sig"]), bytes.fromhex(vector["msg"]))
            except CertificateError:
                valid = False
            assert valid == (vector["result"] == "valid"), vector
            judged += 1
    assert judged > 100


def test_cctv_keys_of_small_order_or_in_a_second_encoding_are_refused_and_no_sound_one():
    refused = 0
    for vector in published("CCTV/ed25519/ed25519vectors.json"):
        flags = set(vector["flags"] or ())
        if flags & {"low_order_A", "non_canonical_A"}:
            with pytest.raises(CertificateError):
                PublicKey.from_raw(Algorithm.ED25519, bytes.fromhex(vector["key"]))
            refused += 1
        else:
            PublicKey.from_raw(Algorithm.ED25519, bytes.fromhex(vector["key"]))
    assert refused > 500


def test_cctv_signatures_are_judged_by_rfc_8032_without_the_cofactor():
    seen = Counter()
    for vector in published("CCTV/ed25519/ed25519vectors.json"):
        flags = set(vector["flags"] or ())
        if flags & {"low_order_A", "non_canonical_A"}:
            continue
        key = PublicKey.from_raw(Algorithm.ED25519, bytes.fromhex(vector["key"]))
        verdict = key.verifies(bytes.fromhex(vector["sig"]), vector["msg"].encode())
        assert verdict == (not flags & {"non_canonical_R", "low_order_residue"}), vector
        seen[verdict] += 1
    assert min(seen[True], seen[False]) > 50


# Ed25519: the curve in affine coordinates (RFC 8032 section 5.1), enough to make flawed signatures.

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)
NEUTRAL = (0, 1)


def plus(a, b):
    (x1, y1), (x2, y2) = a, b
    t = D * x1 * x2 * y1 * y2 % P
    return (x1 * y2 + x2 * y1) * pow(1 + t, -1, P) % P, (y1 * y2 + x1 * x2) * pow(1 - t, -1, P) % P


def times(k, point):
    total = NEUTRAL
    while k:
        if k & 1:
            total = plus(total, point)
        point, k = plus(point, point), k >> 1
    return total


def with_y(y):
    x = pow(square := (y * y - 1) * pow(D * y * y + 1, -1, P) % P, (P + 3) // 8, P)
    x = x if x * x % P == square else x * ROOT_OF_MINUS_ONE % P
    return (x, y) if x * x % P == square else None


def encoded(point):
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


B = next(p if p[0] % 2 == 0 else (P - p[0], p[1]) for p in [with_y(4 * pow(5, -1, P) % P)])
TORSION = next(t for y in range(2, 100) if (p := with_y(y)) and times(4, t := times(L, p)) != NEUTRAL)
SECRET = 0x1234567890ABCDEF << 180
"""A scalar of no importance."""

KEY = PublicKey.from_raw(Algorithm.ED25519, encoded(times(SECRET, B)))


def challenge(R, A, message):
    return int.from_bytes(sha512(R + A + message).digest(), "little") % L


def made(R, r, *, key=KEY, message=MESSAGE):
    """A signature with these bytes as R, whose point is r times B but for a part of small order."""
    S = (r + challenge(R, key.raw, message) * SECRET) % L
    return R + S.to_bytes(32, "little")


def test_the_arithmetic_of_these_tests_makes_good_signatures():
    assert times(8, TORSION) == NEUTRAL
    assert KEY.verifies(made(encoded(times(77, B)), 77), MESSAGE)


@pytest.mark.parametrize("beyond", [L, 2 * L, 3 * L])
def test_an_unreduced_s_is_refused(beyond):
    good = made(encoded(times(77, B)), 77)
    S = int.from_bytes(good[32:], "little") + beyond
    assert not KEY.verifies(good[:32] + S.to_bytes(32, "little"), MESSAGE)


@pytest.mark.parametrize("y", [1, P + 1, 1 | 1 << 255, P + 1 | 1 << 255])
def test_r_counts_in_its_one_encoding_alone(y):
    """R is the neutral point, which the equation accepts; three of its four encodings are not to be used."""
    assert KEY.verifies(made(y.to_bytes(32, "little"), 0), MESSAGE) == (y == 1)


@pytest.mark.parametrize("k", range(1, 8))
def test_a_signature_that_only_the_equation_with_cofactor_accepts_is_refused(k):
    R = encoded(plus(times(77, B), times(k, TORSION)))
    assert not KEY.verifies(made(R, 77), MESSAGE)


def test_a_key_with_a_part_of_small_order_is_judged_by_the_equation_without_cofactor():
    key = PublicKey.from_raw(Algorithm.ED25519, encoded(plus(times(SECRET, B), TORSION)))
    R = encoded(times(77, B))
    messages = [b"%d" % n for n in range(40)]
    fitting = [m for m in messages if challenge(R, key.raw, m) % 8 == 0]
    assert [m for m in messages if key.verifies(made(R, 77, key=key, message=m), m)] == fitting != []


def test_an_ed25519_signature_has_64_bytes():
    good = made(encoded(times(77, B)), 77)
    for flawed in (b"", good[:32], good[:63], good + b"\0", b"\0" + good, bytes(64), b"\xff" * 64):
        assert not KEY.verifies(flawed, MESSAGE)


# ECDSA.

SIGNER = EcdsaP256Signer.generate()
P256 = PublicKey.from_spki(SIGNER.public_key)
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def number(value, *, zeros=0):
    body = b"\0" * zeros + value.to_bytes(value.bit_length() // 8 + 1, "big")
    return b"\x02" + bytes([len(body)]) + body


def pair(r, s):
    return b"\x30" + bytes([len(r) + len(s)]) + r + s


def flawed_ecdsa(good):
    """Signatures that a lax parser or a lax check of ranges would take for the good one."""
    r, s = decode_dss_signature(good)
    R, S = number(r), number(s)
    body = good[2:]
    return {
        "nothing": b"",
        "half": good[: len(good) // 2],
        "garbage after it": good + b"\0",
        "garbage inside": b"\x30" + bytes([len(body) + 2]) + body + b"\x05\0",
        "zero before r": pair(number(r, zeros=1), S),
        "zero before s": pair(R, number(s, zeros=1)),
        "long form of the length": b"\x30\x81" + good[1:],
        "longer form of the length": b"\x30\x82\0" + good[1:],
        "long form of r's length": b"\x30" + bytes([len(body) + 1]) + b"\x02\x81" + body[1:],
        "indefinite length": b"\x30\x80" + body + b"\0\0",
        "a set": b"\x31" + good[1:],
        "bit strings": good.replace(b"\x02", b"\x03", 1),
        "r and s side by side": r.to_bytes(32, "big") + s.to_bytes(32, "big"),
        "r beyond n": pair(number(r + N), S),
        "s beyond n": pair(R, number(s + N)),
        "zeros": pair(number(0), number(0)),
        "r is 0": pair(number(0), S),
        "s is 0": pair(R, number(0)),
        "r is n": pair(number(N), S),
        "s is n": pair(R, number(N)),
        "swapped": pair(S, R),
        "r without the byte that makes it positive": pair(b"\x02\x20" + r.to_bytes(32, "big"), S),
        "one number": b"\x30" + bytes([len(R)]) + R,
        "three numbers": b"\x30" + bytes([len(body) + len(S)]) + body + S,
    }


@pytest.mark.parametrize("flaw", flawed_ecdsa(SIGNER.sign(MESSAGE)))
def test_a_flawed_ecdsa_signature_is_refused_and_nothing_is_raised(flaw):
    good = next(sig for _ in range(200) if decode_dss_signature(sig := SIGNER.sign(MESSAGE))[0] >> 255)
    assert pair(*map(number, decode_dss_signature(good))) == good
    assert P256.verifies(good, MESSAGE)
    assert not P256.verifies(flawed_ecdsa(good)[flaw], MESSAGE)


def test_both_forms_of_an_ecdsa_signature_are_the_keys_so_the_leaf_decides():
    r, s = decode_dss_signature(SIGNER.sign(MESSAGE))
    assert P256.verifies(encode_dss_signature(r, N - s), MESSAGE)


def test_another_digest_than_sha256_is_refused():
    for digest, accepted in ((SHA256(), True), (SHA384(), False)):
        assert P256.verifies(SIGNER.private_key.sign(MESSAGE, ec.ECDSA(digest)), MESSAGE) is accepted


@given(st.binary(max_size=150), st.binary(max_size=8))
@example(b"\0" * 64, b"")
@example(b"\x30\x06\x02\x01\x01\x02\x01\x01", b"")
def test_no_bytes_make_verification_raise(signature, message):
    assert not KEY.verifies(signature, message)
    assert not P256.verifies(signature, message)


# Keys.


def p256_spki(point):
    """The SPKI that the real key has, with other bytes for the point."""
    bits = b"\x03" + bytes([len(point) + 1]) + b"\0" + point
    return b"\x30" + bytes([21 + len(bits)]) + SIGNER.public_key[2:23] + bits


def flawed_p256():
    numbers = SIGNER.private_key.public_key().public_numbers()
    x, y = numbers.x.to_bytes(32, "big"), numbers.y.to_bytes(32, "big")
    parity = numbers.y & 1
    good = SIGNER.public_key
    return {
        "neutral point": p256_spki(b"\0"),
        "zeros": p256_spki(b"\4" + bytes(64)),
        "compressed": p256_spki(bytes([2 | parity]) + x),
        "hybrid": p256_spki(bytes([6 | parity]) + x + y),
        "hybrid of the wrong parity": p256_spki(bytes([7 - parity]) + x + y),
        "off the curve": p256_spki(b"\4" + x + (numbers.y ^ 1).to_bytes(32, "big")),
        "coordinates swapped": p256_spki(b"\4" + y + x),
        "coordinate beyond p": p256_spki(b"\4" + b"\xff" * 32 + y),
        "too short": p256_spki(b"\4" + x + y[:-1]),
        "too long": p256_spki(b"\4" + x + y + b"\0"),
        "garbage after it": good + b"\0",
        "long form of the length": b"\x30\x81" + good[1:],
        "unused bits": good.replace(b"\x03\x42\0\4", b"\x03\x42\1\4"),
        "half": good[:45],
    }


@pytest.mark.parametrize("flaw", flawed_p256())
def test_a_flawed_p256_key_is_refused_at_registration(flaw):
    numbers = SIGNER.private_key.public_key().public_numbers()
    point = b"\4" + numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
    assert p256_spki(point) == SIGNER.public_key
    _refused(flawed_p256()[flaw])


@pytest.mark.parametrize(
    "generate",
    [lambda: ec.generate_private_key(ec.SECP256K1()), x25519.X25519PrivateKey.generate, MLDSA65PrivateKey.generate],
    ids=["secp256k1", "x25519", "ml-dsa-65"],
)
def test_another_algorithm_is_refused_at_registration(generate):
    _refused(generate().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


@given(st.binary(max_size=100), st.integers(0, 90), st.integers(1, 255))
def test_no_bytes_make_registration_raise_anything_else(garbage, place, change):
    """A flip can give another good key; whatever is refused is refused in one way."""
    for spki in (SIGNER.public_key, Ed25519Signer.generate().public_key):
        changed = bytearray(spki)
        changed[place % len(spki)] ^= change
        for candidate in (garbage, bytes(changed)):
            try:
                PublicKey.from_spki(candidate)
            except CertificateError as error:
                assert error.code is Code.KEY_INVALID


def _refused(spki):
    with pytest.raises(CertificateError) as failure:
        PublicKey.from_spki(spki)
    assert failure.value.code is Code.KEY_INVALID
