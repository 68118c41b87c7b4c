"""Our log under the packages with which Go's own command checks its modules: signed notes and RFC 6962 proofs.

Their text of a tree differs from C2SP's checkpoint, so size and root are read here from the text that they opened.
"""

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certs import checkpoint
from certs.errors import CertificateError
from certs.keys import Ed25519Signer, PublicKey
from certs.merkle import EMPTY_ROOT, leaf_hash, verify_consistency, verify_inclusion
from certs.vectors import make, make_absence, make_stamped
from mbd.records import ledger
from mbd.records.database import begin_locked, begin_snapshot, open_database, upgrade

LARGEST = 200


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """Our ledger with LARGEST leaves, for reading."""
    url = f"sqlite:///{tmp_path_factory.mktemp('log') / 'records.sqlite3'}"
    upgrade(url)
    engine = open_database(url)
    with begin_locked(engine) as connection:
        ledger.append_many(connection, [b"entry %d" % number for number in range(LARGEST)])
    with begin_snapshot(engine) as connection:
        yield connection
    engine.dispose()


@pytest.fixture(scope="module")
def roots(log):
    return [ledger.root_at(log, size) for size in range(LARGEST + 1)]


@pytest.mark.parametrize("folder", [make.V1, make_absence.V1], ids=lambda folder: folder.name)
def test_go_opens_our_checkpoint_with_our_verifier_key(folder, go):
    note = (folder / "checkpoint").read_text()
    opened = go.ask({"note": note, "vkeys": [(folder / "log.vkey").read_text().strip()]})
    assert opened == {"accepted": True, "text": note.split("\n\n")[0] + "\n", "signers": [make.ORIGIN]}


def test_go_opens_a_checkpoint_with_cosignatures_that_it_does_not_know(go):
    note = (make_stamped.STAMPED / "log" / "checkpoint").read_text("utf-8")
    opened = go.ask({"note": note, "vkeys": [make_stamped.log_key.vkey]})
    assert opened == {"accepted": True, "text": note.split("\n\n")[0] + "\n", "signers": [make_stamped.ORIGIN]}


def test_go_checks_every_golden_certificate_against_the_checkpoint_that_it_opened(go, golden):
    for path in sorted([*make.V1.glob("*.sigstore.json"), *make_absence.V1.glob("*.sigstore.json")]):
        entry = json.loads(path.read_bytes())["verificationMaterial"]["tlogEntries"][0]
        proof = entry["inclusionProof"]
        note = proof["checkpoint"]["envelope"]
        opened = go.ask({"note": note, "vkeys": [golden("log.vkey").decode().strip()]})
        origin, size, root = opened["text"].splitlines()
        assert origin == make.ORIGIN
        question = {
            "path": proof["hashes"],
            "size": int(size),
            "root": root,
            "index": int(proof["logIndex"]),
            "body": entry["canonicalizedBody"],
        }
        assert go.ask({"record": question}) == {"accepted": True}
        for change in (
            {"body": _encoded(base64.b64decode(entry["canonicalizedBody"]) + b" ")},
            {"root": _encoded(EMPTY_ROOT)},
            {"index": question["index"] ^ 1},
            {"size": question["size"] * 2},
            {"path": question["path"][:-1]},
            {"path": [*question["path"], root]},
            {"path": [*question["path"][:-1], _encoded(_flipped(base64.b64decode(question["path"][-1])))]},
        ):
            assert go.ask({"record": question | change})["accepted"] is False, (path.name, change)


def test_go_and_we_refuse_a_changed_checkpoint(go, golden, signed_note):
    note, vkey = golden("checkpoint").decode(), golden("log.vkey").decode().strip()
    key = make.log_key
    thief = Ed25519PrivateKey.generate()
    text = note.split("\n\n")[0] + "\n"
    typed = note.rstrip("\n").rpartition(" ")[2]
    wrong = _encoded(key.log_id[:4] + bytes(64))
    for changed in (
        note.replace("\n6\n", "\n7\n"),
        note.replace(make.ORIGIN, "other.example/log", 1),
        note.replace(note.splitlines()[2], _encoded(EMPTY_ROOT)),
        note.replace(typed, wrong),
        note.replace(typed, "AAAA" + typed[4:]),
        note.replace(typed, typed[:8]),
        note.replace("\n\n", "\n"),
        note.replace("— ", "- "),
        note[:-1],
        note + "\n",
        note.replace("log\n", "log\r\n", 1),
        signed_note(text, (make.ORIGIN, thief, key.log_id[:4])),
        signed_note(text, ("other.example/log", make.log_signer.private_key, key.log_id[:4])),
        f"{note}— {make.ORIGIN} {_encoded(key.log_id[:4] + bytes(64))}\n".replace(typed, wrong, 1),
    ):
        assert changed != note
        assert go.ask({"note": changed, "vkeys": [vkey]})["accepted"] is False, changed
        with pytest.raises(CertificateError):
            _verify_note(changed)


LINES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
OTHER_LINES = st.builds(
    lambda name, data: f"— {name} {_encoded(data)}\n",
    st.sampled_from(["witness.example", make.ORIGIN, "a+b", "ü", "a\u00a0b", "a\u2028b", "a\u0085b", "\ufeffa"])
    | LINES,
    st.binary(max_size=8) | st.just(make.log_key.log_id[:4] + bytes(64)),
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    extensions=st.lists(LINES, max_size=2),
    around=st.tuples(st.lists(OTHER_LINES, max_size=2), st.lists(OTHER_LINES, max_size=2)),
    end=st.sampled_from(["", "", "\n", "x"]),
)
def test_what_we_open_go_opens_too(extensions, around, end, go, signed_note):
    """Notes that the log did sign, with lines of anything around its signature: ours never reads more than Go's."""
    text = f"{make.ORIGIN}\n6\n{_encoded(bytes(32))}\n" + "".join(line + "\n" for line in extensions)
    signed = signed_note(text, (make.ORIGIN, make.log_signer.private_key, make.log_key.log_id[:4]))
    head, _, line = signed.rpartition("\n\n")
    note = f"{head}\n\n{''.join(around[0])}{line}{''.join(around[1])}{end}"
    try:
        size = _verify_note(note)
    except CertificateError:
        return
    assert size == 6
    assert go.ask({"note": note, "vkeys": [make.log_key.vkey]}) == {
        "accepted": True,
        "text": text,
        "signers": [make.ORIGIN],
    }


def test_go_reads_no_verifier_key_that_does_not_fit_itself(go, golden):
    note, vkey = golden("checkpoint").decode(), golden("log.vkey").decode().strip()
    name, key_id, key = vkey.split("+", 2)
    other = PublicKey.from_spki(Ed25519Signer.generate().public_key)
    for changed in (
        f"{name}2+{key_id}+{key}",
        f"{name}+00000000+{key}",
        f"{name}+{key_id}+{_encoded(bytes([1]) + other.raw)}",
        f"{name}+{key_id}+{_encoded(bytes([2]) + base64.b64decode(key)[1:])}",
    ):
        assert go.ask({"note": note, "vkeys": [changed]})["accepted"] is False


def test_go_and_we_open_a_note_that_an_unknown_key_signed_too(go, golden, signed_note):
    note, vkey = golden("checkpoint").decode(), golden("log.vkey").decode().strip()
    witness = ("witness.example", Ed25519PrivateKey.generate(), b"1234")
    both = signed_note(
        note.split("\n\n")[0] + "\n", witness, (make.ORIGIN, make.log_signer.private_key, make.log_key.log_id[:4])
    )
    assert go.ask({"note": both, "vkeys": [vkey]})["signers"] == [make.ORIGIN]
    assert _verify_note(both) == 6


def test_go_accepts_every_inclusion_proof_of_our_ledger(go, log, roots):
    for size in range(1, LARGEST + 1):
        questions = [
            {
                "record": {
                    "path": [_encoded(digest) for digest in ledger.inclusion_proof(log, index, size)],
                    "size": size,
                    "root": _encoded(roots[size]),
                    "index": index,
                    "leaf": _encoded(leaf_hash(b"entry %d" % index)),
                }
            }
            for index in sorted({0, 1, size // 3, size // 2, size - 2, size - 1} & set(range(size)))
        ]
        assert _verdicts(go, questions) == {True}
        assert _verdicts(go, [_changed(question, "record", "root") for question in questions]) == {False}


def test_go_accepts_every_consistency_proof_of_our_ledger(go, log, roots):
    for size in range(2, LARGEST + 1):
        questions = [
            {
                "tree": {
                    "path": [_encoded(digest) for digest in ledger.consistency_proof(log, old, size)],
                    "size": size,
                    "root": _encoded(roots[size]),
                    "oldSize": old,
                    "oldRoot": _encoded(roots[old]),
                }
            }
            for old in sorted({1, 2, size // 3, size // 2, 1 << (size.bit_length() - 1), size - 1} - {0, size})
        ]
        assert _verdicts(go, questions) == {True}
        for member in ("root", "oldRoot"):
            assert _verdicts(go, [_changed(question, "tree", member) for question in questions]) == {False}


def test_go_and_we_agree_on_changed_inclusion_proofs(go, log, roots):
    """Wrong place, size, leaf, hash, order or number of hashes, for every leaf of one tree.

    A proof that is right for one size can be right for the next one too, under the same root: what binds a size to a
    root is the checkpoint's signature. So the two verifiers are compared, and not each with a list of verdicts.
    """
    size = 37
    questions, unchanged = [], []
    for index in range(size):
        path = ledger.inclusion_proof(log, index, size)
        good = {"path": path, "size": size, "root": roots[size], "index": index, "leaf": leaf_hash(b"entry %d" % index)}
        for change in (
            {},
            {"index": index ^ 1},
            {"index": size},
            {"size": size + 1},
            {"size": index},
            {"leaf": leaf_hash(b"another")},
            {"root": roots[size - 1]},
            *_changed_paths(path),
        ):
            questions.append(good | change)
            unchanged.append(not change)
    ours = [_accepts(verify_inclusion, **question) for question in questions]
    _check_that_go_agrees(go, "record", questions, ours, unchanged)


def test_go_and_we_agree_on_changed_consistency_proofs(go, log, roots):
    size = 37
    questions, unchanged = [], []
    for old in range(1, size):
        path = ledger.consistency_proof(log, old, size)
        good = {"path": path, "size": size, "root": roots[size], "oldSize": old, "oldRoot": roots[old]}
        for change in (
            {},
            {"oldSize": old + 1},
            {"oldSize": old - 1},
            {"size": size + 1},
            {"size": old},
            {"oldRoot": roots[old - 1]},
            {"root": roots[size - 1]},
            {"root": roots[old], "oldRoot": roots[size]},
            *_changed_paths(path),
        ):
            questions.append(good | change)
            unchanged.append(not change)
    ours = [
        _accepts(
            verify_consistency,
            size1=question["oldSize"],
            size2=question["size"],
            root1=question["oldRoot"],
            root2=question["root"],
            proof=question["path"],
        )
        for question in questions
    ]
    _check_that_go_agrees(go, "tree", questions, ours, unchanged)


def _check_that_go_agrees(
    go, kind: str, questions: list[dict[str, Any]], ours: list[bool], unchanged: list[bool]
) -> None:
    answers = go.ask({"batch": [{kind: _json(question)} for question in questions]})["answers"]
    assert ours == [answer["accepted"] for answer in answers]
    assert all(verdict for verdict, good in zip(ours, unchanged, strict=True) if good)
    assert ours.count(False) > len(ours) / 2


def _changed_paths(path: list[bytes]) -> list[dict[str, Any]]:
    """A proof with its hashes out of order, too few, too many, or wrong."""
    return [
        {"path": path[::-1] if len(path) > 1 else []},
        {"path": path[:-1]},
        {"path": path[1:]},
        {"path": [*path, path[-1]]},
        *({"path": [*path[:n], _flipped(path[n]), *path[n + 1 :]]} for n in range(len(path))),
    ]


def _verdicts(go, questions: list[dict[str, Any]]) -> set[bool]:
    return {answer["accepted"] for answer in go.ask({"batch": questions})["answers"]}


def _changed(question: dict[str, Any], kind: str, member: str) -> dict[str, Any]:
    value = _encoded(_flipped(base64.b64decode(question[kind][member])))
    return {kind: question[kind] | {member: value}}


def _json(question: dict[str, Any]) -> dict[str, Any]:
    def encode(value: Any) -> Any:
        if isinstance(value, list):
            return [_encoded(digest) for digest in value]
        return _encoded(value) if isinstance(value, bytes) else value

    return {name: encode(value) for name, value in question.items()}


def _accepts(check, **arguments: Any) -> bool:
    try:
        check(**arguments)
    except CertificateError:
        return False
    return True


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def _verify_note(note: str) -> int:
    """Our reader: the size that the note says, if the log signed it."""
    return checkpoint.verify(note, [make.log_key])[0].size
