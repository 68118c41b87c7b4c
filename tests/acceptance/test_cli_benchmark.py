"""``mbd benchmark``: one command for a leaderboard and pictures, which goes on where it was; nothing withdrawn."""

import json

import pytest

WORDS = ("--backbones", "mbd,control", "--seeds", 2, "--protocol", "fixed", "--protocol", "rates", "--jobs", 2)


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "short.toml"
    path.write_text("epochs = 2\n")
    return path


def test_two_networks_are_compared_and_the_results_can_be_looked_at(installed, cohort_folder, recipe, tmp_path):
    out = tmp_path / "out"
    words = (
        "benchmark",
        "--cohort",
        cohort_folder,
        "--out",
        out,
        "--recipe",
        recipe,
        "--home",
        tmp_path / "none",
        *WORDS,
    )
    done = installed(*words)
    assert done.code == 0, done.err
    assert "networks: done" in done.out
    lines = (out / "leaderboard.md").read_text().splitlines()
    assert lines[0] == "# synthetic-0: 2 networks, 2 seeds"
    for name in ("mbd", "control"):
        assert sum(line.startswith(f"| {name} |") for line in lines) == 5
    assert "| backbone | t | a | v | ta | tv | av | tav |" in lines
    for picture in ("missing-rates.svg", "balance.svg", "cost.svg"):
        assert (out / picture).read_text().rstrip().endswith("</svg>")
        assert f"Written: {out / picture}" in done.out
    results = {path.name: path.read_bytes() for path in (out / "units").iterdir()}
    assert sorted(results) == [f"{name}-seed{seed}.json" for name in ("control", "mbd") for seed in (0, 1)]

    again = installed(*words, "--json")
    assert again.json["metric"] == "acc2_non0"
    assert {entry["backbone"] for entry in again.json["leaderboard"]} == {"mbd", "control"}
    assert {path.name: path.read_bytes() for path in (out / "units").iterdir()} == results
    people = {row["subject"] for row in rows_of(cohort_folder)}
    kept = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert not any(person.encode() in kept for person in people)


def rows_of(cohort_folder):
    from pyarrow.parquet import read_table

    return read_table(cohort_folder / "rows.parquet").to_pylist()


def test_a_channel_that_was_withdrawn_is_in_no_benchmark(installed, demo, home, *, cohort_folder, recipe, tmp_path):
    words = ("benchmark", "--cohort", cohort_folder, "--out", tmp_path / "out", "--recipe", recipe, "--home", home)
    refused = installed(*words, *WORDS, "--json")
    assert refused.code == 1
    assert "withdrew it" in refused.json["error"]["message"]
    assert demo.json["subject"] not in refused.out
    assert not (tmp_path / "out").exists()
    done = installed(
        *words, "--backbones", "control", "--protocol", "fixed", "--seeds", 1, "--drop-suppressed", "--json"
    )
    assert done.code == 0, done.err
    kept = json.loads((tmp_path / "out" / "units" / "control-seed0.json").read_bytes())
    assert set(kept["conditions"]) == {f"fixed/{name}" for name in ("t", "a", "v", "ta", "tv", "av", "tav")}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--backbones", "mbd,transformer"), "no backbone 'transformer'"),
        (("--protocol", "luck"), "no protocol 'luck'"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(mbd, cohort_folder, tmp_path, words, message):
    done = mbd(
        "benchmark", "--cohort", cohort_folder, "--out", tmp_path / "out", "--home", tmp_path / "n", *words, "--json"
    )
    assert done.code == 1
    assert message in done.json["error"]["message"]
    assert "use some of: " in done.json["error"]["remedy"]
