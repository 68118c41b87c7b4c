"""The example of RFC 6962 section 2.1.3: a tree of seven leaves with its named nodes, its audit paths and its proofs.

hash = k || l,  k = g || h,  l = i || j,  g = a || b,  h = c || d,  i = e || f
"""

import hashlib

import pytest
from sqlalchemy import Engine

from certs.merkle import verify_consistency, verify_inclusion
from mbd.records import ledger
from mbd.records.database import begin_locked, begin_snapshot

DATA = [b"d%d" % number for number in range(7)]


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


NODES = {name: hashlib.sha256(b"\x00" + data).digest() for name, data in zip("abcdefj", DATA, strict=True)}
for name, (left, right) in {"g": "ab", "h": "cd", "i": "ef", "k": "gh", "l": "ij"}.items():
    NODES[name] = _node(NODES[left], NODES[right])
ROOT = _node(NODES["k"], NODES["l"])

AUDIT_PATHS = {0: "bhl", 3: "cgl", 4: "fjk", 6: "ik"}
CONSISTENCY = {3: "cdgl", 4: "l", 6: "ijk"}
OLDER_ROOTS = {
    3: _node(NODES["g"], NODES["c"]),
    4: NODES["k"],
    6: _node(NODES["k"], NODES["i"]),
}


@pytest.fixture
def log(engine: Engine):
    with begin_locked(engine) as connection:
        ledger.append_many(connection, DATA)
    with begin_snapshot(engine) as connection:
        yield connection


def test_the_ledger_gives_the_audit_paths_of_the_rfc(log):
    assert ledger.root_at(log, 7) == ROOT
    for index, names in AUDIT_PATHS.items():
        path = [NODES[name] for name in names]
        assert ledger.inclusion_proof(log, index, 7) == path
        verify_inclusion(index, 7, NODES["abcdefj"[index]], path, ROOT)


def test_the_ledger_gives_the_consistency_proofs_of_the_rfc(log):
    for old, names in CONSISTENCY.items():
        proof = [NODES[name] for name in names]
        assert ledger.root_at(log, old) == OLDER_ROOTS[old]
        assert ledger.consistency_proof(log, old, 7) == proof
        verify_consistency(old, 7, OLDER_ROOTS[old], ROOT, proof)
