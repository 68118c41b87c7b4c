"""The leak sweep finds a value in every form and container, across pieces, and nothing where there is nothing."""

import base64
import gzip
import hashlib
import io
import json
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mbd.attacks.leaks import find, needles_of, sweep
from mbd.errors import AttackError

RNG = np.random.default_rng(0)
VALUE = RNG.standard_normal(24).astype(np.float32)
GRID = np.rint(RNG.uniform(-2048, 2048, 16))
NEEDLES = needles_of({"voice": VALUE, "features": GRID})
BEFORE = find([("cohort", [VALUE.tobytes()])], NEEDLES).hits


def forms(name, body):
    return {hit.form for hit in find([(name, [body])], NEEDLES)[0]}


@pytest.mark.parametrize(
    ("body", "form"),
    [
        (VALUE.tobytes(), "4 numbers as <f4"),
        (VALUE.astype(np.float64).tobytes(), "4 numbers as <f8"),
        (VALUE.astype(">f4").tobytes(), "4 numbers as >f4"),
        (GRID.astype(np.int64).tobytes(), "4 numbers as <i8"),
        (GRID.astype(np.int32).tobytes(), "4 numbers as <i4"),
        (GRID.tobytes(), "4 numbers as <f8"),
        (json.dumps(VALUE.astype(float).tolist()).encode(), "text"),
        (str(VALUE.tolist()).encode(), "text"),
        (VALUE.tobytes().hex().encode(), "hexadecimal"),
        (base64.b64encode(VALUE.tobytes()), "base64"),
        (base64.b64encode(b"x" + VALUE.tobytes()), "base64"),
        (base64.b64encode(b"xy" + VALUE.tobytes()), "base64"),
        (hashlib.sha256(VALUE.tobytes()).digest(), "a plain digest"),
        (hashlib.sha256(VALUE.tobytes()).hexdigest().encode(), "a plain digest in hexadecimal"),
        (VALUE[:4].tobytes(), "4 numbers as <f4"),
        (VALUE[-4:].tobytes(), "4 numbers as <f4"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_form_is_found_in_the_midst_of_other_bytes(body, form):
    rest = np.random.default_rng(1).bytes(1000)
    for shift in range(9):
        assert form in forms("file", rest[: 500 + shift] + body + rest[500:])


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_a_value_across_the_border_of_two_pieces_is_found_once(size):
    body = np.random.default_rng(2).bytes(990) + VALUE[:4].tobytes() + np.random.default_rng(3).bytes(990)
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    hits, sizes, _ = find([("file", pieces)], NEEDLES)
    assert [(hit.source, hit.offset) for hit in hits] == [("file", 990)]
    assert sizes == {"file": len(body)}


def zipped(body):
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.bin", body)
    return target.getvalue()


def parquet(array):
    target = io.BytesIO()
    pq.write_table(
        pa.table({"x": pa.array(array) if isinstance(array, np.ndarray) else array}), target, compression="zstd"
    )
    return target.getvalue()


@pytest.mark.parametrize(
    "body",
    [
        gzip.compress(VALUE.tobytes()),
        zipped(VALUE.tobytes()),
        parquet(VALUE),
        parquet(pa.array(VALUE).dictionary_encode()),
        gzip.compress(b"first") + gzip.compress(VALUE.tobytes()),
        gzip.compress(zipped(VALUE.tobytes())),
    ],
    ids=["gzip", "zip", "parquet", "a dictionary in parquet", "two members", "zip in gzip"],
)
def test_containers_are_looked_into(body):
    hits, sizes, _ = find([("backup", [body])], NEEDLES)
    assert {hit.form for hit in hits} == {"4 numbers as <f4"}
    assert any(hit.source.startswith("backup > ") for hit in hits)
    assert len(sizes) >= 2


def test_a_damaged_container_is_searched_as_it_lies():
    broken = gzip.compress(b"nothing")[:-4] + VALUE.tobytes()
    assert "4 numbers as <f4" in forms("file", broken)


def encrypted(body):
    """A zip whose entry says that it is encrypted."""
    flagged = bytearray(zipped(body))
    flagged[6] |= 1
    flagged[flagged.index(b"PK\x01\x02") + 8] |= 1
    return bytes(flagged)


@pytest.mark.parametrize(
    "body",
    [encrypted(b"secret"), gzip.compress(b"x")[:-4], b"PAR1 and no more", gzip.compress(bytes((1 << 28) + 1))],
    ids=["encrypted", "cut off", "no parquet", "too large unpacked"],
)
def test_what_cannot_be_opened_is_named(body):
    searched = find([("backup", [body])], NEEDLES)
    assert searched.unopened == ["backup"]
    report = sweep([("backup", [body])], NEEDLES, before=BEFORE, target="t")
    assert report.details["unopened"] == ["backup"]


def test_a_container_beyond_the_third_level_is_named():
    body = zipped(b"x")
    for _ in range(3):
        body = gzip.compress(body)
    assert find([("backup", [body])], NEEDLES).unopened == ["backup > gzip > gzip > gzip"]


def test_runs_of_small_counts_are_no_whole_numbers_of_a_person():
    counts = np.array([1, 2, 3, 5, 8, 1, 0, 2], np.int64)
    assert not [needle for needle in needles_of({"counts": counts}) if needle.form.endswith(("<i8", "<i4"))]


def test_a_report_names_what_was_not_found_before():
    report = sweep([("clean", [b""])], NEEDLES, before=BEFORE, target="t")
    assert report.details["values_not_found_before"] == ["features"]
    assert report.details["forms_before"] == ["4 numbers as <f4"]


def test_random_bytes_and_other_peoples_values_hold_nothing():
    other = np.random.default_rng(9).standard_normal(100_000).astype(np.float32)
    sources = [("noise", [np.random.default_rng(8).bytes(4_000_000)]), ("others", [other.tobytes()])]
    assert find(sources, NEEDLES)[0] == []


def test_round_numbers_are_no_needles():
    assert needles_of({"zeros": np.zeros(8, np.float32), "ones": np.ones(8, np.float32)}) == []
    assert needles_of({"nothing": np.zeros(0, np.float32)}) == []


def test_a_report_says_what_was_searched_and_where_a_value_was():
    report = sweep([("clean", [b"x" * 100])], NEEDLES, before=BEFORE, target="t")
    assert (report.verdict, report.trials, report.details["bytes"]) == ("held", 1, 100)
    report = sweep([("clean", [b"x" * 100]), ("log", [VALUE.tobytes()])], NEEDLES, before=BEFORE, target="t")
    assert report.verdict == "broken"
    assert report.estimates[0].value == 1.0
    assert {found["source"] for found in report.details["found"]} == {"log"}


def test_a_search_that_found_nothing_before_is_refused():
    with pytest.raises(AttackError, match="before the deletion"):
        sweep([("clean", [b""])], NEEDLES, before=[], target="t")
