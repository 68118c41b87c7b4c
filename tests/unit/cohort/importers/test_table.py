import csv

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from mbd.cohort.cohort import Task
from mbd.cohort.importers.table import COLUMNS, Source, table
from mbd.cohort.modality import Modality
from mbd.errors import CohortError, RowError

TASK = Task("regression", low=-1.0, high=1.0)

RECORDS = [
    {"clip": f"{who}-{c}", "subject": who, "label": str(c / 4), "partition": partition, "split": split}
    for who, partition, split in (
        ("ann", "public", "train"),
        ("bob", "public", "valid"),
        ("cem", "revocable", "train"),
        ("eve", "revocable", "test"),
    )
    for c in range(2)
]


@pytest.fixture
def files(tmp_path):
    """An index of eight clips, text for each as one array, and audio sequences for all but the last."""
    rng = np.random.default_rng(0)
    write_index(tmp_path / "index.csv", RECORDS)
    np.save(tmp_path / "text.npy", rng.normal(size=(8, 3)))
    audio = {r["clip"]: rng.normal(size=(1 + i % 3, 2)).astype(np.float32) for i, r in enumerate(RECORDS[:-1])}
    np.savez(tmp_path / "audio.npz", **audio)
    save_file(audio, tmp_path / "audio.safetensors")
    return tmp_path


def write_index(path, records):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=records[0])
        writer.writeheader()
        writer.writerows(records)


def read(files, *, index="index.csv", task=TASK, text="text.npy", audio="audio.npz"):
    sources = {
        Modality.TEXT: Source(files / text, "words", derived_from=(Modality.AUDIO,), consent="follows"),
        Modality.AUDIO: Source(files / audio, "voice"),
    }
    return table(files / index, sources, task=task, name="mine", description="My own.")


def test_an_index_and_its_arrays_make_a_cohort(files):
    cohort = read(files)
    assert [row.clip for row in cohort.rows] == [record["clip"] for record in RECORDS]
    assert cohort.targets[:, 0].tolist() == [float(record["label"]) for record in RECORDS]
    assert (cohort.channels[Modality.TEXT].kind, cohort.channels[Modality.TEXT].dim) == ("vector", 3)
    assert (cohort.channels[Modality.AUDIO].kind, cohort.channels[Modality.AUDIO].dim) == ("sequence", 2)
    assert cohort.channels[Modality.TEXT].consent == "follows"
    assert np.array_equal(cohort.feature(3, Modality.TEXT), np.load(files / "text.npy")[3].astype(np.float32))
    assert cohort.feature(2, Modality.AUDIO).shape == (3, 2)
    assert cohort.present(7) == {Modality.TEXT}


def test_parquet_and_safetensors_say_the_same_as_csv_and_npz(files, same):
    pq.write_table(pa.Table.from_pylist(RECORDS), files / "index.parquet")
    assert same(read(files, index="index.parquet", audio="audio.safetensors"), read(files))


def test_a_row_of_nan_in_a_positional_array_is_absent(files):
    text = np.load(files / "text.npy")
    text[6] = np.nan
    np.save(files / "text.npy", text)
    assert read(files).present(6) == {Modality.AUDIO}


def test_class_names_are_labels(files):
    write_index(files / "index.csv", [{**r, "label": "glad" if r["label"] == "0.0" else "sad"} for r in RECORDS])
    cohort = read(files, task=Task("classification", classes=("sad", "glad")))
    assert cohort.targets[:2].tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("column", COLUMNS)
def test_a_missing_column_is_named(files, column):
    write_index(files / "index.csv", [{k: v for k, v in r.items() if k != column} for r in RECORDS])
    with pytest.raises(CohortError, match=f"index.csv has no {column}"):
        read(files)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": ""}, "row 5 (clip 'cem-1'): label is empty."),
        ({"label": "good"}, "row 5 (clip 'cem-1'): the label 'good' is not a number."),
        ({"label": "7"}, "row 5 (clip 'cem-1'): the label 7.0 is not a number in [-1, 1]."),
        ({"split": "dev"}, "row 5 (clip 'cem-1'): split 'dev' is unknown. Remedy: use one of train, valid, test"),
        ({"partition": "secret"}, "row 5 (clip 'cem-1'): partition 'secret' is unknown."),
        ({"split": "test"}, "row 5 (clip 'cem-1'): subject 'cem' is in test here and in train in row 4."),
    ],
)
def test_a_wrong_row_is_named(files, change, message):
    write_index(files / "index.csv", [*RECORDS[:5], {**RECORDS[5], **change}, *RECORDS[6:]])
    with pytest.raises(RowError) as caught:
        read(files)
    assert str(caught.value).startswith(message)


def test_a_short_line_of_the_index_is_named(files):
    lines = (files / "index.csv").read_text().splitlines()
    (files / "index.csv").write_text("\n".join([*lines[:3], "bob-0,bob"]))
    with pytest.raises(RowError, match=r"row 2 \(clip 'bob-0'\): label, partition, split is empty"):
        read(files)


def test_arrays_of_unlisted_clips_are_refused(files):
    write_index(files / "index.csv", RECORDS[:-2])
    np.save(files / "text.npy", np.zeros((6, 3)))
    with pytest.raises(CohortError, match="1 arrays of clips that the index does not list, such as 'eve-0'"):
        read(files)


def test_a_positional_array_of_another_length_is_refused(files):
    np.save(files / "text.npy", np.zeros((7, 3)))
    with pytest.raises(CohortError, match=r"text.npy has shape \[7, 3\], and the index 8 rows"):
        read(files)


def test_pickled_objects_are_not_loaded(files):
    np.save(files / "text.npy", np.array([{"a": 1}] * 8), allow_pickle=True)
    with pytest.raises(CohortError, match="no pickled objects"):
        read(files)


def test_a_number_that_is_too_large_is_found_in_its_row(files):
    np.save(files / "text.npy", np.where(np.arange(24).reshape(8, 3) == 10, 1e300, 0.0))
    with pytest.raises(RowError, match=r"row 3 \(clip 'bob-1'\): text holds infinity at \[1\]"):
        read(files)


def test_words_are_no_features(files):
    np.save(files / "text.npy", np.array([["a", "b", "c"]] * 8))
    with pytest.raises(CohortError, match="an array of <U1"):
        read(files)


@pytest.mark.parametrize("name", ["index.csv", "text.npy", "audio.npz", "audio.safetensors"])
def test_a_damaged_or_missing_file_is_an_error_that_names_it(files, name):
    kinds = {"index.csv": "index", "text.npy": "text"}
    whole = (files / name).read_bytes()
    for damaged in (b"", b"\xff\xfe\x00broken", whole + b'"' if name == "index.csv" else whole[:-20]):
        (files / name).write_bytes(damaged)
        with pytest.raises(CohortError, match=name):
            read(files, **{kinds.get(name, "audio"): name})
    (files / name).unlink()
    with pytest.raises(CohortError, match=name):
        read(files, **{kinds.get(name, "audio"): name})


def test_other_file_types_are_refused(files):
    with pytest.raises(CohortError, match=r"neither \.csv nor \.parquet"):
        read(files, index="index.xlsx")
    with pytest.raises(CohortError, match=r"not \.npy, \.npz or \.safetensors"):
        read(files, audio="audio.h5")
