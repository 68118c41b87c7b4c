"""``mbd clips``: from videos to a cohort, a model line and a deletion; a withdrawn voice is never heard again."""

import csv
import json

import pytest

RED, BLUE = (220, 20, 20), (20, 20, 220)
STAGES = """every = 1.0
[transcriber]
use = "mbd.clips.stock.sphinx:Sphinx"
[aspects]
use = "mbd.clips.stock.lexicon:Lexicon"
terms.pets = ["dog", "dogs"]
[scenes]
use = "mbd.clips.stock.palette:Palette"
examples = "scenes"
[features]
use = "mbd.clips.stock.plain:Plain"
"""
PLACES = [("public", "train")] * 3 + [("public", "valid")] * 2 + [("revocable", "train")] * 3 + [("revocable", "test")]


@pytest.fixture(scope="module")
def studio(make_media, tmp_path_factory):
    """A folder with videos of nine people at two outlets, two clips each, their list, and stages for them."""
    folder = tmp_path_factory.mktemp("studio")
    for kind, colour in (("red", RED), ("blue", BLUE)):
        (folder / "scenes" / kind).mkdir(parents=True)
        make_media(folder / "scenes" / kind / "1.mp4", colours=(colour,), tone=None)
    (folder / "stages.toml").write_text(STAGES)
    rows = []
    for n, (partition, split) in enumerate(PLACES):
        for k in range(2):
            clip = f"{n}-{k}"
            make_media(folder / f"{clip}.mp4", colours=(BLUE if k else RED,), tone=300.0 + 200 * n)
            label = f"{(n - 4) / 2 + k / 4:.2f}"
            outlet, scene = "north" if n % 2 else "south", "blue" if k else "red"
            rows.append(
                [clip, f"person-{n}", outlet, f"2026-{10 + k}-03", f"{clip}.mp4", label, partition, split, "", scene]
            )
    with (folder / "list.csv").open("w", newline="") as file:
        header = [
            "clip",
            "subject",
            "outlet",
            "published",
            "media",
            "label",
            "partition",
            "split",
            "transcript",
            "scene",
        ]
        csv.writer(file).writerows([header, *rows])
    return folder


def read(mbd, studio, out, home, *more):
    return mbd("clips", "read", studio / "list.csv", out, "--stages", studio / "stages.toml", "--home", home, *more)


@pytest.fixture(scope="module")
def stages(studio):
    """The stages, with the examples where they are."""
    text = (studio / "stages.toml").read_text().replace('"scenes"', f'"{studio / "scenes"}"')
    (studio / "stages.toml").write_text(text)
    return studio / "stages.toml"


def test_videos_become_a_line_and_a_withdrawn_voice_is_never_heard_again(mbd, studio, stages, tmp_path):
    home, out, listed = tmp_path / "home", tmp_path / "out", studio / "list.csv"
    done = read(mbd, studio, out, home)
    assert done.code == 0, done.err
    assert "clips: done" in done.out
    assert read(mbd, studio, out, home, "--json").json["withheld"] == 0

    shown = mbd("clips", "summary", listed, out, "--picture", tmp_path / "months.svg", "--home", home, "--json")
    assert [(c["outlet"], c["month"], c["people"], c["scene"]) for c in shown.json["cells"]] == [
        ("north", "2026-10", 4, "red"),
        ("north", "2026-11", 4, "blue"),
        ("south", "2026-10", 5, "red"),
        ("south", "2026-11", 5, "blue"),
    ]
    few = mbd("clips", "summary", listed, out, "--least-people", 9, "--home", home)
    assert "No outlet has clips of 9 people in one month" in few.out
    assert mbd("clips", "score", listed, out, "--home", home, "--json").json == {"scene_macro_f1": 1.0}

    table = mbd("clips", "table", listed, out, tmp_path / "table", "--home", home)
    assert table.code == 0, table.err
    (following,) = [line for line in table.out.splitlines() if line.startswith("Next: mbd ")]
    cohort = tmp_path / "cohort"
    words = following.removeprefix("Next: mbd ").replace("COHORT", str(cohort)).split()
    assert "--text-from-audio" in words
    assert words[-2:] == ["--home", str(home)]
    assert mbd(*words).code == 0
    recipe = tmp_path / "short.toml"
    recipe.write_text("epochs = 2\n")
    assert mbd("train", cohort, "--home", home, "--recipe", recipe, "--line", "shorts").code == 0

    revoked = mbd("revoke", "--subject", "person-6", "--modality", "audio", "--home", home, "--json")
    assert revoked.code == 0, revoked.out
    stale = mbd("clips", "table", listed, out, tmp_path / "table", "--home", home, "--json")
    assert stale.code == 1
    assert "run `mbd clips read`" in stale.json["error"]["remedy"]
    assert read(mbd, studio, out, home, "--json").json["withheld"] == 2
    kept = [json.loads(path.read_bytes()) for path in (out / "readings").iterdir()]
    withheld = [each for each in kept if each["withheld"]]
    assert [(each["clip"][0], each["transcript"], list(each["features"])) for each in withheld] == [
        ("6", None, ["vision"])
    ] * 2
    assert mbd("clips", "table", listed, out, tmp_path / "table", "--home", home).code == 0
    own = mbd("clips", "table", listed, out, tmp_path / "table", "--home", tmp_path / "typo")
    assert f"There is no deployment in {tmp_path / 'typo'}" in " ".join(own.out.split())
    elsewhere = read(mbd, studio, out, tmp_path / "other", "--json")
    assert elsewhere.code == 1
    assert "withhold what this deployment does not" in elsewhere.json["error"]["message"]
    assert "--home" in elsewhere.json["error"]["remedy"]


@pytest.mark.real_data
def test_real_speech_is_scored_against_what_was_said(mbd, real_data, tmp_path):
    folder = real_data("ravdess") / "clips"
    said = {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"}
    paths = [folder / f"03-01-03-02-02-01-{actor}.flac" for actor in ("01", "05")]
    listed = tmp_path / "list.csv"
    lines = [f"{p.stem},actor,film,2018-05-16,{p},{said[p.stem.split('-')[4]]},pets:neutral\n" for p in paths]
    listed.write_text("clip,subject,outlet,published,media,transcript,aspects\n" + "".join(lines))
    stages = tmp_path / "stages.toml"
    stages.write_text(STAGES.partition("[scenes]")[0])
    words = (listed, tmp_path / "out")
    assert mbd("clips", "read", *words, "--stages", stages, "--home", tmp_path / "none").code == 0
    scores = mbd("clips", "score", *words, "--home", tmp_path / "none", "--json").json
    assert 0 <= scores["wer"] < 0.7
    assert scores["aspect_macro_f1"] > 0


def test_a_clip_that_cannot_be_read_is_named_with_what_to_do(mbd, studio, stages, tmp_path):
    listed = tmp_path / "list.csv"
    rows = f"a,ann,north,2026-10-03,none.mp4\nb,ben,north,2026-10-03,{studio / '0-0.mp4'}\n"
    listed.write_text("clip,subject,outlet,published,media\n" + rows)
    done = mbd("clips", "read", listed, tmp_path / "out", "--stages", stages, "--home", tmp_path / "none")
    assert done.code == 1
    assert "1 of 2 clips could not be read" in done.err
    assert "what was read is kept" in " ".join(done.err.split())
    assert len(list((tmp_path / "out" / "readings").iterdir())) == 1


def test_a_picture_that_cannot_be_drawn_and_classes_are_said(mbd, studio, stages, tmp_path):
    listed, home = tmp_path / "list.csv", tmp_path / "none"
    rows = [
        f"{n},person-{n},north,2026-10-03,{studio / f'{n}-0.mp4'},{'glad' if n % 2 else 'so sad'},public,train\n"
        for n in range(3)
    ]
    listed.write_text("clip,subject,outlet,published,media,label,partition,split\n" + "".join(rows))
    assert mbd("clips", "read", listed, tmp_path / "out", "--stages", stages, "--home", home).code == 0
    shown = mbd("clips", "summary", listed, tmp_path / "out", "--picture", tmp_path / "none.svg", "--home", home)
    assert "No picture: 3 people speak of no aspect in one month of an outlet." in shown.out
    assert not (tmp_path / "none.svg").exists()
    table = mbd("clips", "table", listed, tmp_path / "out", tmp_path / "table", "--home", home)
    assert "--classes 'glad,so sad'" in table.out
    (tmp_path / "index.csv").write_bytes(listed.read_bytes())
    refused = mbd("clips", "table", tmp_path / "index.csv", tmp_path / "out", tmp_path, "--home", home)
    assert "holds the list itself" in refused.err
    assert (tmp_path / "index.csv").read_bytes() == listed.read_bytes()
