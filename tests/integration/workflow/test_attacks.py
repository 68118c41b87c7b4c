"""Attacks called from the deletion workflow: before a certificate is signed, and over everything afterwards."""

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import text

from mbd.attacks.report import Effort
from mbd.cohort.modality import Modality
from mbd.deletion import downdate
from mbd.errors import AttackError
from mbd.records.database import begin_locked
from mbd.settings import Settings
from mbd.training.recipe import Recipe
from mbd.workflow.attacks import attack_withdrawal
from mbd.workflow.leaks import hits_now, needles_before, sources, sweep_deployment
from mbd.workflow.revocation import resume, revoke
from mbd.workflow.system import open_system
from mbd.workflow.training import train_line

VOICE = Modality.AUDIO


def unheard(done, about):
    """Nobody waits."""


@pytest.fixture
def attacked(home):
    with open_system(Settings(home=home, attack=True), create=False) as opened:
        yield opened


def test_a_deletion_is_attacked_before_it_is_certified_and_searched_for_afterwards(check, attacked, people):
    (result,) = revoke(attacked, {(people[0], VOICE)})
    kinds = [report.attack for report in result.reports]
    assert kinds == ["exactness", *["distinguishing"] * 4, "membership", "relearning", "leaks"]
    assert {report.verdict for report in result.reports} == {"held"}
    assert check(attacked, result).verdict.startswith("valid")
    beside = json.loads((attacked.version_folder("main", result.version) / "attacks.json").read_bytes())
    assert [report["attack"] for report in beside] == kinds[:-1]
    assert not (result.folder / "attacks.json").exists()


def test_without_the_policy_nothing_is_attacked(system, people):
    (result,) = revoke(system, {(people[0], VOICE)})
    assert result.reports == ()
    assert not (system.version_folder("main", result.version) / "attacks.json").exists()


def test_a_broken_claim_means_no_certificate_and_the_channel_stays_suppressed(attacked, people, monkeypatch):
    cleared = downdate._cleared
    monkeypatch.setattr(downdate, "_cleared", lambda phi_ND, layout, left: phi_ND)
    with pytest.raises(AttackError, match="is not certified: exactness"):
        revoke(attacked, {(people[0], VOICE)})
    assert attacked.live("main").version == 1
    assert attacked.suppressed()(people[0], VOICE)
    monkeypatch.setattr(downdate, "_cleared", cleared)
    (result,) = resume(attacked)
    assert result.version == 2
    assert [report.attack for report in result.reports][-1] == "leaks"


def test_a_withdrawal_is_attacked_without_changing_anything(system, people):
    effort = Effort(releases=1000, worlds=4, seed=3)
    reports = attack_withdrawal(system, frozenset({(people[0], VOICE)}), effort=effort, on_progress=unheard)
    assert {report.verdict for report in reports} == {"held"}
    assert [report.attack for report in reports] == [*["distinguishing"] * 4, "membership", "relearning"]
    assert {report.seed for report in reports} == {3}
    assert reports[0].claim < 0.1
    assert system.live("main").version == 1
    with pytest.raises(AttackError, match="nothing to attack"):
        attack_withdrawal(system, frozenset({("*", VOICE)}), effort=effort, on_progress=unheard)


@pytest.fixture
def withdrawn(system, people):
    """(system, needles, hits before) of a deployment from which a voice was withdrawn."""
    pairs = frozenset({(people[0], VOICE)})
    needles = needles_before(system, pairs)
    found = hits_now(system, needles)
    revoke(system, pairs)
    return system, needles, found


def test_a_voice_is_there_before_and_nowhere_after(withdrawn, cohort, people):
    system, needles, found = withdrawn
    rows = sum(VOICE in cohort.present(i) for i in cohort.rows_of[people[0]])
    assert len(found) >= 3 * rows > 0
    report = sweep_deployment(system, needles, before=found)
    assert report.verdict == "held"
    names = [name for name, _ in sources(system)]
    assert any(name.startswith("table ") for name in names)
    assert any(name.endswith("mbd.sqlite3") for name in names)


@pytest.mark.parametrize("where", ["log", "cache", "backup", "digest", "table", "packed cell"])
def test_a_copy_anywhere_is_found(withdrawn, cohort, people, where, tmp_path):
    system, needles, found = withdrawn
    row = next(i for i in cohort.rows_of[people[0]] if VOICE in cohort.present(i))
    value = cohort.feature(row, VOICE)
    also = []
    match where:
        case "log":
            (system.home / "service.log").write_text(f"deleted {value.astype(float).tolist()}")
        case "cache":
            np.savez_compressed(system.home / "features.npz", x=value)
        case "backup":
            also = [tmp_path / "backup.gz"]
            also[0].write_bytes(gzip.compress(value.tobytes()))
        case "digest":
            from mbd.hashing import sha256_hex

            (system.home / "index.json").write_text(json.dumps({"row": sha256_hex(value.tobytes())}))
        case "table" | "packed cell":
            body = value.tobytes() if where == "table" else gzip.compress(value.tobytes())
            with begin_locked(system.engine) as connection:
                connection.execute(text("create table notes (body blob)"))
                connection.execute(text("insert into notes values (:body)"), {"body": body})
    report = sweep_deployment(system, needles, before=found, also=also)
    assert report.verdict == "broken"
    assert report.details["found"]


def test_where_no_head_is_released_again_equalities_alone_are_attacked(attacked):
    (result,) = revoke(attacked, {("*", VOICE)})
    assert [report.attack for report in result.reports] == ["exactness", "leaks"]
    assert {report.verdict for report in result.reports} == {"held"}


def test_a_value_that_somebody_else_rightly_holds_is_not_looked_for(tmp_path, cohort, people):
    mine, other = (next(i for i in cohort.rows_of[p] if VOICE in cohort.present(i)) for p in people[:2])
    voices = list(cohort.features[VOICE])
    voices[mine] = voices[other]
    same = replace(cohort, features={**cohort.features, VOICE: tuple(voices)})
    with open_system(Settings(home=tmp_path / "home", attack=True), create=True) as system:
        train_line(system, same, Recipe(epochs=1, options={"width": 4, "property_width": 4}), line="main", seed=0)
        (result,) = revoke(system, {(people[0], VOICE)})
    assert {report.verdict for report in result.reports} == {"held"}
