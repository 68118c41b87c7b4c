"""The golden certificates verify for ever, and every named change of one is refused with its code."""

import json
from hashlib import sha256
from pathlib import Path

import pytest

from certs import bundle, checkpoint, proof, vectors
from certs.encoding import canonical_json
from certs.errors import Code, VerificationError
from certs.note import NoteKey
from certs.payload import from_payload, to_payload
from certs.vectors import make, make_absence, make_stamped
from certs.verification import verify

SIZES = dict.fromkeys(("certified", "empirical", "exact", "fine-tuned", "noise-commitment", "towers"), 6)
SIZES |= dict.fromkeys(("channel", "everyone", "person"), 9)
"""How large the log was under each certificate's checkpoint."""

PINNED = {
    "v1": {
        "certificate-key.pem": "9dd93c92bb023fc186e5cfdf5347c8781dec270bb360774f655eb87208e566c4",
        "certified.sigstore.json": "0b8439cab5854156c8be37f644c1d2a028a182254868e9b9da98ba80f37b4aa2",
        "certified.statement.json": "84ef503744fb664d4ead0983e113845dd00c30746d44e3fc1af5d853b5bdc9e9",
        "certified.tlog-proof": "d7f3bb3f4377941d4b92d4b1edadeba2b4dbeabf5c98834e01473b67bd495aa2",
        "checkpoint": "8781f93a1107144acf7fd6afd509e61c2eb96120bd36a0b82ca629719b92fdd5",
        "empirical.sigstore.json": "bb44584d876990b2d288f505d64e4b6397250bb842fb8d1a6374b89ca2c60ab4",
        "empirical.statement.json": "af47f0892e2fb9076d6c1564fb8e02d9791c90770b95c1c9cd21c9200ece78a0",
        "empirical.tlog-proof": "ec9424886a92dbc1081d05cc3d80f8396c341e1f55b65f90cb6467442bb46ead",
        "exact.sigstore.json": "ed6eceac5763f8305654bbeaf0265dcc8dcb8994a310562e556a30e621d33e17",
        "exact.statement.json": "276e49bdd48c97b2467d735c9aed6a1f6dd1720bb7786f5dd4bfe0f8a8f7e9b3",
        "exact.tlog-proof": "512b0fcb933517ccca3e46721bc9306066c21b76dcf6f32e798eaa17385aefff",
        "fine-tuned.sigstore.json": "3dc7f3e89d59f1e739069c7842fce7d6f9a09b21f15cfbe79ac734be0f3fa392",
        "fine-tuned.statement.json": "7ec8df168fcb9a4d55b8e478e9a98fbaa1080c2e052272f128b8913268ffed51",
        "fine-tuned.tlog-proof": "25270b5c1ce9f0e77dbe714ab9dd37543140306ba1f2423723978b9805ec427c",
        "log.vkey": "056965092fb6d8a69c8009c7325d9528a4b95161d48436e9f4623143ed36b43b",
        "noise-commitment.sigstore.json": "1ca3ce8f8169ac2f766624183ec91740a4595e461e24f6b94c62657ec2c6e4cf",
        "noise-commitment.statement.json": "91e97919e16c275dbc1b27e1d1d307fa7b31d9e689b6cb0795fbe4f2c6531075",
        "noise-commitment.tlog-proof": "ebc7a270555b05b7a637a09795f006104f5530d584f985ba24ca60ebd06498fc",
        "towers.sigstore.json": "0f12cd698cd64b26a6151c70a5c993da31b2051975c03e5c97d34bc58e028d0e",
        "towers.statement.json": "739ae7bf6b9c47f80ff20b716422aaf7f6bc1dfcc09f3a055adbfc12c514e099",
        "towers.tlog-proof": "93bc32d0d8c84beb9e6589640f543801b1c135d323320394f521afcf9eb35b80",
        "trusted_root.json": "c37e96ed31ab21d97a1fa51920e3ff2d1535a7c5ef34a5cd4577390a879fc033",
    },
    "absence-v1": {
        "certificate-key.pem": "9dd93c92bb023fc186e5cfdf5347c8781dec270bb360774f655eb87208e566c4",
        "channel.sigstore.json": "60a6435fa5acd58b316c024773adea2f0b570b3d9815b60880f9a67050db7c5f",
        "channel.statement.json": "aeb0f128add92d194f3b40b511b157aa283d16ff080d0f5360fefc33cf953bbd",
        "channel.tlog-proof": "a40a8b63058e0774b4032bbf2c51caaa4368c905b13adcae9cc04922e67c7737",
        "checkpoint": "f1c9161ddce03fa1da7f9be9b76fe816af50b8bd096b5fbd8994ae43fb395c47",
        "everyone.sigstore.json": "fbdfbe7848b65458c46d48baf5f9c68d9f1a04bf8c5a8a910638aeb73cdd4d53",
        "everyone.statement.json": "d3537149c7c9c8e30033690e5710caed3c015216c36643195e61d552844bc9f1",
        "everyone.tlog-proof": "cad78725b24d3aff021e38f1490c02cafaa1e26ace4c8e8b1dde124988c09503",
        "log.vkey": "056965092fb6d8a69c8009c7325d9528a4b95161d48436e9f4623143ed36b43b",
        "person.sigstore.json": "98604c415e60d29586ff8435a68efa2be726101c0b2e861681cac7f4465bbf48",
        "person.statement.json": "d8347d0a563aa43c3f8cf96d7d93e6c34e1da5b965859e828ee8c3d56c641eb4",
        "person.tlog-proof": "828692b82dbafdf06f3b8a652fa62ba8bf2f97d414cafc00ea93a64180934095",
        "trusted_root.json": "c37e96ed31ab21d97a1fa51920e3ff2d1535a7c5ef34a5cd4577390a879fc033",
    },
    "stamped-v1": {
        "before-the-theft.sigstore.json": "fc1944b6cef47841bd39fef2a3efdb2b920462b318d5d02e00835fd95d4d72dc",
        "by-the-thief.sigstore.json": "f120cc042221b7c4455649b593cd1de1eebd0ea0d0361b99c9589293370c0b9a",
        "expected.json": "fc3dba90a1401244456883a57b60eaed43ab701b22a7d2c7122734e5b2ef49fb",
        "in-error.sigstore.json": "5ada76460a0d0e88360bfe44917fc3538c71d0c45fcb567a0e506212aae19a31",
        "log/checkpoint": "a31b36361f673b7d1a429ceea88f896b85ce73f71b3a8ddd75fe1e266b785f5e",
        "log/tile/0/000.p/11": "ea3b60456fa648f7217a39a21e210654f1e7958f8124595241b828b4fa3309d9",
        "log/tile/entries/000.p/11": "d87accbaf0d23e8d109adb51c6727a88c11e766e387cfcdfbb37e88be7fa1556",
        "log-ml-dsa-44.vkey": "85830c5cf161b72d868cd5bfe23e29b1571882972184ad32a1a26721bf7e629b",
        "log.vkey": "bffd960dbe548dbce9511781f23ed9fe13fc770ae3b5e946f437ec278ae8ecf0",
        "successor.sigstore.json": "40ec30e0f4ca4462fbef254dae66b9cea226e228cb5b79a58754d8ffcd82640b",
        "superseded.sigstore.json": "15d9b4e8e1ff59cb061e2e3d36b5d864961b2cc11615b72503e5c575c0bcbd69",
        "time-stamp-chain.pem": "318c7d3f564a030004a6ab21cb32ec9316dfd6150c0d51e338d9094eba3b6079",
        "trusted_root.json": "2a8811bc7fa456a93e4e6d96b55f18705f37743883d91051fada4dc95bf9b25c",
        "witness.vkey": "b3daadc8c72c9e00267320d212efb26e5bf10b536760603880bbf00d4f48a90d",
    },
}
INVALID = [
    vector
    for name in ("invalid-v1.json", "invalid-absence-v1.json")
    for vector in json.loads((Path(vectors.__file__).parent / name).read_text())
]


@pytest.mark.parametrize("folder", [make.V1, make_absence.V1, make_stamped.STAMPED], ids=lambda folder: folder.name)
def test_the_golden_files_are_the_committed_bytes(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    found = {path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest() for path in files}
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


@pytest.mark.parametrize("module", [make, make_absence, make_stamped])
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
    elsewhere = {  # these need another trusted root or clock, artifacts, openings, a log's copy, a policy or a key file
        Code.TRUSTED_ROOT_MALFORMED,
        Code.KEY_INVALID,
        Code.KEY_NOT_VALID,
        Code.LOG_KEY_NOT_VALID,
        Code.CHECKPOINT_ORIGIN_MISMATCH,
        Code.CONSISTENCY_INVALID,
        Code.PROOF_MALFORMED,
        Code.TIMESTAMP_AUTHORITY_UNKNOWN,
        Code.TILE_MALFORMED,
        Code.TILE_MISMATCH,
        Code.TILE_MISSING,
        Code.NOTICE_MALFORMED,
        Code.LOG_COPY_INVALID,
        Code.CERTIFICATE_REVOKED,
        Code.KEY_COMPROMISED,
        Code.POLICY_MALFORMED,
        Code.WITNESS_QUORUM_MISSING,
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
