"""The transcript is canonical, complete, and holds nobody."""

import json
from dataclasses import fields, replace

import pytest

from mbd.hashing import canonical_json, sha256_hex
from mbd.training.loop import train
from mbd.training.transcript import Transcript


@pytest.fixture(scope="module")
def transcript(cohort):
    from mbd.training.recipe import Recipe

    recipe = Recipe(options={"width": 8, "property_width": 6}, epochs=2)
    return train(recipe, cohort, seed=5, manifest_root="ab" * 32).transcript


def test_it_says_what_was_run_on_what_with_what_result(transcript, cohort):
    value = json.loads(transcript.to_bytes())
    assert value["format"] == "mbd-training-transcript/1"
    assert value["seed"] == 5
    assert value["manifest_root"] == "ab" * 32
    assert value["rows"] == {"train": 40, "valid": 16}
    assert set(value["versions"]) == {"torch", "numpy"}
    assert len(value["curve"]) == 2
    assert set(value["curve"][0]) == {"losses", "validation", "score"}
    for name in ("recipe_digest", "data_digest", "weights_digest"):
        assert len(bytes.fromhex(value[name])) == 32


def test_its_digest_is_over_canonical_bytes(transcript):
    assert transcript.to_bytes() == canonical_json(json.loads(transcript.to_bytes()))
    assert transcript.digest == sha256_hex(transcript.to_bytes())


def test_it_names_no_clip_and_no_subject(transcript, cohort):
    text = transcript.to_bytes().decode()
    assert not [row.clip for row in cohort.rows if row.clip in text]
    assert not [subject for subject in cohort.subjects if subject in text]


def test_one_process_on_the_cpu_is_what_a_transcript_means_that_says_nothing_else(transcript):
    value = transcript.to_json()
    assert set(value) == {"format", *(field.name for field in fields(Transcript))} - {"ranks", "device"}
    assert replace(transcript, manifest_root=None).to_json()["manifest_root"] is None


def test_several_processes_and_a_gpu_are_named_and_change_the_digest(transcript):
    others = [replace(transcript, ranks=2), replace(transcript, ranks=3), replace(transcript, device="cuda")]
    assert [(t.to_json().get("ranks"), t.to_json().get("device")) for t in others] == [
        (2, None),
        (3, None),
        (None, "cuda"),
    ]
    assert len({t.digest for t in (transcript, *others)}) == 4
