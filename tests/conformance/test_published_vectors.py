"""Test vectors that others publish, run from a folder of checkouts that MBD_TEST_VECTORS names. None is copied here.

The folder has, each if it is there: ``merkle``, ``tessera`` and ``formats`` (transparency-dev), ``wycheproof`` and
``CCTV`` (C2SP), ``json-canonicalization`` (cyberphone) and ``sigstore-conformance`` (sigstore).
"""

import base64
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from certs import bundle as bundles
from certs import checkpoint as checkpoints
from certs import trusted_root as roots
from certs.encoding import canonical_json, parse_json
from certs.errors import CertificateError, Code, VerificationError
from certs.keys import Algorithm, PublicKey
from certs.merkle import leaf_hash, verify_consistency, verify_inclusion
from certs.note import NoteKey
from certs.verification import verify
from mbd import hashing

VERIFIER_KEY = re.compile(r"[^\s+]+\+[0-9a-f]{8}\+\S+")
AT = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)


def test_transparency_devs_inclusion_proofs(published):
    def check(vector: Any) -> None:
        verify_inclusion(
            vector["leafIdx"],
            vector["treeSize"],
            _bytes(vector["leafHash"]),
            [_bytes(digest) for digest in vector["proof"] or ()],
            _bytes(vector["root"]),
        )

    _agrees(published("merkle") / "testdata" / "inclusion", check, least=90)


def test_transparency_devs_consistency_proofs(published):
    def check(vector: Any) -> None:
        verify_consistency(
            vector["size1"],
            vector["size2"],
            _bytes(vector["root1"]),
            _bytes(vector["root2"]),
            [_bytes(digest) for digest in vector["proof"] or ()],
        )

    _agrees(published("merkle") / "testdata" / "consistency", check, least=90)


def test_tesseras_log(published):
    """Sixteen checkpoints over fifteen leaves, their tiles and their bundles of entries."""
    folder = published("tessera") / "testdata"
    script = (folder / "build_log.sh").read_text()
    key = NoteKey.from_vkey(script.split('LOG_PUBLIC_KEY="')[1].split('"')[0])
    heads = [checkpoints.verify((folder / f"log/checkpoint.{size}").read_text(), [key])[0] for size in range(16)]
    assert [head.size for head in heads] == list(range(16))
    for size in range(1, 16):
        tile = (folder / f"log/tile/0/000.p/{size}").read_bytes()
        hashes = [tile[start : start + 32] for start in range(0, len(tile), 32)]
        entries = _entries((folder / f"log/tile/entries/000.p/{size}").read_bytes())
        assert [leaf_hash(entry) for entry in entries] == hashes
        assert hashing.tree_root(hashes) == heads[size].root
        for index, path in enumerate(hashing.inclusion_paths(hashes, range(size))):
            verify_inclusion(index, size, hashes[index], path, heads[size].root)


def test_verifier_keys_in_formats_tests(published):
    """Those of Ed25519, of logs and of a witness, are read and written back; those of Rekor and of static CT refused.

    So is the one of ML-DSA-44: its hash is not that of its name and key, which those tests do not look at.
    """
    words = "\n".join(path.read_text() for path in (published("formats") / "note").glob("*_test.go")).split('"')
    keys = {word for word in words if VERIFIER_KEY.fullmatch(word)}
    read, refused = set(), set()
    for vkey in keys:
        try:
            assert NoteKey.from_vkey(vkey).vkey == vkey
            read.add(vkey.partition("+")[0])
        except CertificateError as error:
            assert error.code is Code.KEY_INVALID
            refused.add(vkey.partition("+")[0])
    assert read == {"PeterNeumann", "TEST", "logandmap", "remora.n621.de"}
    assert {"test", "rekor.sigstore.dev", "rome.ct.filippo.io/2024h1"} <= refused


@pytest.mark.parametrize(
    ("name", "algorithm"),
    [("ed25519_test", Algorithm.ED25519), ("ecdsa_secp256r1_sha256_test", Algorithm.ECDSA_P256)],
)
def test_wycheproofs_signatures(name, algorithm, published):
    document = json.loads((published("wycheproof") / "testvectors_v1" / f"{name}.json").read_bytes())
    wrong = []
    for group in document["testGroups"]:
        key = PublicKey.from_spki(bytes.fromhex(group["publicKeyDer"]))
        assert key.algorithm is algorithm
        for test in group["tests"]:
            verdict = key.verifies(bytes.fromhex(test["sig"]), bytes.fromhex(test["msg"]))
            if verdict != (test["result"] == "valid"):
                wrong.append((test["tcId"], test["comment"]))
    assert wrong == []
    assert document["numberOfTests"] > 100


def test_cctvs_edge_cases_of_ed25519(published):
    """Low order and second encodings of a key are refused when it is read; of R, when a signature is verified."""
    vectors = json.loads((published("CCTV") / "ed25519" / "ed25519vectors.json").read_bytes())
    assert len(vectors) > 900
    for vector in vectors:
        flags = set(vector["flags"] or ())
        if flags & {"low_order_A", "non_canonical_A"}:
            with pytest.raises(CertificateError) as failure:
                PublicKey.from_raw(Algorithm.ED25519, bytes.fromhex(vector["key"]))
            assert failure.value.code is Code.KEY_INVALID
            continue
        key = PublicKey.from_raw(Algorithm.ED25519, bytes.fromhex(vector["key"]))
        verdict = key.verifies(bytes.fromhex(vector["sig"]), vector["msg"].encode())
        assert not (verdict and flags & {"non_canonical_R", "low_order_residue"}), vector["number"]


def test_canonical_json_of_the_authors_of_rfc_8785(published):
    folder = published("json-canonicalization") / "testdata"
    names = sorted(path.name for path in (folder / "input").glob("*.json"))
    assert len(names) >= 6
    for name in names:
        assert canonical_json(parse_json((folder / "input" / name).read_bytes())) == (
            folder / "output" / name
        ).read_bytes().rstrip(b"\n"), name


def test_bundles_of_sigstore_are_refused_cleanly(published, golden):
    """They are signed by short-lived certificates or by other people's keys: none is a certificate of ours."""
    paths = sorted((published("sigstore-conformance") / "test" / "assets" / "bundle-verify").rglob("*.json"))
    assert len(paths) > 60
    for path in paths:
        data = path.read_bytes()
        with pytest.raises(VerificationError) as failure:
            verify(data, golden("trusted_root.json"), at=AT)
        assert failure.value.step == 1, path
        if "sigstore.json" in path.name:
            with pytest.raises(CertificateError):
                bundles.parse(data)
        with pytest.raises(CertificateError) as malformed:
            roots.parse(data)
        assert malformed.value.remedy


def _agrees(folder: Path, check: Callable[[Any], None], *, least: int) -> None:
    """Every vector gets the verdict that it asks for."""
    wrong, count = [], 0
    for path in sorted(folder.rglob("*.json")):
        vector = json.loads(path.read_bytes())
        count += 1
        try:
            check(vector)
            refused = False
        except CertificateError:
            refused = True
        if refused != vector["wantErr"]:
            wrong.append((path.relative_to(folder).as_posix(), vector["desc"]))
    assert wrong == []
    assert count >= least


def _bytes(text: str | None) -> bytes:
    return base64.b64decode(text or "")


def _entries(tile: bytes) -> list[bytes]:
    """A tlog-tiles bundle of entries: each with its length in two bytes before it."""
    entries = []
    while tile:
        end = 2 + int.from_bytes(tile[:2])
        entries.append(tile[2:end])
        tile = tile[end:]
    return entries
