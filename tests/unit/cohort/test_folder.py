import json
from dataclasses import replace
from itertools import count

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from mbd.cohort import folder
from mbd.cohort.cohort import EVERYONE
from mbd.cohort.manifest import build_manifest
from mbd.cohort.modality import Modality
from mbd.errors import CohortError

KEY = bytes(range(32))


@pytest.fixture(scope="module")
def cohorts(random_cohort, tmp_path_factory):
    """What makes random cohorts, and what makes a new path at each call."""
    base, numbers = tmp_path_factory.mktemp("cohorts"), count()
    return random_cohort, lambda: base / f"cohort-{next(numbers)}"


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    classes=st.sampled_from([0, 3]),
    gone=st.sampled_from([(), ("s5",), (EVERYONE,)]),
)
def test_a_cohort_comes_back_bit_for_bit(cohorts, same, seed, classes, gone):
    random_cohort, fresh = cohorts
    cohort = random_cohort(seed, classes=classes).without([(s, Modality.AUDIO) for s in gone])
    path = fresh()
    written = folder.write(cohort, path, key=KEY)
    assert same(folder.read(path), cohort)
    assert folder.read_manifest(path) == written == build_manifest(cohort, KEY)


def test_a_cohort_without_rows_comes_back(small, same, tmp_path):
    folder.write(small.select([]), tmp_path / "c", key=KEY)
    assert same(folder.read(tmp_path / "c"), small.select([]))


def test_a_withdrawn_channel_is_in_no_file_of_the_folder(small, tmp_path):
    folder.write(small, tmp_path / "before", key=KEY)
    folder.write(small.revoke([("cem", Modality.AUDIO)]), tmp_path / "after", key=KEY)
    withdrawn = small.feature(6, Modality.AUDIO).tobytes()
    assert any(withdrawn in file.read_bytes() for file in (tmp_path / "before").iterdir())
    assert not any(withdrawn in file.read_bytes() for file in (tmp_path / "after").iterdir())


def test_nothing_is_overwritten(small, tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(CohortError, match="exists already"):
        folder.write(small, tmp_path / "taken", key=KEY)
    assert list((tmp_path / "taken").iterdir()) == []


def test_a_write_that_fails_leaves_nothing_behind(small, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(CohortError, match="could not be written"):
        folder.write(small, tmp_path / "file" / "cohort", key=KEY)
    broken = replace(small, rows=(replace(small.rows[0], label="happy"), *small.rows[1:]))
    with pytest.raises(Exception, match="happy"):
        folder.write(broken, tmp_path / "cohort", key=KEY)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_folder_is_for_its_owner_alone(small, tmp_path):
    folder.write(small, tmp_path / "c", key=KEY)
    assert (tmp_path / "c").stat().st_mode & 0o077 == 0


def test_the_description_says_what_the_folder_holds(small, tmp_path):
    manifest = folder.write(small, tmp_path / "c", key=KEY)
    record = json.loads((tmp_path / "c" / "manifest.json").read_text())
    assert record["synthetic"] is True
    assert record["counts"] == {"rows": 15, "subjects": 5}
    assert record["merkle"] == {"root": manifest.root, "leaves": 27, "key": KEY.hex()}
    table = pq.read_table(tmp_path / "c" / "rows.parquet")
    assert table["audio_frames"].to_pylist()[8:11] == [3, None, None]


@pytest.mark.parametrize("file", ["rows.parquet", "features.safetensors"])
def test_a_changed_file_is_noticed(small, tmp_path, file):
    folder.write(small, tmp_path / "c", key=KEY)
    path = tmp_path / "c" / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CohortError, match=f"damaged or was changed: {file} is not the file"):
        folder.read(tmp_path / "c")


def test_rows_that_were_exchanged_together_with_their_digests_do_not_match_the_merkle_root(small, tmp_path):
    folder.write(small, tmp_path / "c", key=KEY)
    arrays = load_file(tmp_path / "c" / "features.safetensors")
    save_file({**arrays, "text": arrays["text"] + 1}, tmp_path / "c" / "features.safetensors")
    record = json.loads((tmp_path / "c" / "manifest.json").read_text())
    record["files"]["features.safetensors"] = folder.file_digest(tmp_path / "c" / "features.safetensors")
    (tmp_path / "c" / "manifest.json").write_text(json.dumps(record))
    folder.read(tmp_path / "c")
    with pytest.raises(CohortError, match="Merkle root is not that of its rows"):
        folder.read_manifest(tmp_path / "c")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        ('{"format": 1}', "damaged"),
        ('{"format": 2}', "format 2; this program reads format 1"),
    ],
)
def test_a_description_that_cannot_be_read_is_refused(small, tmp_path, text, message):
    folder.write(small, tmp_path / "c", key=KEY)
    (tmp_path / "c" / "manifest.json").write_text(text)
    with pytest.raises(CohortError, match=message):
        folder.read(tmp_path / "c")


def test_a_path_that_is_no_cohort_folder_is_refused(tmp_path):
    with pytest.raises(CohortError, match="not a cohort folder"):
        folder.read(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(CohortError, match="not a cohort folder"):
        folder.read(tmp_path / "file")
