"""The audit's own test: each planted bug is caught by the attack that its patch names, and clean code passes."""

import json

import pytest

from benchmarks.nursery import Nursery
from benchmarks.planted_bugs import PATCHES, RESULT, attack, bugs
from mbd.workflow.canaries import CANARY_ATTACKS

BUGS = bugs()
HELD_ELSEWHERE = {"noisy-start"}
"""It takes a minute, and passes clean code in `tests/unit/attacks/test_noisy_start.py` and in the README's commands."""


@pytest.fixture(scope="module")
def nursery():
    with Nursery() as started:
        yield started


def test_every_patch_says_what_it_breaks_and_which_attack_must_catch_it():
    assert len(BUGS) >= 13
    assert {bug.attack for bug in BUGS} <= set(CANARY_ATTACKS)
    for bug in BUGS:
        lines = bug.patch.read_text("utf-8").splitlines()
        assert lines[0].startswith("Bug: ")
        assert lines[1].startswith("Caught by: ")
    assert {path.suffix for path in PATCHES.iterdir()} == {".patch"}


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_caught(nursery, bug):
    found = attack(nursery, [bug.attack], bug.patch)
    assert found.error is None
    assert found.broken, f"{bug.attack} passed: {bug.text}"


@pytest.mark.parametrize("name", sorted({bug.attack for bug in BUGS} - HELD_ELSEWHERE))
def test_the_same_attack_passes_clean_code(nursery, name):
    found = attack(nursery, [name])
    assert (found.error, found.broken) == (None, [])
    assert found.held


def test_the_table_in_the_documents_is_of_these_bugs():
    told = json.loads(RESULT.read_text("utf-8"))
    assert {row["bug"]: row["text"] for row in told["bugs"]} == {bug.name: bug.text for bug in BUGS}
    assert all(row["caught"] for row in told["bugs"])
    assert told["clean"]["broken"] == 0
