"""Time stamps: what an authority says of a time, and every way in which a token can be another's, old or changed."""

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
from asn1crypto import core, tsp
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec_key
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st
from rfc3161_client import HashAlgorithm, TimestampRequestBuilder

from certs import timestamp
from certs.errors import CertificateError, Code
from certs.timestamp import CertificateChain
from certs.timestamp_authority import POLICY, TimestampAuthority

AT = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
MESSAGE = b"a signature"


@pytest.fixture(scope="module")
def authority():
    return TimestampAuthority.generate("example.org", now=AT - timedelta(days=1))


@pytest.fixture(scope="module")
def token(authority):
    return authority.respond(_request(), at=AT)


def _request(message=MESSAGE, *, algorithm=HashAlgorithm.SHA256, certificate=False):
    asked = TimestampRequestBuilder().data(message).hash_algorithm(algorithm).cert_request(cert_request=certificate)
    return asked.build().as_bytes()


def _verify(token, chains, message=MESSAGE):
    parsed = timestamp.parse(token)
    return parsed.made_at, timestamp.verify(parsed, message, chains)


def _refused(code, token, chains, message=MESSAGE):
    with pytest.raises(CertificateError) as failure:
        _verify(token, chains, message)
    assert failure.value.code is code
    assert failure.value.remedy


@pytest.mark.parametrize("certificate", [False, True])
def test_a_token_says_when_and_who(authority, certificate):
    token = authority.respond(_request(certificate=certificate), at=AT)
    assert _verify(token, [authority.chain]) == (AT, authority.chain)
    assert authority.chain.name == "example.org time stamps"


def test_a_chain_is_read_back_from_what_is_published(authority):
    assert CertificateChain.from_pem(authority.chain.pem) == authority.chain
    assert CertificateChain.from_der(authority.chain.der) == authority.chain


def test_a_token_over_something_else_is_refused(authority, token):
    _refused(Code.TIMESTAMP_INVALID, token, [authority.chain], b"another signature")


def test_the_token_of_an_authority_that_nobody_trusts_is_refused(authority, token):
    other = TimestampAuthority.generate("example.org", now=AT)
    _refused(Code.TIMESTAMP_AUTHORITY_UNKNOWN, token, [other.chain])
    _refused(Code.TIMESTAMP_AUTHORITY_UNKNOWN, token, [])


def test_a_token_under_anothers_name_is_refused(authority):
    """The forger signs with a key of their own, and names the certificate that is trusted."""
    forger = dataclasses.replace(authority, signer=TimestampAuthority.generate("x", now=AT).signer)
    _refused(Code.TIMESTAMP_INVALID, forger.respond(_request(), at=AT), [authority.chain])


@pytest.mark.parametrize("at", [AT - timedelta(days=2), AT + timedelta(days=365 * 21)])
def test_a_time_outside_of_the_certificates_is_refused(authority, at):
    _refused(Code.TIMESTAMP_INVALID, authority.respond(_request(), at=at), [authority.chain])


@pytest.mark.parametrize("certificate", [False, True])
def test_every_changed_bit_is_noticed(authority, certificate):
    token = authority.respond(_request(certificate=certificate), at=AT)
    for place in range(len(token)):
        changed = bytearray(token)
        changed[place] ^= 1 << place % 8
        with pytest.raises(CertificateError):
            _verify(bytes(changed), [authority.chain])


def test_truncated_and_padded_tokens_are_refused(authority, token):
    for changed in (b"", token[:-1], token + b"\0", token + token, b"\x30\x80" + token, b"\0" * 70_000):
        _refused(Code.TIMESTAMP_INVALID, changed, [authority.chain])


@given(st.binary(max_size=600))
def test_random_bytes_are_refused_as_such(data):
    with pytest.raises(CertificateError) as failure:
        timestamp.parse(data)
    assert failure.value.code is Code.TIMESTAMP_INVALID


def test_a_digest_other_than_sha256_is_refused(authority):
    token = authority.respond(_request(algorithm=HashAlgorithm.SHA512), at=AT)
    _refused(Code.TIMESTAMP_INVALID, token, [authority.chain])


def test_parts_that_nothing_authenticates_are_refused(authority, token):
    """An unsigned attribute and a status text would otherwise be read by some and not by others."""
    answer = tsp.TimeStampResp.load(token)
    answer["status"]["status_string"] = ["trust me"]
    _refused(Code.TIMESTAMP_INVALID, answer.dump(force=True), [authority.chain])
    answer = tsp.TimeStampResp.load(token)
    signer = answer["time_stamp_token"]["content"]["signer_infos"][0]
    signer["unsigned_attrs"] = [{"type": "1.2.3.4", "values": []}]
    _refused(Code.TIMESTAMP_INVALID, answer.dump(force=True), [authority.chain])


def _status(response):
    answer = tsp.PKIStatusInfo.load(core.Sequence.load(response)[0].dump())
    return answer["status"].native, answer["fail_info"].native


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda asked: b"", "bad_data_format"),
        (lambda asked: asked.dump()[:-1], "bad_data_format"),
        (lambda asked: _with(asked, ("message_imprint", "hash_algorithm", "algorithm"), "sha1"), "bad_alg"),
        (lambda asked: _with(asked, ("message_imprint", "hashed_message"), b"short"), "bad_alg"),
        (lambda asked: _with(asked, ("req_policy",), "1.2.3.4"), "unaccepted_policy"),
    ],
)
def test_a_request_that_cannot_be_answered_is_rejected_with_the_reason(authority, change, why):
    response = authority.respond(change(tsp.TimeStampReq.load(_request())), at=AT)
    assert _status(response) == ("rejection", {why})
    _refused(Code.TIMESTAMP_INVALID, response, [authority.chain])


def _with(asked, path, value):
    *holders, last = path
    holder = asked
    for name in holders:
        holder = holder[name]
    holder[last] = value
    return asked.dump(force=True)


def test_policy_and_nonce_come_back(authority):
    asked = tsp.TimeStampReq.load(_request())
    asked["req_policy"], asked["nonce"] = POLICY, 7
    made = timestamp.parse(authority.respond(asked.dump(force=True), at=AT)).response.tst_info
    assert (made.policy.dotted_string, made.nonce) == (POLICY, 7)


def _certificate(key, *, usage=(ExtendedKeyUsageOID.TIME_STAMPING,), critical=True):
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody")])
    built = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(AT)
        .not_valid_after(AT + timedelta(days=1))
    )
    if usage is not None:
        built = built.add_extension(x509.ExtendedKeyUsage(usage), critical=critical)
    return built.sign(key, SHA256())


@pytest.mark.parametrize(
    ("leaf", "why"),
    [
        (lambda: _certificate(generate_ec_key(SECP256R1()), usage=None), "not marked"),
        (lambda: _certificate(generate_ec_key(SECP256R1()), critical=False), "for time stamps alone"),
        (lambda: _certificate(generate_ec_key(SECP256R1()), usage=(ExtendedKeyUsageOID.CODE_SIGNING,)), "alone"),
        (lambda: _certificate(generate_rsa_key(65537, 2048)), "RSA of 3072"),
    ],
)
def test_a_chain_that_is_weak_or_for_something_else_is_refused(authority, leaf, why):
    with pytest.raises(CertificateError, match=why) as failure:
        CertificateChain.from_der([leaf().public_bytes(Encoding.DER), authority.chain.der[1]])
    assert failure.value.code is Code.KEY_INVALID


def test_a_chain_has_a_root_and_nothing_but_certificates(authority):
    for der in (authority.chain.der[:1], authority.chain.der * 5, (authority.chain.der[0], b"x")):
        with pytest.raises(CertificateError):
            CertificateChain.from_der(der)
    with pytest.raises(CertificateError, match="not PEM"):
        CertificateChain.from_pem(b"nothing")
