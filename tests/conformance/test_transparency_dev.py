"""Our text proofs and our ledger under transparency-dev's packages, where MBD_TEST_VECTORS names checkouts of them."""

import base64
import json

import pytest

from certs.vectors import make, make_absence
from mbd.records import ledger
from mbd.records.database import begin_locked, begin_snapshot, open_database, upgrade

PROOFS = sorted([*make.V1.glob("*.tlog-proof"), *make_absence.V1.glob("*.tlog-proof")])


@pytest.mark.parametrize("path", PROOFS, ids=lambda path: path.name.removesuffix(".tlog-proof"))
def test_transparency_dev_accepts_a_golden_text_proof(path, transparency_dev, golden):
    text = path.read_text(encoding="utf-8")
    bundle = json.loads(path.with_name(path.name.replace("tlog-proof", "sigstore.json")).read_bytes())
    body = bundle["verificationMaterial"]["tlogEntries"][0]["canonicalizedBody"]
    question = {"proof": text, "vkey": golden("log.vkey").decode().strip(), "body": body}
    assert transparency_dev.ask(question) == {"accepted": True}
    lines = text.splitlines()
    other_hash = base64.b64encode(bytes(32)).decode()
    for change in (
        {"body": base64.b64encode(base64.b64decode(body) + b" ").decode()},
        {"proof": text.replace("index ", "index 1", 1)},
        {"proof": text.replace("tlog-proof@v1", "tlog-proof@v2")},
        {"proof": text.replace(lines[2], other_hash)},
        {"proof": text.replace(lines[2] + "\n", "")},
        {"proof": text.replace(f"/log\n{'9' if 'absence' in str(path) else '6'}\n", "/log\n8\n")},
    ):
        assert (question | change) != question
        assert transparency_dev.ask(question | change)["accepted"] is False, change


def test_transparency_dev_accepts_the_consistency_proofs_of_our_ledger(transparency_dev, tmp_path):
    url = f"sqlite:///{tmp_path / 'records.sqlite3'}"
    upgrade(url)
    engine = open_database(url)
    with begin_locked(engine) as connection:
        ledger.append_many(connection, [b"entry %d" % number for number in range(40)])
    with begin_snapshot(engine) as connection:
        for size in range(2, 41):
            for old in range(1, size):
                question = {
                    "oldSize": old,
                    "oldRoot": _encoded(ledger.root_at(connection, old)),
                    "size": size,
                    "root": _encoded(ledger.root_at(connection, size)),
                    "path": [_encoded(digest) for digest in ledger.consistency_proof(connection, old, size)],
                }
                assert transparency_dev.ask(question) == {"accepted": True}
                changed = question | {"path": [*question["path"][:-1], _encoded(bytes(32))]}
                assert transparency_dev.ask(changed)["accepted"] is False
    engine.dispose()


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()
