"""The golden certificates verify for ever, and every named change of one is refused with its code."""

import json
from hashlib import sha256
from pathlib import Path

import pytest

from certs import bundle, checkpoint, proof, vectors
from certs.checkpoint import NoteKey
from certs.encoding import canonical_json
from certs.errors import Code, VerificationError
from certs.payload import from_payload, to_payload
from certs.vectors import make, make_absence
from certs.verification import verify

SIZES = dict.fromkeys(("certified", "empirical", "exact", "fine-tuned", "noise-commitment", "towers"), 6)
SIZES |= dict.fromkeys(("channel", "everyone", "person"), 9)
"""How large the log was under each certificate's checkpoint."""

PINNED = {
    "v1": {
        "certificate-key.pem": "9dd93c92bb023fc186e5cfdf5347c8781dec270bb360774f655eb87208e566c4",
        "certified.sigstore.json": "7e973dcc507c5ff33bc83eb3d27b3db02c2c0522081c4c86ac20a7d9c93201a2",
        "certified.statement.json": "2762d37901ce770b33f1c7c9c5b9bbf57efc550133cbbf4ce520bce79dcabb08",
        "certified.tlog-proof": "092465205669eb964569418c9d3da131cdb62732432c90d32adb727927323dae",
        "checkpoint": "6f470866776e6f971cd0e75959f9ea9d0bc5d25c5017375ee2e56fec0210d50e",
        "empirical.sigstore.json": "5960cde0713ba5ce0fa5ed1e6457e813a23c88cba5e62915daeb73b11ef1b69a",
        "empirical.statement.json": "fecf578c6e75a99314efd8578ccdb6d71a046a43533c4fae424d716ca37768bd",
        "empirical.tlog-proof": "36899624c5800e6b4be17ca0e83e51f22eea5f5782897645f61eea2cd9e87127",
        "exact.sigstore.json": "0f5c59e8e03286b3ae4cd91c6cfc615d02978c04fa92c4254749445bd4422039",
        "exact.statement.json": "9524d27c13849de4192a247c7c2833f887e7a55989e3a5c94d33cb01100df1c8",
        "exact.tlog-proof": "2f36aa40ecde8090097a0625de0c05c75a68b6ad314676b6e0f864a00ec07ab3",
        "fine-tuned.sigstore.json": "d52d69f7d6e44f5079a837f85af8506429afa2a099541b6597bef277e2a0b624",
        "fine-tuned.statement.json": "d0265f89caa20a50bea2590776bef9d988edd55a205a3e8e7d1d7eddbd8fde02",
        "fine-tuned.tlog-proof": "ccb5e431765ad76112a2acaaf549e6a09f95c6f9f15ec8c9561d4feb1860f702",
        "log.vkey": "056965092fb6d8a69c8009c7325d9528a4b95161d48436e9f4623143ed36b43b",
        "noise-commitment.sigstore.json": "a711016442d99a2400f39406f04babb46d7e333ccf3b2bb707056af8edb91dcb",
        "noise-commitment.statement.json": "91e97919e16c275dbc1b27e1d1d307fa7b31d9e689b6cb0795fbe4f2c6531075",
        "noise-commitment.tlog-proof": "4d18d8b7be2031032954d33ef1ecfa550aba3e5068b134d2572a71013ac2a179",
        "towers.sigstore.json": "b6ce0aa0b482b85d1e6faf72e44c18800fe5f5af92c57aa8fa16df6a92699189",
        "towers.statement.json": "ad67f041af347b9620c387a21f7dfd834c9c923aa3de440dd8e4fd1f5ac9334e",
        "towers.tlog-proof": "1c7e25bb460f216a39997e3c7b6dd7f525af1fa49b878e90ca9606e87785d8dc",
        "trusted_root.json": "c37e96ed31ab21d97a1fa51920e3ff2d1535a7c5ef34a5cd4577390a879fc033",
    },
    "absence-v1": {
        "certificate-key.pem": "9dd93c92bb023fc186e5cfdf5347c8781dec270bb360774f655eb87208e566c4",
        "channel.sigstore.json": "49f6c05b4cba3201651b134269eead10311dbfe37c8404be3f08ee46a70ef196",
        "channel.statement.json": "aeb0f128add92d194f3b40b511b157aa283d16ff080d0f5360fefc33cf953bbd",
        "channel.tlog-proof": "a1b0efa8360c6ee1bb86e98089605ae9de670c17346e51711373bb8f2d9a9046",
        "checkpoint": "1df1fb95c96aac9db0119995800e02c576f376ab1a59bef3549d5455ef16d136",
        "everyone.sigstore.json": "97e64a1144611639e2efd7ce6e7a14e882ddebc074eb0b23da437fe290c4edc9",
        "everyone.statement.json": "d3537149c7c9c8e30033690e5710caed3c015216c36643195e61d552844bc9f1",
        "everyone.tlog-proof": "81c6cdde141eb379df0bea99cdc804a207dfd65d77e69bdcf5b80b5c1e4ba413",
        "log.vkey": "056965092fb6d8a69c8009c7325d9528a4b95161d48436e9f4623143ed36b43b",
        "person.sigstore.json": "c6bb57fa6252d87e4a3d02637f6574c9bc781cb90b87cf75835d528a8283d045",
        "person.statement.json": "d8347d0a563aa43c3f8cf96d7d93e6c34e1da5b965859e828ee8c3d56c641eb4",
        "person.tlog-proof": "4021e564860b72c4342af75414379ca5eea3d6ac2761d7f9752c53e2b268ea62",
        "trusted_root.json": "c37e96ed31ab21d97a1fa51920e3ff2d1535a7c5ef34a5cd4577390a879fc033",
    },
}
INVALID = [
    vector
    for name in ("invalid-v1.json", "invalid-absence-v1.json")
    for vector in json.loads((Path(vectors.__file__).parent / name).read_text())
]


@pytest.mark.parametrize("folder", [make.V1, make_absence.V1], ids=lambda folder: folder.name)
def test_the_golden_files_are_the_committed_bytes(folder):
    found = {path.name: sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    assert found == PINNED[folder.name]


@pytest.mark.parametrize("name", SIZES)
def test_a_golden_certificate_verifies_for_ever(name, golden, trusted_root, at):
    verified = verify(golden(f"{name}.sigstore.json"), trusted_root, at=at)
    assert verified.verdict == f"valid as of checkpoint size {SIZES[name]} of vectors.missing-by-design.dev/log"
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


@pytest.mark.parametrize("name", SIZES)
def test_a_golden_statement_is_written_as_it_was_read(name, golden):
    payload = golden(f"{name}.statement.json")
    assert bundle.parse(golden(f"{name}.sigstore.json")).dsse_envelope.payload == payload
    assert to_payload(from_payload(payload)) == payload


@pytest.mark.parametrize("name", SIZES)
def test_a_golden_text_proof_verifies(name, golden):
    key = NoteKey.from_vkey(golden("log.vkey").decode().strip())
    leaf = bundle.parse(golden(f"{name}.sigstore.json")).entry.canonicalized_body
    assert proof.verify(proof.parse(golden(f"{name}.tlog-proof").decode()), leaf, [key]).size == SIZES[name]


def test_todays_code_makes_the_golden_statements(golden):
    """ECDSA is random, so bundles differ; what is signed does not."""
    for name, payload in (
        ("noise-commitment", make.noise_commitment()),
        ("certified", make.certified()),
        ("exact", make.exact()),
        ("empirical", make.empirical()),
        ("towers", make.towers()),
        ("fine-tuned", make.fine_tuned()),
        ("person", make_absence.person()),
        ("channel", make_absence.channel()),
        ("everyone", make_absence.everyone()),
    ):
        assert payload == golden(f"{name}.statement.json")
    assert make.root_file() == golden("trusted_root.json") == (make_absence.V1 / "trusted_root.json").read_bytes()


def test_the_golden_log_only_grew():
    leaves = make_absence.logged()
    for name in ("person", "channel", "everyone"):
        leaves.append(bundle.parse((make_absence.V1 / f"{name}.sigstore.json").read_bytes()).entry.canonicalized_body)
    key = NoteKey.from_vkey((make.V1 / "log.vkey").read_text().strip())
    for folder, size in ((make.V1, 6), (make_absence.V1, 9)):
        head, _ = checkpoint.verify((folder / "checkpoint").read_text(), [key])
        assert (head.size, head.root) == (size, make.root_of(leaves[:size]))


@pytest.mark.parametrize("module", [make, make_absence])
def test_golden_vectors_are_never_made_twice(module):
    with pytest.raises(SystemExit, match="never made again"):
        module.main()


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
