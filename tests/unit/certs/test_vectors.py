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

SIZES = dict.fromkeys(("certified", "empirical", "exact", "noise-commitment"), 4)
SIZES |= dict.fromkeys(("channel", "everyone", "person"), 7)
"""How large the log was under each certificate's checkpoint."""

PINNED = {
    "v1": {
        "certificate-key.pem": "9dd93c92bb023fc186e5cfdf5347c8781dec270bb360774f655eb87208e566c4",
        "certified.sigstore.json": "5c34f083163170a18086e19620f8ed5effd9878d5c00a907fd47142bd5cc2828",
        "certified.statement.json": "6b585412d66f3ca78809f48a4e910697018a0d0ed7850c1d1cad1cd3e31ce883",
        "certified.tlog-proof": "686d38a161e07e474f373c45e63a9de8dbe22af65b4cee2a0f44579ebca1bf21",
        "checkpoint": "fc43979210133ad7420edce391ad8e73d1b2577afae8d79f4e031c50c8a1615c",
        "empirical.sigstore.json": "98b7a9d17a580938a306ef7f6643c25e7aac827ad1e9514b5b8fc5f409359919",
        "empirical.statement.json": "54bf3d9f09c18811e25873cabd2fdbdd1ecc0d12a048a913dcb65fd2798aadf6",
        "empirical.tlog-proof": "fd2e8b6ad3a03b305137376b7029764f9a5f7bbb974737b17c846c05f761db7e",
        "exact.sigstore.json": "385396bb162abe35b87bd69d472deda9b0eaf2ddb1c81e1601495c1734363b74",
        "exact.statement.json": "bb75cdcdde9c021aa30622b52d948e67ca1144905a497a1db631feb94ae63d2f",
        "exact.tlog-proof": "c0a652afbd92ce6a3aab00a5af71e8f985e4ece465a11d1b3e2a34f2b2ab3a8f",
        "log.vkey": "056965092fb6d8a69c8009c7325d9528a4b95161d48436e9f4623143ed36b43b",
        "noise-commitment.sigstore.json": "5775a756f65dc892b42c4e8398c63a0e4d482bd9eace219661769ccc5d67bba0",
        "noise-commitment.statement.json": "91e97919e16c275dbc1b27e1d1d307fa7b31d9e689b6cb0795fbe4f2c6531075",
        "noise-commitment.tlog-proof": "20ef6299eb9fc0c490d707ebb338a7051ecadf03295c93affeacf144059d14c5",
        "trusted_root.json": "c37e96ed31ab21d97a1fa51920e3ff2d1535a7c5ef34a5cd4577390a879fc033",
    },
    "absence-v1": {
        "certificate-key.pem": "9dd93c92bb023fc186e5cfdf5347c8781dec270bb360774f655eb87208e566c4",
        "channel.sigstore.json": "fdb7300db5d191dcf9ca39c447927f15c514d27673bd212d4822b9b486c1bce0",
        "channel.statement.json": "aeb0f128add92d194f3b40b511b157aa283d16ff080d0f5360fefc33cf953bbd",
        "channel.tlog-proof": "e64e5088d213614237047f20bf8296822869a427e7ea1be24de34bc3efebe57a",
        "checkpoint": "b3ac508ee9e1ad2ff81f82a6a1eb2e177ed320918f61d3e97eb81ff5a170dcf0",
        "everyone.sigstore.json": "c93b6ad543cadae75cac46b213a6e6948a90b7e9db36ab8222ec89ccdb267a29",
        "everyone.statement.json": "d3537149c7c9c8e30033690e5710caed3c015216c36643195e61d552844bc9f1",
        "everyone.tlog-proof": "8af8fa87f62f9524bdb6c7f3b8f6eb6b6f7092e3df00ef378afab900cbbe69d8",
        "log.vkey": "056965092fb6d8a69c8009c7325d9528a4b95161d48436e9f4623143ed36b43b",
        "person.sigstore.json": "be7f7d83c4e43f3c56a88763d4489dcf0ed3a0145ef0edb484571bab3264a043",
        "person.statement.json": "d8347d0a563aa43c3f8cf96d7d93e6c34e1da5b965859e828ee8c3d56c641eb4",
        "person.tlog-proof": "2df2dbb5f15087855fe40684ec690a409ceaacda5b4e3a42e42a5b70086f0db7",
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
    for folder, size in ((make.V1, 4), (make_absence.V1, 7)):
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
