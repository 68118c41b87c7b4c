"""The reader against files made by the definitions of RFC 6962 and tlog-tiles, and against servers that lie."""

from functools import cache
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymerkle import InmemoryTree

from certs.checkpoint import Checkpoint
from certs.errors import CertificateError, Code
from certs.log_reader import LogReader
from certs.merkle import verify_consistency, verify_inclusion

SIZES = [1, 2, 3, 255, 256, 257, 511, 512, 513, 700, 1024]
LARGE = 70_000


@cache
def entry(index: int) -> bytes:
    return b"entry %d" % index


@cache
def mth(low: int, high: int) -> bytes:
    """RFC 6962 section 2.1, as it is written."""
    if high == low:
        return sha256(b"").digest()
    if high - low == 1:
        return sha256(b"\x00" + entry(low)).digest()
    k = 1
    while 2 * k < high - low:
        k *= 2
    return sha256(b"\x01" + mth(low, low + k) + mth(low + k, high)).digest()


def name(index: int) -> str:
    """Path elements of an index, by division."""
    last, rest = f"{index % 1000:03}", index // 1000
    while rest:
        last, rest = f"x{rest % 1000:03}/{last}", rest // 1000
    return last


def files_of(size: int) -> dict[str, bytes]:
    """Everything that a log of this size serves, as tlog-tiles defines it."""
    files = {}
    for level in range(4):
        hashes = size // 256**level
        for n in range(-(-hashes // 256)):
            width = min(256, hashes - 256 * n)
            suffix = f"{name(n)}.p/{width}" if width < 256 else name(n)
            span = 256**level
            files[f"tile/{level}/{suffix}"] = b"".join(
                mth((256 * n + i) * span, (256 * n + i + 1) * span) for i in range(width)
            )
            if level == 0:
                chosen = [entry(256 * n + i) for i in range(width)]
                files[f"tile/entries/{suffix}"] = b"".join(len(data).to_bytes(2, "big") + data for data in chosen)
    return files


def head(size: int) -> Checkpoint:
    return Checkpoint("example.org/log", size, mth(0, size))


def reader_of(size: int) -> LogReader:
    return LogReader(files_of(size).get, head(size))


@pytest.fixture(scope="module")
def large() -> LogReader:
    return reader_of(LARGE)


@pytest.mark.parametrize("size", [0, *SIZES])
def test_it_gives_every_leaf_and_every_entry(size):
    reader = reader_of(size)
    assert list(reader.entries(0, size)) == [entry(index) for index in range(size)]
    assert list(reader.leaf_hashes(0, size)) == [mth(index, index + 1) for index in range(size)]


@settings(max_examples=60)
@given(st.data())
def test_it_gives_any_part_of_the_entries(data):
    size = data.draw(st.sampled_from(SIZES))
    low = data.draw(st.integers(0, size))
    high = data.draw(st.integers(low, size))
    assert list(reader_of(size).entries(low, high)) == [entry(index) for index in range(low, high)]


@pytest.mark.parametrize("size", SIZES)
def test_every_root_of_a_smaller_tree_is_known(size):
    reader = reader_of(size)
    for smaller in range(size + 1):
        assert reader.root_at(smaller) == mth(0, smaller)


@settings(max_examples=200)
@given(st.data())
def test_proofs_from_three_levels_of_tiles_hold(large, data):
    new = data.draw(st.integers(1, LARGE) | st.sampled_from([256, 65_536, 65_537, LARGE]))
    old = data.draw(st.integers(0, new) | st.sampled_from([size for size in (256, 65_536) if size <= new] or [0]))
    verify_consistency(old, new, mth(0, old), mth(0, new), large.consistency_proof(old, new))
    index = data.draw(st.integers(0, new - 1))
    verify_inclusion(index, new, mth(index, index + 1), large.inclusion_proof(index, new), mth(0, new))


def test_proofs_are_those_of_pymerkle():
    tree = InmemoryTree(algorithm="sha256")
    for index in range(700):
        tree.append_entry(entry(index))
    reader = reader_of(700)
    for size in (1, 2, 255, 256, 257, 512, 699, 700):
        assert reader.root_at(size) == tree.get_root(size)
        for index in (0, size // 2, size - 1):
            assert reader.inclusion_proof(index, size) == tree.prove_inclusion(index + 1, size).path[1:]


def test_only_files_that_the_checkpoint_calls_for_are_asked_for():
    files, asked = files_of(700), []

    def fetch(path):
        asked.append(path)
        return files[path]

    reader = LogReader(fetch, head(700))
    list(reader.entries(0, 700))
    reader.consistency_proof(300, 650)
    assert sorted(asked) == sorted(files)  # each of them once


def test_a_full_file_is_taken_where_the_partial_one_is_gone():
    files = files_of(70_000)
    reader = LogReader(files.get, head(300))
    assert f"tile/0/001.p/{300 - 256}" not in files
    assert list(reader.entries(250, 300)) == [entry(index) for index in range(250, 300)]
    assert reader.root_at(299) == mth(0, 299)
    # What comes after the checkpoint's size is not the checkpoint's business.
    files["tile/entries/001"] = files["tile/entries/001"][:-1] + b"!"
    assert list(LogReader(files.get, head(300)).entries(250, 300)) == [entry(index) for index in range(250, 300)]


@settings(max_examples=300)
@given(st.data())
def test_a_changed_byte_of_any_file_is_found(data):
    size = data.draw(st.sampled_from([3, 256, 300, 700]))
    files = files_of(size)
    path = data.draw(st.sampled_from(sorted(files)))
    at = data.draw(st.integers(0, len(files[path]) - 1))
    changed = bytearray(files[path])
    changed[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(CertificateError) as failure:
        reader = LogReader((files | {path: bytes(changed)}).get, head(size))
        list(reader.entries(0, size))
    assert failure.value.code in (Code.TILE_MISMATCH, Code.TILE_MALFORMED)


def test_an_entry_changed_together_with_its_leaf_hash_is_found():
    files = files_of(700)
    old, new = b"\x00\x07entry 5", b"\x00\x07Entry 5"
    assert old in files["tile/entries/000"]
    files["tile/entries/000"] = files["tile/entries/000"].replace(old, new)
    files["tile/0/000"] = files["tile/0/000"].replace(mth(5, 6), sha256(b"\x00" + new[2:]).digest())
    reader = LogReader(files.get, head(700))
    assert list(reader.entries(256, 700)) == [entry(index) for index in range(256, 700)]
    for question in (
        lambda: list(reader.entries(0, 1)),
        lambda: list(reader.leaf_hashes(5, 6)),
        lambda: reader.inclusion_proof(4, 700),
        lambda: reader.consistency_proof(6, 700),
        lambda: reader.root_at(6),
    ):
        with pytest.raises(CertificateError, match="tile/0/000") as failure:
            question()
        assert failure.value.code is Code.TILE_MISMATCH


@pytest.mark.parametrize("path", ["tile/0/000", "tile/0/002.p/188", "tile/1/000.p/2", "tile/entries/001"])
def test_a_missing_file_is_named(path):
    files = files_of(700)
    del files[path]
    with pytest.raises(CertificateError, match=path) as failure:
        list(LogReader(files.get, head(700)).entries(0, 700))
    assert failure.value.code is Code.TILE_MISSING


def test_files_swapped_for_others_of_the_same_log_are_found():
    files = files_of(700)
    for one, other in (("tile/0/000", "tile/0/001"), ("tile/entries/000", "tile/entries/001")):
        with pytest.raises(CertificateError) as failure:
            list(LogReader((files | {one: files[other]}).get, head(700)).entries(0, 700))
        assert failure.value.code is Code.TILE_MISMATCH


@pytest.mark.parametrize("size", [0, 1, 256, 700])
def test_tiles_that_do_not_give_the_root_are_refused_at_once(size):
    with pytest.raises(CertificateError) as failure:
        LogReader(files_of(size).get, Checkpoint("example.org/log", size, bytes(32)))
    assert failure.value.code is Code.TILE_MISMATCH


@pytest.mark.parametrize(
    ("question", "code"),
    [
        (lambda reader: list(reader.entries(0, 701)), Code.TILE_MISSING),
        (lambda reader: list(reader.entries(5, 4)), Code.TILE_MISSING),
        (lambda reader: list(reader.leaf_hashes(-1, 4)), Code.TILE_MISSING),
        (lambda reader: reader.root_at(701), Code.TILE_MISSING),
        (lambda reader: reader.consistency_proof(5, 4), Code.TILE_MISSING),
        (lambda reader: reader.consistency_proof(5, 701), Code.TILE_MISSING),
        (lambda reader: reader.inclusion_proof(5, 5), Code.INCLUSION_INVALID),
        (lambda reader: reader.inclusion_proof(-1, 5), Code.INCLUSION_INVALID),
    ],
)
def test_a_question_beyond_the_checkpoint_is_refused(question, code):
    with pytest.raises(CertificateError) as failure:
        question(reader_of(700))
    assert failure.value.code is code
