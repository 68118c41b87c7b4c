"""Our certificates under Sigstore's client library for npm, and every kind of tampering that it must see.

What the library lets pass and ours refuses stands in `LAXER`: two verifiers may differ, but never the other way round.
"""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from certs.encoding import canonical_json
from certs.errors import VerificationError
from certs.vectors import make, make_absence
from certs.verification import verify

NAMES = sorted(
    path.name.removesuffix(".sigstore.json")
    for folder in (make.V1, make_absence.V1)
    for path in folder.glob("*.sigstore.json")
)
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def test_there_are_golden_certificates():
    assert {"certified", "exact", "empirical", "noise-commitment", "towers", "person", "channel"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_npm_verifies_a_golden_certificate(name, npm, golden):
    """With our own member in the trusted root and without it."""
    document = json.loads(golden("trusted_root.json"))
    keys = _keys(document)
    for root in (document, _without_certificate_keys(document)):
        assert _ask(npm, golden(f"{name}.sigstore.json"), root, keys) == {"accepted": True}


def test_npm_misses_the_time_stamp_that_it_is_told_to_demand(npm, golden):
    document = json.loads(golden("trusted_root.json"))
    answer = _ask(npm, golden("exact.sigstore.json"), document, _keys(document), timestamps=1)
    assert (answer["accepted"], answer["code"]) == (False, "TIMESTAMP_ERROR")


def _entry(document: Any) -> Any:
    return document["verificationMaterial"]["tlogEntries"][0]


def _proof(document: Any) -> Any:
    return _entry(document)["inclusionProof"]


def _flip(text: str, position: int = 0) -> str:
    """Base64 text of the same bytes with one bit of one of them turned."""
    data = bytearray(base64.b64decode(text))
    data[position] ^= 1
    return base64.b64encode(data).decode()


def payload(document: Any, _other: Any) -> None:
    document["dsseEnvelope"]["payload"] = _flip(document["dsseEnvelope"]["payload"], -2)


def payload_of_another(document: Any, other: Any) -> None:
    document["dsseEnvelope"]["payload"] = other["dsseEnvelope"]["payload"]


def envelope_of_another(document: Any, other: Any) -> None:
    document["dsseEnvelope"] = other["dsseEnvelope"]


def payload_type(document: Any, _other: Any) -> None:
    document["dsseEnvelope"]["payloadType"] = "application/vnd.in-toto+jsom"


def no_payload(document: Any, _other: Any) -> None:
    document["dsseEnvelope"]["payload"] = ""


def signature(document: Any, _other: Any) -> None:
    member = document["dsseEnvelope"]["signatures"][0]
    member["sig"] = _flip(member["sig"], -1)


def signature_of_another(document: Any, other: Any) -> None:
    document["dsseEnvelope"]["signatures"] = other["dsseEnvelope"]["signatures"]


def second_form_of_the_signature(document: Any, _other: Any) -> None:
    member = document["dsseEnvelope"]["signatures"][0]
    r, s = decode_dss_signature(base64.b64decode(member["sig"]))
    member["sig"] = base64.b64encode(encode_dss_signature(r, P256_ORDER - s)).decode()


def no_signature(document: Any, _other: Any) -> None:
    document["dsseEnvelope"]["signatures"] = []


def body(document: Any, _other: Any) -> None:
    leaf = json.loads(base64.b64decode(_entry(document)["canonicalizedBody"]))
    data = leaf["spec"]["hashedRekordV002"]["data"]
    data["digest"] = _flip(data["digest"])
    _entry(document)["canonicalizedBody"] = base64.b64encode(canonical_json(leaf)).decode()


def entry_of_another(document: Any, other: Any) -> None:
    document["verificationMaterial"]["tlogEntries"] = other["verificationMaterial"]["tlogEntries"]


def no_entry(document: Any, _other: Any) -> None:
    document["verificationMaterial"]["tlogEntries"] = []


def entry_twice(document: Any, _other: Any) -> None:
    document["verificationMaterial"]["tlogEntries"] *= 2


def entry_of_another_kind(document: Any, _other: Any) -> None:
    _entry(document)["kindVersion"]["kind"] = "dsse"


def proof_hash(document: Any, _other: Any) -> None:
    _proof(document)["hashes"][-1] = _flip(_proof(document)["hashes"][-1], 31)


def proof_hashes_swapped(document: Any, _other: Any) -> None:
    _proof(document)["hashes"].reverse()


def proof_hash_missing(document: Any, _other: Any) -> None:
    _proof(document)["hashes"].pop()


def proof_hash_too_many(document: Any, _other: Any) -> None:
    _proof(document)["hashes"].append(_proof(document)["hashes"][0])


def proof_index(document: Any, _other: Any) -> None:
    _proof(document)["logIndex"] = "0"
    _entry(document)["logIndex"] = "0"


def proof_index_beyond_the_log(document: Any, _other: Any) -> None:
    _proof(document)["logIndex"] = "6"
    _entry(document)["logIndex"] = "6"


def checkpoint_size(document: Any, _other: Any) -> None:
    _checkpoint(document, lambda note: note.replace("\n6\n", "\n7\n"))


def checkpoint_root(document: Any, _other: Any) -> None:
    root = _proof(document)["rootHash"]
    _checkpoint(document, lambda note: note.replace(root, _flip(root)))
    _proof(document)["rootHash"] = _flip(root)


def checkpoint_origin(document: Any, _other: Any) -> None:
    _checkpoint(document, lambda note: note.replace(make.ORIGIN, "vectors.missing-by-design.dev/log2", 1))


def checkpoint_signature(document: Any, _other: Any) -> None:
    _checkpoint(document, lambda note: _with_signature(note, lambda typed: _flip(typed, -1)))


def checkpoint_key_id(document: Any, _other: Any) -> None:
    _checkpoint(document, lambda note: _with_signature(note, _flip))


def checkpoint_without_signature(document: Any, _other: Any) -> None:
    _checkpoint(document, lambda note: note[: note.index("\n\n") + 2])


def checkpoint_signer_of_another_name(document: Any, _other: Any) -> None:
    _checkpoint(document, lambda note: note.replace(f"— {make.ORIGIN} ", "— other.example/log "))


def log_id(document: Any, _other: Any) -> None:
    _entry(document)["logId"]["keyId"] = _flip(_entry(document)["logId"]["keyId"], 31)


def hint(document: Any, _other: Any) -> None:
    document["verificationMaterial"]["publicKey"]["hint"] = _flip(document["verificationMaterial"]["publicKey"]["hint"])


def no_key(document: Any, _other: Any) -> None:
    del document["verificationMaterial"]["publicKey"]


def garbage_for_a_time_stamp(document: Any, _other: Any) -> None:
    document["verificationMaterial"]["timestampVerificationData"] = {"rfc3161Timestamps": [{"signedTimestamp": "AAAA"}]}


TAMPERINGS: dict[Callable[[Any, Any], None], str] = {
    payload: "digest mismatch",
    payload_of_another: "digest mismatch",
    envelope_of_another: "signature mismatch",
    payload_type: "digest mismatch",
    no_payload: "invalid bundle",
    signature: "signature mismatch",
    signature_of_another: "signature mismatch",
    second_form_of_the_signature: "signature mismatch",
    no_signature: "invalid bundle",
    body: "calculated root hash does not match inclusion proof",
    entry_of_another: "signature mismatch",
    no_entry: "expected 1 tlog entries, got 0",
    entry_twice: "duplicate tlog entry",
    entry_of_another_kind: "kind/version mismatch",
    proof_hash: "calculated root hash does not match inclusion proof",
    proof_hashes_swapped: "calculated root hash does not match inclusion proof",
    proof_hash_missing: "invalid hash count",
    proof_hash_too_many: "invalid hash count",
    proof_index: "calculated root hash does not match inclusion proof",
    proof_index_beyond_the_log: "invalid index: 6",
    checkpoint_size: "invalid checkpoint signature",
    checkpoint_root: "invalid checkpoint signature",
    checkpoint_origin: "invalid checkpoint signature",
    checkpoint_signature: "invalid checkpoint signature",
    checkpoint_key_id: "invalid checkpoint signature",
    checkpoint_without_signature: "no signatures found in checkpoint",
    checkpoint_signer_of_another_name: "invalid checkpoint signature",
    log_id: "invalid checkpoint signature",
    hint: "key not found",
    no_key: "invalid bundle",
    garbage_for_a_time_stamp: "unsupported tag 0x00",
}
"""Each change, and the reason for which the library refuses it: none is refused for another one's."""


@pytest.mark.parametrize("tamper", TAMPERINGS, ids=lambda tamper: tamper.__name__.replace("_", "-"))
def test_npm_and_we_refuse_a_certificate_after_tampering(tamper, npm, golden, at):
    document = json.loads(golden("certified.sigstore.json"))
    tamper(document, json.loads(golden("exact.sigstore.json")))
    changed = canonical_json(document)
    assert changed != golden("certified.sigstore.json")
    root = json.loads(golden("trusted_root.json"))
    answer = _ask(npm, changed, root, _keys(root))
    assert answer["accepted"] is False
    assert answer["message"].startswith(TAMPERINGS[tamper])
    with pytest.raises(VerificationError):
        verify(changed, golden("trusted_root.json"), at=at)


def another_root_beside_the_checkpoints(document: Any, _other: Any) -> None:
    """The library takes size and root from the checkpoint alone."""
    _proof(document)["rootHash"] = _flip(_proof(document)["rootHash"])


def another_size_beside_the_checkpoints(document: Any, _other: Any) -> None:
    _proof(document)["treeSize"] = "7"


def another_index_beside_the_proofs(document: Any, _other: Any) -> None:
    """The entry's own index is authenticated by nothing, and the library says so in its source."""
    _entry(document)["logIndex"] = "5"


def another_key_id_in_the_envelope(document: Any, _other: Any) -> None:
    """DSSE calls `keyid` an unauthenticated hint."""
    document["dsseEnvelope"]["signatures"][0]["keyid"] = "0" * 64


def an_unknown_member(document: Any, _other: Any) -> None:
    document["note"] = "as agreed"


def a_wrong_second_signature_of_the_log(document: Any, _other: Any) -> None:
    """One good signature is enough for the library; Go's package and ours call such a note spoilt."""
    bad = base64.b64encode(make.log_key.log_id[:4] + bytes(64)).decode()
    _checkpoint(document, lambda note: f"{note}— {make.ORIGIN} {bad}\n")


def another_version_of_the_bundle(document: Any, _other: Any) -> None:
    """The library takes any version of one digit for one that it knows."""
    document["mediaType"] = "application/vnd.dev.sigstore.bundle.v0.9+json"


LAXER: tuple[Callable[[Any, Any], None], ...] = (
    another_root_beside_the_checkpoints,
    another_size_beside_the_checkpoints,
    another_index_beside_the_proofs,
    another_key_id_in_the_envelope,
    an_unknown_member,
    a_wrong_second_signature_of_the_log,
    another_version_of_the_bundle,
)


@pytest.mark.parametrize("tamper", LAXER, ids=lambda tamper: tamper.__name__.replace("_", "-"))
def test_what_npm_lets_pass_is_refused_by_us(tamper, npm, golden, at):
    document = json.loads(golden("certified.sigstore.json"))
    tamper(document, None)
    root = json.loads(golden("trusted_root.json"))
    assert _ask(npm, canonical_json(document), root, _keys(root)) == {"accepted": True}
    with pytest.raises(VerificationError):
        verify(canonical_json(document), golden("trusted_root.json"), at=at)


def test_npm_reads_json_in_any_form_and_we_read_one(npm, golden, at):
    text = json.dumps(json.loads(golden("certified.sigstore.json")), indent=2).encode()
    root = json.loads(golden("trusted_root.json"))
    assert _ask(npm, text, root, _keys(root)) == {"accepted": True}
    with pytest.raises(VerificationError, match="bundle-not-canonical"):
        verify(text, golden("trusted_root.json"), at=at)


def test_npm_refuses_another_certificate_key_under_the_right_hint(npm, golden):
    root = json.loads(golden("trusted_root.json"))
    other = generate_private_key(SECP256R1()).public_key()
    pem = other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    answer = _ask(npm, golden("certified.sigstore.json"), root, dict.fromkeys(_keys(root), pem))
    assert (answer["accepted"], answer["code"]) == (False, "SIGNATURE_ERROR")


def test_npm_refuses_without_any_certificate_key(npm, golden):
    root = json.loads(golden("trusted_root.json"))
    answer = _ask(npm, golden("certified.sigstore.json"), root, {})
    assert (answer["accepted"], answer["code"]) == (False, "PUBLIC_KEY_ERROR")


@pytest.mark.parametrize(
    ("member", "value"),
    [("key", None), ("baseUrl", "https://other.example/log"), ("tlogs", [])],
    ids=["another-log-key", "another-logs-name", "no-log"],
)
def test_npm_refuses_under_another_log(member, value, npm, golden):
    root = json.loads(golden("trusted_root.json"))
    if member == "key":
        spki = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        root["tlogs"][0]["publicKey"]["rawBytes"] = base64.b64encode(spki).decode()
    elif member == "tlogs":
        root["tlogs"] = value
    else:
        root["tlogs"][0][member] = value
    answer = _ask(npm, golden("certified.sigstore.json"), root, _keys(root))
    assert (answer["accepted"], answer["code"]) == (False, "TLOG_INCLUSION_PROOF_ERROR")


def test_npm_and_we_accept_a_checkpoint_that_others_signed_too(npm, golden, signed_note, at):
    """A witness's line above the log's own: unknown to both, and ignored."""
    document = json.loads(golden("certified.sigstore.json"))
    text = _proof(document)["checkpoint"]["envelope"].split("\n\n")[0] + "\n"
    witness = ("witness.example", Ed25519PrivateKey.generate(), b"1234")
    log = (make.ORIGIN, make.log_signer.private_key, make.log_key.log_id[:4])
    _proof(document)["checkpoint"]["envelope"] = signed_note(text, witness, log)
    root = json.loads(golden("trusted_root.json"))
    assert _ask(npm, canonical_json(document), root, _keys(root)) == {"accepted": True}
    assert verify(canonical_json(document), golden("trusted_root.json"), at=at).tree_size == 6


def _ask(npm, certificate: bytes, root: Any, keys: dict[str, str], timestamps: int = 0) -> Any:
    return npm.ask(
        {
            "bundle": certificate.decode(),
            "trustedRoot": json.dumps(root),
            "keys": keys,
            "timestamps": timestamps,
        }
    )


def _keys(root: Any) -> dict[str, str]:
    """The trusted root's certificate keys as PEM, by hint: clients of Sigstore bring such keys themselves."""
    return {
        key["hint"]: f"-----BEGIN PUBLIC KEY-----\n{key['publicKey']['rawBytes']}\n-----END PUBLIC KEY-----\n"
        for key in root["certificateKeys"]
    }


def _without_certificate_keys(root: Any) -> Any:
    return {name: value for name, value in root.items() if name != "certificateKeys"}


def _checkpoint(document: Any, change: Callable[[str], str]) -> None:
    envelope = _proof(document)["checkpoint"]["envelope"]
    changed = change(envelope)
    assert changed != envelope
    _proof(document)["checkpoint"]["envelope"] = changed


def _with_signature(note: str, change: Callable[[str], str]) -> str:
    head, _, typed = note.rstrip("\n").rpartition(" ")
    return f"{head} {change(typed)}\n"
