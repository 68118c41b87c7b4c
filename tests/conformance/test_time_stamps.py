"""Time stamps of ours under openssl, rfc3161-client and npm; and one of openssl's own authority under ours."""

import base64
import json
import shutil
import subprocess
from datetime import UTC, datetime
from hashlib import sha256

import pytest
import rfc3161_client
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certs import bundle, timestamp
from certs.encoding import canonical_json
from certs.errors import CertificateError, Code, VerificationError
from certs.timestamp import CertificateChain
from certs.vectors.make_stamped import STAMPED
from certs.verification import verify

AT = datetime(2026, 6, 1, tzinfo=UTC)
NAMES = sorted(path.name.partition(".")[0] for path in STAMPED.glob("*.sigstore.json"))
ROOT = json.loads((STAMPED / "trusted_root.json").read_bytes())
KEYS = {
    key["hint"]: f"-----BEGIN PUBLIC KEY-----\n{key['publicKey']['rawBytes']}\n-----END PUBLIC KEY-----\n"
    for key in ROOT["certificateKeys"]
}

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


def document(name):
    return json.loads((STAMPED / f"{name}.sigstore.json").read_bytes())


def ask(npm, value, root=ROOT):
    question = {"bundle": canonical_json(value).decode(), "trustedRoot": json.dumps(root), "keys": KEYS}
    return npm.ask(question | {"timestamps": 1})


def stamps(value):
    return value["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"]


def changed(token, place):
    data = bytearray(base64.b64decode(token))
    data[place] ^= 1
    return base64.b64encode(data).decode()


@pytest.mark.parametrize("name", NAMES)
def test_npm_verifies_a_certificate_and_demands_its_time_stamp(name, npm):
    assert ask(npm, document(name)) == {"accepted": True}
    bare = document(name)
    del bare["verificationMaterial"]["timestampVerificationData"]
    assert ask(npm, bare)["code"] == "TIMESTAMP_ERROR"


@pytest.mark.parametrize("place", [80, 130, -5])
def test_npm_and_ours_refuse_a_changed_time_stamp(place, npm):
    value = document("successor")
    stamps(value)[0]["signedTimestamp"] = changed(stamps(value)[0]["signedTimestamp"], place)
    assert not ask(npm, value)["accepted"]
    with pytest.raises(VerificationError) as failure:
        verify(canonical_json(value), canonical_json(ROOT), at=AT)
    assert failure.value.step == 4


def test_npm_and_ours_refuse_the_time_stamp_of_another_certificate_and_of_another_authority(npm):
    value, other = document("successor"), document("superseded")
    stamps(value)[0] = stamps(other)[0]
    assert ask(npm, value)["code"] == "TIMESTAMP_ERROR"
    with pytest.raises(VerificationError) as failure:
        verify(canonical_json(value), canonical_json(ROOT), at=AT)
    assert failure.value.code is Code.TIMESTAMP_INVALID
    root = json.loads(json.dumps(ROOT))
    root["timestampAuthorities"][0]["validFor"]["end"] = "2026-01-02T00:00:00Z"
    assert not ask(npm, document("successor"), root)["accepted"]
    with pytest.raises(VerificationError) as failure:
        verify(canonical_json(document("successor")), canonical_json(root), at=AT)
    assert failure.value.code is Code.TIMESTAMP_AUTHORITY_UNKNOWN


@pytest.mark.parametrize("name", NAMES)
def test_rfc3161_client_verifies_the_time_stamp(name):
    leaf, root = x509.load_pem_x509_certificates((STAMPED / "time-stamp-chain.pem").read_bytes())
    parsed = bundle.parse((STAMPED / f"{name}.sigstore.json").read_bytes())
    (token,) = parsed.timestamps
    response = rfc3161_client.decode_timestamp_response(token)
    verifier = rfc3161_client.VerifierBuilder().tsa_certificate(leaf).add_root_certificate(root).build()
    assert verifier.verify_message(response, parsed.dsse_envelope.signature.sig)
    with pytest.raises(rfc3161_client.VerificationError):
        verifier.verify_message(response, b"something else")


def openssl(folder, *arguments, text=True):
    return subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=text, check=False)


@needs_openssl
@pytest.mark.parametrize("name", NAMES)
def test_openssl_verifies_the_time_stamp_and_refuses_it_for_other_bytes(name, tmp_path):
    parsed = bundle.parse((STAMPED / f"{name}.sigstore.json").read_bytes())
    (tmp_path / "token.tsr").write_bytes(parsed.timestamps[0])
    (tmp_path / "signature.der").write_bytes(parsed.dsse_envelope.signature.sig)
    leaf, root = x509.load_pem_x509_certificates((STAMPED / "time-stamp-chain.pem").read_bytes())
    (tmp_path / "leaf.pem").write_bytes(leaf.public_bytes(Encoding.PEM))
    (tmp_path / "root.pem").write_bytes(root.public_bytes(Encoding.PEM))
    check = ("ts", "-verify", "-in", "token.tsr", "-CAfile", "root.pem", "-untrusted", "leaf.pem", "-data")
    assert "Verification: OK" in openssl(tmp_path, *check, "signature.der").stdout
    (tmp_path / "signature.der").write_bytes(b"something else")
    done = openssl(tmp_path, *check, "signature.der")
    assert done.returncode != 0
    assert "message imprint mismatch" in done.stderr


CONFIGURATION = """
[req]
distinguished_name = name
prompt = no
[name]
CN = an authority of openssl
[ca]
basicConstraints = critical,CA:true
keyUsage = critical,keyCertSign
[tsa_certificate]
basicConstraints = critical,CA:false
keyUsage = critical,digitalSignature
extendedKeyUsage = critical,timeStamping
[tsa]
default_tsa = here
[here]
serial = serial
crypto_device = builtin
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512
accuracy = secs:1
ess_cert_id_alg = sha256
"""


@needs_openssl
@pytest.mark.parametrize("key", [("ec", "ec_paramgen_curve:P-256"), ("rsa", "rsa_keygen_bits:3072")])
def test_ours_verifies_the_time_stamps_of_an_authority_that_we_did_not_write(key, tmp_path):
    (tmp_path / "tsa.cnf").write_text(CONFIGURATION)
    (tmp_path / "serial").write_text("01\n")
    algorithm, option = key
    make = ("req", "-new", "-newkey", algorithm, "-pkeyopt", option, "-nodes", "-config", "tsa.cnf")
    issuer, usage = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"), ("-extensions", "tsa_certificate")
    for arguments in (
        (*make, "-x509", "-keyout", "ca.key", "-out", "ca.pem", "-extensions", "ca", "-days", "30"),
        (*make, "-keyout", "tsa.key", "-out", "tsa.csr", "-subj", "/CN=time stamps of openssl"),
        ("x509", "-req", "-in", "tsa.csr", *issuer, "-out", "tsa.pem", "-extfile", "tsa.cnf", *usage, "-days", "30"),
    ):
        done = openssl(tmp_path, *arguments)
        assert done.returncode == 0, done.stderr
    request = rfc3161_client.TimestampRequestBuilder().data(b"a signature").cert_request(cert_request=False)
    request = request.hash_algorithm(rfc3161_client.HashAlgorithm.SHA256).build()
    (tmp_path / "asked.tsq").write_bytes(request.as_bytes())
    reply = ("ts", "-reply", "-queryfile", "asked.tsq", "-config", "tsa.cnf", "-section", "here", "-out", "reply.tsr")
    done = openssl(tmp_path, *reply, "-signer", "tsa.pem", "-inkey", "tsa.key")
    assert done.returncode == 0, done.stderr
    chain = CertificateChain.from_pem((tmp_path / "tsa.pem").read_bytes() + (tmp_path / "ca.pem").read_bytes())
    token = timestamp.parse((tmp_path / "reply.tsr").read_bytes())
    assert timestamp.verify(token, b"a signature", [chain]).name == "time stamps of openssl"
    with pytest.raises(CertificateError) as failure:
        timestamp.verify(token, b"another signature", [chain])
    assert failure.value.code is Code.TIMESTAMP_INVALID
    assert sha256(b"a signature").digest() in token.response.as_bytes()
