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

CERTIFICATES = ["certified", "empirical", "exact", "fine-tuned", "noise-commitment", "towers"]
PINNED = {
    "certificate-key.pem": "9dd93c92bb023fc186e5cfdf5347c8781dec270bb360774f655eb87208e566c4",
    "certified.sigstore.json": "670e3bc87261a0c309deeb17db9c118809b3fe4dbf463763c4a9110cbccc6ae9",
    "certified.statement.json": "2762d37901ce770b33f1c7c9c5b9bbf57efc550133cbbf4ce520bce79dcabb08",
    "certified.tlog-proof": "ee6a8aebebbe6cd1765a8cd4a5e93a0b5c7a1057b7e20b7d388ac31548185f58",
    "checkpoint": "cd57845627782353e07f7385715fd20216a5d7068f8c16ed027ff5dc64e96e18",
    "empirical.sigstore.json": "cd2339924e53106abe6e6426b3b6a7abdfef8c36ad8476110061e7e4b4c3397c",
    "empirical.statement.json": "fecf578c6e75a99314efd8578ccdb6d71a046a43533c4fae424d716ca37768bd",
    "empirical.tlog-proof": "bce60c6abc9b08b4d8e289c441678dea457973b886d1c4d7184f40f52e349f72",
    "exact.sigstore.json": "167327fc9ac0c37fa9a406263412d6835b8c367b62d7c0aed5d06bbc89f18895",
    "exact.statement.json": "9524d27c13849de4192a247c7c2833f887e7a55989e3a5c94d33cb01100df1c8",
    "exact.tlog-proof": "dcdb389f07a3b6fb55c10ae1960f292fcc17b1c2d62478e280e4eb04efe3690d",
    "fine-tuned.sigstore.json": "1e40a0640cd413c9e21e48cb100ce031a386a01300cb63b4a640d501229756d3",
    "fine-tuned.statement.json": "d0265f89caa20a50bea2590776bef9d988edd55a205a3e8e7d1d7eddbd8fde02",
    "fine-tuned.tlog-proof": "de527beb51a42dcbb89fd98fba61334cb6dce30944b93eeec195280cdfee943f",
    "log.vkey": "056965092fb6d8a69c8009c7325d9528a4b95161d48436e9f4623143ed36b43b",
    "noise-commitment.sigstore.json": "a9717a94dc5accdd67848ce62f7bdd04603441354f7b97a8d1030c8f3d5f624f",
    "noise-commitment.statement.json": "91e97919e16c275dbc1b27e1d1d307fa7b31d9e689b6cb0795fbe4f2c6531075",
    "noise-commitment.tlog-proof": "56d358ea127189c5396b65f79294b0f5f415cc454a9a6d39df34f99677d8d16f",
    "towers.sigstore.json": "70daa5e4b7225bddd26ffe35cd60e8ed9578e7adbc1ff13b1fe53771ad1cbbb1",
    "towers.statement.json": "ad67f041af347b9620c387a21f7dfd834c9c923aa3de440dd8e4fd1f5ac9334e",
    "towers.tlog-proof": "da832801ba22226d3ba25a19d3c4d6346a738b6ba41fdfd1a96621a362f88162",
    "trusted_root.json": "c37e96ed31ab21d97a1fa51920e3ff2d1535a7c5ef34a5cd4577390a879fc033",
}
INVALID = json.loads((Path(vectors.__file__).parent / "invalid-v1.json").read_text())


def test_the_golden_files_are_the_committed_bytes():
    found = {path.name: sha256(path.read_bytes()).hexdigest() for path in make.V1.iterdir()}
    assert found == PINNED


@pytest.mark.parametrize("name", CERTIFICATES)
def test_a_golden_certificate_verifies_for_ever(name, golden, trusted_root, at):
    verified = verify(golden(f"{name}.sigstore.json"), trusted_root, at=at)
    assert verified.verdict == "valid as of checkpoint size 6 of vectors.missing-by-design.dev/log"
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
    assert proof.verify(proof.parse(golden(f"{name}.tlog-proof").decode()), leaf, [key]).size == 6


def test_todays_code_makes_the_golden_statements(golden):
    """ECDSA is random, so bundles differ; what is signed does not."""
    for name, payload in (
        ("noise-commitment", make.noise_commitment()),
        ("certified", make.certified()),
        ("exact", make.exact()),
        ("empirical", make.empirical()),
        ("towers", make.towers()),
        ("fine-tuned", make.fine_tuned()),
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
    elsewhere = {  # these need another trusted root, another clock, artifacts, openings, a log or a key file
        Code.TRUSTED_ROOT_MALFORMED,
        Code.KEY_INVALID,
        Code.KEY_NOT_VALID,
        Code.LOG_KEY_NOT_VALID,
        Code.CHECKPOINT_ORIGIN_MISMATCH,
        Code.CONSISTENCY_INVALID,
        Code.PROOF_MALFORMED,
        Code.ARTIFACT_UNKNOWN,
        Code.ARTIFACT_MISMATCH,
        Code.OPENING_MISMATCH,
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
