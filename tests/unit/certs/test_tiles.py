"""The files of a log: their names, their number and their bytes are those of C2SP tlog-tiles."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs.errors import CertificateError, Code
from certs.merkle import leaf_hash
from certs.tiles import (
    MAX_ENTRY_BYTES,
    EntryBundle,
    Tile,
    encode_entries,
    new_tiles,
    parse_path,
    partial_tiles,
)

FILES = st.one_of(
    st.builds(Tile, st.integers(0, 63), st.integers(0, 1 << 60), st.integers(1, 256)),
    st.builds(EntryBundle, st.integers(0, 1 << 60), st.integers(1, 256)),
)


@pytest.mark.parametrize(
    ("file", "path"),
    [
        (Tile(0, 1234067), "tile/0/x001/x234/067"),
        (Tile(0, 0), "tile/0/000"),
        (Tile(63, 999, 1), "tile/63/999.p/1"),
        (Tile(1, 1000, 255), "tile/1/x001/000.p/255"),
        (EntryBundle(67), "tile/entries/067"),
        (EntryBundle(1067, 5), "tile/entries/x001/067.p/5"),
    ],
)
def test_a_file_has_the_name_that_the_specification_gives_it(file, path):
    assert file.path == path
    assert parse_path(path) == file


@given(FILES)
def test_every_name_reads_back_as_its_file(file):
    assert parse_path(file.path) == file


@pytest.mark.parametrize(
    "path",
    [
        "",
        "checkpoint",
        "tile/0/0",
        "tile/0/0000",
        "tile/0/1000",
        "tile/0/x000/001",
        "tile/0/x1/001",
        "tile/0/001/001",
        "tile/0/x001",
        "tile/00/001",
        "tile/01/001",
        "tile/64/001",
        "tile/-1/001",
        "tile/0/001.p/0",
        "tile/0/001.p/01",
        "tile/0/001.p/256",
        "tile/0/001.p/257",
        "tile/0/001.p",
        "tile/0/001.p/",
        "tile/0/001/",
        "/tile/0/001",
        "tile/0/001\n",
        "tile/0/../001",
        "tile/entries/1",
        "tile/data/001",
        "tile/entries/001.p/x",
        "tile/0/٠٠١",
    ],
)
def test_another_name_is_refused(path):
    _malformed(lambda: parse_path(path))


def test_a_tree_of_70000_has_the_tiles_that_the_specification_counts():
    tiles = list(new_tiles(0, 70_000))
    of_level = {level: [tile for tile in tiles if tile.level == level] for level in range(4)}
    assert of_level[0] == [*(Tile(0, index) for index in range(273)), Tile(0, 273, 112)]
    assert of_level[1] == [Tile(1, 0), Tile(1, 1, 17)]
    assert of_level[2] == [Tile(2, 0, 1)]
    assert len(tiles) == 274 + 2 + 1
    assert list(partial_tiles(70_000)) == [Tile(0, 273, 112), Tile(1, 1, 17), Tile(2, 0, 1)]


def test_a_tree_of_256_has_one_full_tile_and_its_root_above_it():
    assert list(new_tiles(0, 256)) == [Tile(0, 0), Tile(1, 0, 1)]
    assert list(partial_tiles(256)) == [Tile(1, 0, 1)]


def test_an_empty_tree_has_no_tiles():
    assert list(new_tiles(0, 0)) == list(partial_tiles(0)) == []


@given(st.integers(0, 200_000), st.integers(0, 70_000))
def test_what_is_new_is_all_that_the_older_tree_had_not(old, growth):
    new = old + growth
    assert set(new_tiles(old, new)) == set(new_tiles(0, new)) - set(new_tiles(0, old))


@given(st.integers(0, 1 << 62))
def test_the_right_edge_has_the_width_of_the_formula(size):
    widths = {tile.level: tile.width for tile in partial_tiles(size)}
    assert widths == {level: w for level in range(9) if (w := size // 256**level % 256)}


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=256))
def test_entries_come_out_as_they_went_in(entries):
    data = encode_entries(entries)
    bundle = EntryBundle(0, len(entries))
    assert bundle.parse(data) == entries
    assert len(data) <= bundle.max_bytes


def test_an_entry_follows_its_length_with_the_high_byte_first():
    assert encode_entries([b"", b"ab", b"c" * 258]) == b"\x00\x00" + b"\x00\x02ab" + b"\x01\x02" + b"c" * 258
    longest = bytes(MAX_ENTRY_BYTES)
    assert EntryBundle(0, 1).parse(encode_entries([longest])) == [longest]
    with pytest.raises(ValueError, match="65536 bytes"):
        encode_entries([longest + b"x"])


@given(st.lists(st.binary(max_size=9), min_size=1, max_size=9), st.data())
def test_a_bundle_that_is_cut_padded_or_of_another_width_is_refused(entries, data):
    encoded, bundle = encode_entries(entries), EntryBundle(3, len(entries))
    cut = data.draw(st.integers(0, len(encoded) - 1))
    _malformed(lambda: bundle.parse(encoded[:cut]))
    _malformed(lambda: bundle.parse(encoded + b"\x00"))
    _malformed(lambda: bundle.parse(encoded + b"\x00\x00"))
    _malformed(lambda: EntryBundle(3, len(entries) + 1).parse(encoded))


def test_a_tile_is_its_hashes_and_nothing_else():
    hashes = [leaf_hash(bytes([n])) for n in range(5)]
    tile = Tile(0, 0, 5)
    assert tile.parse(b"".join(hashes)) == hashes
    assert len(b"".join(hashes)) == tile.max_bytes
    assert Tile(0, 0).max_bytes == 8192
    for wrong in (b"", b"".join(hashes)[:-1], b"".join(hashes) + b"x", b"".join(hashes[:4])):
        _malformed(lambda wrong=wrong: tile.parse(wrong))


def _malformed(question):
    with pytest.raises(CertificateError) as failure:
        question()
    assert failure.value.code is Code.TILE_MALFORMED
