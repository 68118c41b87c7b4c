"""``mbd data``: people's data comes in whole or not at all, and nothing in it is executed."""

import os
import pickle

import numpy as np
import pytest

INDEX = "clip,subject,label,partition,split\n"
PLACES = [("public", "train"), ("public", "valid"), ("revocable", "train"), ("revocable", "test")]


class Hostile:
    """A pickle that makes a file when an ordinary reader loads it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.fixture
def table(tmp_path):
    """``table(["a", "b", "c", "d"])``: arguments that import an index and the voices of these people."""

    def write(subjects):
        lines = [
            f"{name}-{clip},{name},{clip - 1},{partition},{split}\n"
            for name, (partition, split) in zip(subjects, PLACES, strict=True)
            for clip in range(3)
        ]
        (tmp_path / "index.csv").write_text(INDEX + "".join(lines), "utf-8")
        np.save(tmp_path / "voices.npy", np.random.default_rng(0).normal(size=(len(lines), 4)))
        return ("data", "import", "table", tmp_path / "index.csv", tmp_path / "new", "--audio", tmp_path / "voices.npy")

    return write


def test_a_table_is_imported_and_described(table, mbd, tmp_path):
    done = mbd(*table(["a", "b", "[bold]c[/]", "d"]), "--home", tmp_path / "none", "--json")
    assert (done.code, done.json["rows"], done.json["subjects"]) == (0, 12, 4), done.out
    about = mbd("data", "describe", tmp_path / "new", "--json").json
    assert about["channels"]["audio"]["rows_present"] == 12
    spoken = mbd("data", "describe", tmp_path / "new").out
    assert "12 clips of 4 people." in spoken
    assert "Note: No row has text" in spoken
    assert "\n\n\n" not in spoken


def test_a_wrong_row_is_named_as_it_is_written_and_nothing_is_made(table, mbd, tmp_path):
    arguments = table(["a", "b", "[bold]c[/]", "d"])
    index = tmp_path / "index.csv"
    index.write_text(index.read_text("utf-8").replace("[bold]c[/]-1,[bold]c[/],0,", "[bold]c[/]-1,[bold]c[/],bad,"))
    done = mbd(*arguments, "--home", tmp_path / "none")
    assert done.code == 1
    assert "row 7 (clip '[bold]c[/]-1'): the label 'bad' is not a number." in done.err
    assert not (tmp_path / "new").exists()


def test_an_existing_folder_is_never_replaced(table, mbd, tmp_path):
    (tmp_path / "new").mkdir()
    done = mbd(*table(list("abcd")), "--home", tmp_path / "none", "--json")
    assert (done.code, done.json["error"]["type"]) == (1, "CohortError")
    assert "exists already" in done.json["error"]["message"]


def test_an_import_refuses_withdrawn_channels_or_drops_them(table, demo, home, mbd, tmp_path):
    arguments = (*table(["a", "b", demo.json["subject"], "d"]), "--home", home, "--json")
    refused = mbd(*arguments)
    assert (refused.code, refused.json["error"]["type"]) == (1, "ChannelSuppressedError")
    assert not (tmp_path / "new").exists()
    assert mbd(*arguments, "--drop-suppressed").code == 0
    about = mbd("data", "describe", tmp_path / "new", "--json").json
    assert (about["rows"], about["subjects"]) == (9, 3)  # the voice was all that there was of them


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_hostile_pickle_is_refused_and_executes_nothing(installed, tmp_path, protocol):
    hostile, made = tmp_path / "hostile.pkl", tmp_path / "made"
    hostile.write_bytes(pickle.dumps({"train": Hostile(made)}, protocol))
    arguments = ("data", "import", "mmsa", hostile, tmp_path / "new", "--public-subjects", 1)
    done = installed(*arguments, "--home", tmp_path / "none", "--json")
    assert (done.code, done.json["error"]["type"]) == (1, "UnsafePickleError")
    assert "system" in done.json["error"]["message"]
    assert not made.exists()
    assert not (tmp_path / "new").exists()
    pickle.loads(hostile.read_bytes())  # noqa: S301 - it is ours: an ordinary reader does execute it
    assert made.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("describe", "missing"),
        ("describe", "a-file"),
        ("import", "mosi", "missing", "new"),
        ("import", "mmsa", ".", "new", "--public-subjects", "1"),
        ("import", "mmsa", "a-file", "new"),
        ("import", "table", "a-file", "new"),
        ("import", "ravdess", ".", "new", "--fold", "6"),
        ("import", "unknown"),
    ],
    ids=" ".join,
)
def test_usage_errors_make_nothing(mbd, tmp_path, arguments):
    (tmp_path / "a-file").touch()
    placed = [str(tmp_path / word) if word in {"missing", "a-file", ".", "new"} else word for word in arguments]
    done = mbd("data", *placed, "--json")
    assert (done.code, done.json["error"]["type"]) == (2, "UsageError")
    assert not (tmp_path / "new").exists()


def test_a_folder_that_is_no_cohort_is_refused(mbd, tmp_path):
    done = mbd("data", "describe", tmp_path, "--json")
    assert (done.code, done.json["error"]["type"]) == (1, "CohortError")


@pytest.mark.real_data
def test_the_real_mosi_folder_is_imported(real_data, mbd, tmp_path):
    done = mbd("data", "import", "mosi", real_data("mosi"), tmp_path / "new", "--home", tmp_path / "none", "--json")
    assert (done.code, done.json["rows"], done.json["subjects"]) == (0, 2199, 93)
    assert "text is derived from audio" in mbd("data", "describe", tmp_path / "new").out


@pytest.mark.real_data
def test_features_that_were_fitted_to_labels_are_refused(real_data, mbd, tmp_path):
    features = real_data("mosi") / "mosi_supervised_features_DO_NOT_UNLEARN_ON.npz"
    done = mbd("data", "import", "mosi", features, tmp_path / "new", "--home", tmp_path / "none", "--json")
    assert (done.code, done.json["error"]["type"]) == (1, "CohortError")
    assert "fitted to the labels" in done.json["error"]["message"]


@pytest.mark.real_data
def test_the_real_ravdess_folder_is_imported(real_data, mbd, tmp_path):
    folder = real_data("ravdess")
    done = mbd("data", "import", "ravdess", folder, tmp_path / "new", "--home", tmp_path / "none", "--json")
    assert (done.code, done.json["rows"], done.json["subjects"]) == (0, 1440, 24)
    assert "neutral" in mbd("data", "describe", tmp_path / "new").out
