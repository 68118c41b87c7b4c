"""The golden certificates verify for ever, and every named change of one is refused with its code."""

import json
from hashlib import sha256
from pathlib import Path

import pytest

from certs import bundle, proof, vectors
from certs.checkpoint import NoteKey
from certs.encoding import canonical_json
from certs.errors import Code, VerificationError
from certs.statement import from_payload, to_payload
from certs.vectors import make
from certs.verification import verify

CERTIFICATES = ["certified", "empirical", "exact", "noise-commitment"]
PINNED = {
    "certificate-key.pem": "9dd93c92bb023fc186e5cfdf5347c8781dec270bb360774f655eb87208e566c4",
    "certified.sigstore.json": "c6a0f39b6a10aa4c8995b21fb06006abd63799475d4e2836ba37dadc5d6b1afd",
    "certified.statement.json": "167fa4d5279601cd5a9de640403e899a163f7bcfe4b41641800746b29b0de6a7",
    "certified.tlog-proof": "b5f630fda74a54ee00b2b1f2a6568e0e8bfcb5a50a83da78d925e92d4dd8fc3c",
    "checkpoint": "4579b2ed0b14ea594869d6f222399651793ba4a3f05422b3973ca76bd7e090cb",
    "empirical.sigstore.json": "7efcccc646a614b2db29866a1c30c26d6e125a8dc0a2997bd6a6f20e85e19b8e",
    "empirical.statement.json": "8bdf3d1eec59efa9aa2e6873a3f7e5619603c31e812f87ccc0afb48742a97ae4",
    "empirical.tlog-proof": "242b13c64215ed6ce9f557c4ff32c0c1d71e46ef3969e4a0246bee081791a8a3",
    "exact.sigstore.json": "0923fb55d1161d41e2215c00d5e5831a6f4563e384c3f57ef85ab96433afb12a",
    "exact.statement.json": "c7bad91ca0a6df1478dfa092426c9682d3729093a98d40a1a796376c85b5d14a",
    "exact.tlog-proof": "036ca7e02852229fc8ea94224472d6fb4bcbc91dd9160d1c4eb8104c0d717679",
    "log.vkey": "056965092fb6d8a69c8009c7325d9528a4b95161d48436e9f4623143ed36b43b",
    "noise-commitment.sigstore.json": "8cbe781bba18794b85483f19ccd033a9646c14bcda6a8b599b4a152e31573eb3",
    "noise-commitment.statement.json": "91e97919e16c275dbc1b27e1d1d307fa7b31d9e689b6cb0795fbe4f2c6531075",
    "noise-commitment.tlog-proof": "9eff0f6faf3d241d7e829ee5a4247bcdfbc9947bd215e9a83ce1c1570f2017d5",
    "trusted_root.json": "c37e96ed31ab21d97a1fa51920e3ff2d1535a7c5ef34a5cd4577390a879fc033",
}
INVALID = json.loads((Path(vectors.__file__).parent / "invalid-v1.json").read_text())


def test_the_golden_files_are_the_committed_bytes():
    found = {path.name: sha256(path.read_bytes()).hexdigest() for path in make.V1.iterdir()}
    assert found == PINNED


@pytest.mark.parametrize("name", CERTIFICATES)
def test_a_golden_certificate_verifies_for_ever(name, golden, trusted_root, at):
    verified = verify(golden(f"{name}.sigstore.json"), trusted_root, at=at)
    assert verified.verdict == "valid as of checkpoint size 4 of vectors.missing-by-design.dev/log"
    assert [(step.number, step.result) for step in verified.steps] == [
        (1, "passed"),
        (2, "passed"),
        (3, "passed"),
        (4, "not present"),
        (5, "passed"),
        (6, "not present"),
        (7, "passed"),
        (8, "not present"),
    ]


@pytest.mark.parametrize("name", CERTIFICATES)
def test_a_golden_statement_is_written_as_it_was_read(name, golden):
    payload = golden(f"{name}.statement.json")
    assert bundle.parse(golden(f"{name}.sigstore.json")).dsse_envelope.payload == payload
    assert to_payload(from_payload(payload)) == payload


@pytest.mark.parametrize("name", CERTIFICATES)
def test_a_golden_text_proof_verifies(name, golden):
    key = NoteKey.from_vkey(golden("log.vkey").decode().strip())
    leaf = bundle.parse(golden(f"{name}.sigstore.json")).entry.canonicalized_body
    assert proof.verify(proof.parse(golden(f"{name}.tlog-proof").decode()), leaf, [key]).size == 4


def test_todays_code_makes_the_golden_statements(golden):
    """ECDSA is random, so bundles differ; what is signed does not."""
    for name, payload in (
        ("noise-commitment", make.noise_commitment()),
        ("certified", make.certified()),
        ("exact", make.exact()),
        ("empirical", make.empirical()),
    ):
        assert payload == golden(f"{name}.statement.json")
    assert make.root_file() == golden("trusted_root.json")


def test_golden_vectors_are_never_made_twice():
    with pytest.raises(SystemExit, match="never made again"):
        make.main()


@pytest.mark.parametrize("vector", INVALID, ids=[vector["name"].replace(" ", "-") for vector in INVALID])
def test_a_changed_certificate_is_refused_with_its_code(vector, golden, locate, trusted_root, at):
    changed = _change(vector, golden, locate)
    with pytest.raises(VerificationError) as failure:
        verify(changed, trusted_root, at=at)
    assert (failure.value.step, failure.value.code) == (vector["step"], vector["code"])
    assert failure.value.message
    assert failure.value.remedy


def test_the_invalid_vectors_cover_every_code_that_one_certificate_can_meet():
    elsewhere = {  # these need another trusted root, another clock, artifacts, a log or a key file
        Code.TRUSTED_ROOT_MALFORMED,
        Code.KEY_INVALID,
        Code.KEY_NOT_VALID,
        Code.LOG_KEY_NOT_VALID,
        Code.CHECKPOINT_ORIGIN_MISMATCH,
        Code.CONSISTENCY_INVALID,
        Code.PROOF_MALFORMED,
        Code.ARTIFACT_UNKNOWN,
        Code.ARTIFACT_MISMATCH,
        Code.KEY_FILE_EXISTS,
        Code.KEY_FILE_PERMISSIONS,
        Code.KEY_FILE_UNREADABLE,
        Code.KEY_FILE_PASSPHRASE,
    }
    assert {vector["code"] for vector in INVALID} == set(Code) - elsewhere


def _change(vector, golden, locate) -> bytes:
    """A vector's certificate: a change of the bundle, or of the statement, which is then signed and logged anew."""
    of_statement = vector["part"].startswith("statement")
    original = golden(f"{vector['base']}.{'statement' if of_statement else 'sigstore'}.json")
    if "replace" in vector:
        old, new = vector["replace"]
        assert original.decode().count(old) == 1
        changed = original.decode().replace(old, new.replace("@@1MiB@@", "x" * (1 << 20))).encode()
    else:
        document = json.loads(original)
        holder, last = locate(document, vector["pointer"])
        if vector.get("remove"):
            del holder[last]
        else:
            value = vector["value"]
            if isinstance(value, str) and value.startswith("@/"):
                source, member = locate(document, value[1:])
                value = source[member]
            holder[last] = value
        changed = canonical_json(document)
    assert changed != original
    return make.issue([golden("noise-commitment.statement.json"), changed])[1] if of_statement else changed
