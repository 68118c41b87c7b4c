"""A person is forgotten: what tied certificates to them is in no file and no table, also after a backup is restored."""

import base64
import dataclasses
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from certs.verification import verify
from mbd.attacks.leaks import Needle, find
from mbd.cohort import folder
from mbd.cohort.modality import Modality
from mbd.errors import DeletionError, RecordsError, SettingsError, UnknownSubjectError
from mbd.records import certificates, commitments, fsck, requests
from mbd.records.database import begin_locked, begin_snapshot
from mbd.records.exposure import live_descendants_of_revoked
from mbd.records.lifecycle import Action, Role
from mbd.records.requests import Actor
from mbd.settings import Settings
from mbd.training.recipe import Recipe
from mbd.workflow.destroyed_keys import read
from mbd.workflow.erasure import forget_certificate, forget_person
from mbd.workflow.leaks import sources
from mbd.workflow.live import load_live_model
from mbd.workflow.office import utc_now
from mbd.workflow.openings import opening_for
from mbd.workflow.replay import replay
from mbd.workflow.revocation import resume, revoke
from mbd.workflow.system import open_system
from mbd.workflow.training import train_line

ALL = list(Modality)
OFFICER = Actor(Role.OFFICER, "key-1")
STEPS = [
    "journalling",
    "destroying the openings",
    "overwriting old rows",
    "renewing the manifest of main",
    "destroying the retired versions",
]
SCRIPT = """
import os, signal, sys
from pathlib import Path
from mbd.settings import Settings
from mbd.training.recipe import Recipe
from mbd.workflow.erasure import forget_person
from mbd.workflow.system import open_system

home, person, fatal = sys.argv[1:]
seen = []

def on_step(step):
    seen.append(step)
    if step == fatal:
        os.kill(os.getpid(), signal.SIGKILL)

with open_system(Settings(home=Path(home)), create=False) as system:
    forget_person(system, person, on_step=on_step)
print(";".join(seen))
"""


def secrets_of(system, subject, certificate):
    """A name, its opening and the key of the live manifest, in the forms in which they could be kept."""
    opening = opening_for(system, certificate, subject).key
    key = folder.read_manifest(system.cohort_folder("main", system.live("main").version)).key
    needles = [Needle("name", "UTF-8", subject.encode())]
    for value, secret in (("opening", opening), ("manifest key", key)):
        needles += [Needle(value, "bytes", secret), Needle(value, "hexadecimal", secret.hex().encode())]
        needles += [Needle(value, "base64", base64.b64encode(secret)[:40])]
        needles += [Needle(value, "base64 for URLs", base64.urlsafe_b64encode(secret)[:40])]
    return needles


def found(system, needles, *also):
    """What of a person is somewhere in the state folder, its database, or another place."""
    return {hit.value for hit in find(sources(system, also=also), needles).hits}


def withdrawn(system, subject, modalities=ALL):
    """Their certificate, after they withdrew all there is."""
    (result,) = revoke(system, [(subject, modality) for modality in modalities])
    return result


def back_up(home, target):
    with sqlite3.connect(home / "mbd.sqlite3") as source, sqlite3.connect(target) as copy:
        source.backup(copy)
    source.close()
    copy.close()


def restore(home, backup):
    for leftover in home.glob("mbd.sqlite3*"):
        leftover.unlink()
    shutil.copy(backup, home / "mbd.sqlite3")


def test_a_person_is_forgotten_in_every_file_and_again_after_a_backup_is_restored(home, people, tmp_path, caplog):
    person, backup = people[0], tmp_path / "backup.sqlite3"
    with open_system(Settings(home=home), create=False) as system:
        result = withdrawn(system, person)
        needles = secrets_of(system, person, result.certificate)
        back_up(home, backup)
        assert found(system, needles) == {"opening", "manifest key"}  # the name left with the deletion
        done = forget_person(system, person)
        assert (done.certificates, done.destroyed, done.named_in, done.left) == ((result.certificate,), 1, (), None)
        assert [(version.line, version.version) for version in done.versions] == [("main", 3)]
        assert found(system, needles) == set()
        assert found(system, needles, backup) == {"opening"}, "the search sees what a database holds"
        verify(result.bundle.read_bytes(), system.trusted_root_path.read_bytes(), at=utc_now())
    assert not caplog.records
    restore(home, backup)
    with open_system(Settings(home=home), create=False) as system:
        assert found(system, needles) == set()
        with pytest.raises(RecordsError, match="destroyed"):
            opening_for(system, result.certificate, person)
    assert result.certificate in caplog.records[0].getMessage()
    assert person not in caplog.text


def test_a_state_folder_that_is_restored_whole_is_cleaned_by_the_certificates_id(home, people, tmp_path, caplog):
    """The live version's cohort folder is back too, with the key of its manifest: the warning says what to do."""
    journal = tmp_path / "elsewhere"
    settings = Settings(home=home, destroyed_keys=journal)
    with open_system(settings, create=False) as system:
        result = withdrawn(system, people[0])
        needles = secrets_of(system, people[0], result.certificate)
    shutil.copytree(home, tmp_path / "whole")
    with open_system(settings, create=False) as system:
        forget_person(system, people[0])
    shutil.rmtree(home)
    shutil.move(tmp_path / "whole", home)
    caplog.clear()
    with open_system(settings, create=False) as system:
        assert found(system, needles) == {"manifest key"}
        assert f"mbd forget --certificate {result.certificate}" in caplog.text
        done = forget_certificate(system, result.certificate)
        assert (done.destroyed, [version.version for version in done.versions]) == (0, [3])
        assert found(system, needles) == set()
    caplog.clear()
    with open_system(settings, create=False):
        assert not caplog.records


def test_a_restored_database_that_is_refused_is_cleaned_first(home, people, tmp_path):
    backup = tmp_path / "backup.sqlite3"
    with open_system(Settings(home=home), create=False) as system:
        result = withdrawn(system, people[0])
        needles = secrets_of(system, people[0], result.certificate)
        back_up(home, backup)
        withdrawn(system, people[1])
        forget_person(system, people[0])
    for inspect in (True, False):
        restore(home, backup)
        try:
            with open_system(Settings(home=home), create=False, inspect=inspect) as system:
                assert inspect
                assert found(system, needles) == set()
        except RecordsError:
            assert not inspect
            bodies = b"".join(path.read_bytes() for path in home.glob("mbd.sqlite3*"))
            assert not any(needle.pattern in bodies for needle in needles)


def test_folders_that_nobody_owns_stay_while_a_live_version_has_none(home, people, tmp_path):
    """A database that was restored alone does not know the renewed version, the only copy of what is left."""
    backup = tmp_path / "backup.sqlite3"
    with open_system(Settings(home=home), create=False) as system:
        withdrawn(system, people[0])
        back_up(home, backup)
        forget_person(system, people[0])
    restore(home, backup)
    with (
        open_system(Settings(home=home), create=False) as system,
        pytest.raises(SettingsError, match="Version 2 of 'main' is live"),
    ):
        resume(system)
    assert [path.name for path in (home / "lines" / "main").iterdir()] == ["3"]


def test_the_renewed_version_answers_alike_and_the_next_deletion_starts_from_it(system, people, cohort, check):
    first = withdrawn(system, people[0])
    before = load_live_model(system, system.live("main"))
    assert replay(system, first.bundle.read_bytes()).matched
    forget_person(system, people[0])
    after = load_live_model(system, system.live("main"))
    rows = cohort.where(subject=people[1])
    assert (after.predict(rows).outputs_NK == before.predict(rows).outputs_NK).all()
    assert not (system.home / "lines" / "main" / "2").exists()
    with pytest.raises(DeletionError, match="version 3 is live"):
        replay(system, first.bundle.read_bytes())
    (second,) = revoke(system, [(people[1], Modality.AUDIO)])
    lineage = check(system, second).statement.predicate.lineage
    assert (lineage.parent_version, lineage.version) == (3, 4)
    assert replay(system, second.bundle.read_bytes()).matched
    with begin_snapshot(system.engine) as connection:
        assert live_descendants_of_revoked(connection) == ()
        assert fsck.fsck(connection, verify_note=system.keyring.read_checkpoint).ok
    assert system.suppressed()(people[0], Modality.AUDIO)


@pytest.mark.parametrize("kind", ["entangled", "towers"])
def test_a_renewed_version_of_networks_that_saw_people_can_be_deleted_from(
    tmp_path, cohort, people, tower_recipe, kind
):
    recipe = Recipe(epochs=1, options={"width": 8, "property_width": 8}, trains_on="everyone")
    with open_system(Settings(home=tmp_path / "home"), create=True) as system:
        train_line(system, cohort, tower_recipe if kind == "towers" else recipe, line="main", seed=0)
        withdrawn(system, people[0])
        (version,) = forget_person(system, people[0]).versions
        (result,) = revoke(system, [(people[1], Modality.AUDIO)])
        verified = verify(result.bundle.read_bytes(), system.trusted_root_path.read_bytes(), at=utc_now())
        assert verified.statement.predicate.lineage.parent_digest == version.digest
        assert replay(system, result.bundle.read_bytes()).matched


def test_a_person_who_kept_other_modalities_is_named_in_the_cohort_and_nowhere_else(system, people):
    result = withdrawn(system, people[0], [Modality.AUDIO])
    needles = secrets_of(system, people[0], result.certificate)
    assert forget_person(system, people[0]).named_in == ("main",)
    hits = find(sources(system), needles).hits
    assert {hit.value for hit in hits} == {"name"}
    assert {hit.source.partition(" > ")[0] for hit in hits} == {str(system.cohort_folder("main", 3) / "rows.parquet")}


def test_a_deployment_that_never_knew_the_name_holds_it_nowhere(home):
    with open_system(Settings(home=home, certify_absence=True), create=False) as system:
        (result,) = revoke(system, [("nobody at all", modality) for modality in ALL])
        needles = secrets_of(system, "nobody at all", result.certificate)
        assert found(system, needles) == {"opening", "manifest key"}
        forget_person(system, "nobody at all")
        assert found(system, needles) == set()


def test_forgetting_one_of_two_people_leaves_the_other_their_opening(system, people, check):
    one, other = people[:2]
    (result,) = revoke(system, [(one, Modality.AUDIO), (other, Modality.AUDIO)])
    theirs = opening_for(system, result.certificate, one)
    assert forget_person(system, one).destroyed == 1
    with pytest.raises(RecordsError, match="1 of 2 openings were destroyed"):
        opening_for(system, result.certificate, one)
    left = opening_for(system, result.certificate, other)
    for kept in (theirs, left):  # who was given one keeps it
        assert check(system, result, openings={kept.subject: kept.key}).steps[-1].result == "passed"
    assert forget_certificate(system, result.certificate).destroyed == 1
    with begin_snapshot(system.engine) as connection:
        assert commitments.key_of(connection, result.certificate) is None


def test_one_opening_in_two_certificates_goes_from_both(home, people):
    """Two requests about the same version call a person by the same name, under the same opening."""
    with open_system(Settings(home=home, certify_absence=True), create=False) as system:
        first = withdrawn(system, people[0])
        again = withdrawn(system, people[0])
        assert (first.kind, again.kind, first.version) == ("deletion", "absence", again.version)
        same = [opening_for(system, result.certificate, people[0]) for result in (first, again)]
        assert same[0] == same[1]
        done = forget_certificate(system, again.certificate)
        assert (done.certificates, done.destroyed) == ((again.certificate,), 2)
        with begin_snapshot(system.engine) as connection:
            assert commitments.openings_of(connection, [first.certificate, again.certificate]) == {}
        assert {entry.certificate for entry in read(system.destroyed_keys_path)} == {
            first.certificate,
            again.certificate,
        }


def test_certificates_about_earlier_versions_are_forgotten_without_a_new_one(system, people):
    withdrawn(system, people[0])
    revoke(system, [(people[1], Modality.AUDIO)])
    done = forget_person(system, people[0])
    assert (done.destroyed, done.versions, system.live("main").version) == (1, (), 3)


def test_forgetting_twice_is_forgetting_once(system, people):
    withdrawn(system, people[0])
    first = forget_person(system, people[0])
    journal = system.destroyed_keys_path.read_bytes()
    second = forget_person(system, people[0])
    assert second == dataclasses.replace(first, destroyed=0, versions=())
    assert system.destroyed_keys_path.read_bytes() == journal


def test_who_has_no_certificate_or_an_unfinished_request_is_refused(system, people):
    with pytest.raises(UnknownSubjectError, match="No certificate"):
        forget_person(system, people[2])
    with pytest.raises(RecordsError, match="no certificate"):
        forget_certificate(system, "mdc-none")
    result = withdrawn(system, people[0])
    with pytest.raises(UnknownSubjectError, match="not about"):
        opening_for(system, result.certificate, people[1])
    with begin_locked(system.engine) as connection:
        (mine,) = certificates.naming(connection, system.identities.subject_key(people[0]))
        stored = requests.get(connection, mine.revocation_id)
        again = requests.file(connection, dataclasses.replace(stored, id="rev-again", digest="again"), by=OFFICER)
        for action in (Action.VERIFY_IDENTITY, Action.APPROVE):
            requests.act(connection, again.id, action, by=OFFICER, at=system.clock())
    with pytest.raises(DeletionError, match="not finished"):
        forget_person(system, people[0])
    assert opening_for(system, result.certificate, people[0])


def test_the_journal_names_nobody(system, people):
    result = withdrawn(system, people[0])
    opening = opening_for(system, result.certificate, people[0])
    forget_person(system, people[0])
    (entry,) = read(system.destroyed_keys_path)
    assert (entry.certificate, entry.opening) == (result.certificate, commitments.opening_id(opening.key))
    body = system.destroyed_keys_path.read_text()
    assert people[0] not in body
    assert system.identities.subject_key(people[0]) not in body
    assert system.destroyed_keys_path.stat().st_mode & 0o077 == 0


def run(home, person, fatal):
    command = [sys.executable, "-c", SCRIPT, str(home), person, fatal]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_list_of_steps_is_complete(home, people):
    with open_system(Settings(home=home), create=False) as system:
        withdrawn(system, people[0])
    assert run(home, people[0], "never").stdout.strip().split(";") == STEPS


@pytest.mark.parametrize("fatal", STEPS)
def test_a_killed_forgetting_is_finished(home, people, fatal, caplog):
    with open_system(Settings(home=home), create=False) as system:
        result = withdrawn(system, people[0])
        needles = secrets_of(system, people[0], result.certificate)
    killed = run(home, people[0], fatal)
    assert killed.returncode == -9, killed.stderr
    journalled = fatal != "journalling"
    with open_system(Settings(home=home), create=False) as system:
        assert bool(read(system.destroyed_keys_path)) == journalled
        with begin_snapshot(system.engine) as connection:
            kept = commitments.openings_of(connection, [result.certificate])
        assert bool(kept) == (not journalled)
        assert ("destroyed again" in caplog.text) == (fatal == "destroying the openings")
        renewed = fatal == "destroying the retired versions"
        assert (f"forget --certificate {result.certificate}" in caplog.text) == (journalled and not renewed)
        forget_person(system, people[0])
        assert found(system, needles) == set()
        assert [path.name for path in (home / "lines" / "main").iterdir()] == ["3"]
        verify(result.bundle.read_bytes(), system.trusted_root_path.read_bytes(), at=utc_now())


@pytest.fixture
def on_postgres(empty_postgres_url, tmp_path, cohort, recipe):
    """A trained deployment whose records are in PostgreSQL."""
    settings = Settings(home=tmp_path / "home", database_url=SecretStr(empty_postgres_url))
    with open_system(settings, create=True) as system:
        train_line(system, cohort, recipe, line="main", seed=0)
    return settings


def table_files(system):
    """The files of the server's tables. Its write-ahead log, beside them, keeps for a while what it was told."""
    with system.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("CHECKPOINT"))
        oid = connection.scalar(text("SELECT oid FROM pg_database WHERE datname = current_database()"))
        return Path(connection.scalar(text("SHOW data_directory"))) / "base" / str(oid)


@pytest.mark.postgres
def test_a_person_is_forgotten_in_postgresql_and_again_after_a_dump_is_restored(
    on_postgres, postgres_programs, people, tmp_path, caplog
):
    dump, url = tmp_path / "dump.sql", on_postgres.database
    with open_system(on_postgres, create=False) as system:
        result = withdrawn(system, people[0])
        needles = secrets_of(system, people[0], result.certificate)
        subprocess.run([postgres_programs / "pg_dump", "-f", dump, url], check=True)
        hits = {hit.source for hit in find(sources(system, also=[table_files(system)]), needles).hits}
        assert "table commitment_key" in hits
        assert any(source.startswith(str(table_files(system))) for source in hits)
        assert forget_person(system, people[0]).left is None
        assert found(system, needles, table_files(system)) == set()
        assert found(system, needles, dump) == {"opening"}
    for what in (("-c", "DROP SCHEMA public CASCADE; CREATE SCHEMA public"), ("-f", dump)):
        command = [postgres_programs / "psql", "-q", "-v", "ON_ERROR_STOP=1", *what, url]
        subprocess.run(command, check=True, capture_output=True)
    with open_system(on_postgres, create=False) as system:
        assert result.certificate in caplog.records[0].getMessage()
        assert found(system, needles, table_files(system)) == set()
        with begin_snapshot(system.engine) as connection:
            assert commitments.key_of(connection, result.certificate) is None
        verify(result.bundle.read_bytes(), system.trusted_root_path.read_bytes(), at=utc_now())
