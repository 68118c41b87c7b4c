"""One model line, as the workflow records it: a public backbone, and deletions one after the other."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Connection, Engine, event

from mbd.errors import RecordsError
from mbd.records import certificates, exposure, ledger, lineage, models, requests
from mbd.records.certificates import Certificate, CertificateKind
from mbd.records.database import begin_locked, begin_snapshot
from mbd.records.exposure import Ending, ExposedVersion, LiveExposure
from mbd.records.lineage import Kind, Node, Role, node_id
from mbd.records.models import ModelVersion, VersionState
from mbd.records.requests import WORKER, Revocation
from mbd.records.suppression import EVERYONE, Channel, suppress

ANNA, BEN, PUBLIC = (Channel(name, "audio") for name in ("anna", "ben", "public speaker"))
ANNA_TEXT = Channel("anna", "text")


def add(connection: Connection, kind: Kind, key: str, at: datetime) -> str:
    return lineage.add_node(connection, Node(kind, key, key, key, at))


def register(
    connection: Connection, line: str, number: int, cohort: str, at: datetime, *, label: str | None = None
) -> None:
    """Statistics over the cohort, the one backbone, and the version made of both."""
    statistics = add(connection, Kind.STATISTICS, f"statistics of {cohort}", at)
    lineage.add_edge(connection, statistics, node_id(Kind.COHORT, cohort), Role.COMPUTED_FROM)
    parent = number - 1 or None
    models.register(
        connection,
        ModelVersion(
            line, number, f"{line} {number}", parent, label, "backbone", f"statistics of {cohort}", cohort, at
        ),
    )
    if parent is not None:
        before = models.get(connection, line, parent)
        old = node_id(Kind.STATISTICS, before.statistics)
        if old != statistics:
            lineage.add_edge(connection, statistics, old, Role.SUCCEEDS)


def begin(connection: Connection, at: datetime, line: str = "mosi") -> None:
    add(connection, Kind.PUBLIC_COHORT, "public", at)
    exposure.record_exposure(connection, "public_cohort:public", {PUBLIC: 40})
    add(connection, Kind.BACKBONE, "backbone", at)
    lineage.add_edge(connection, "backbone:backbone", "public_cohort:public", Role.COMPUTED_FROM)
    add(connection, Kind.COHORT, "D", at)
    exposure.record_exposure(connection, "cohort:D", {ANNA: 10, ANNA_TEXT: 10, BEN: 7})
    register(connection, line, 1, "D", at)


def revoke(connection: Connection, channel: Channel, at: datetime) -> str:
    name = f"{channel.subject_key} {channel.modality}"
    requests.file(connection, Revocation(name, name, "gdpr", (channel,), at, at.date()), by=WORKER)
    suppress(connection, [channel], since=at, revocation_id=name)
    return name


def delete(connection: Connection, channel: Channel, number: int, *, before: str, after: str, at: datetime) -> None:
    revocation = revoke(connection, channel, at)
    cohort = add(connection, Kind.COHORT, after, at)
    lineage.add_edge(connection, cohort, node_id(Kind.COHORT, before), Role.SUCCEEDS)
    exposure.record_exposure(connection, cohort, {channel: 0})
    register(connection, "mosi", number, after, at, label="certified")
    appended = ledger.append(connection, f"certificate {number}".encode())
    certificates.issue(
        connection,
        Certificate(
            f"certificate {number}", revocation, "mosi", number, appended.leaf_index, f"digest {number}", "{}", at
        ),
    )


def exposed_numbers(connection: Connection, channel: Channel) -> list[int]:
    return [found.version for found in exposure.models_exposed_to(connection, channel)]


@pytest.fixture
def history(engine: Engine, now: datetime) -> Engine:
    """Version 1 on D; Anna's audio leaves for version 2, Ben's for version 3."""
    with begin_locked(engine) as connection:
        begin(connection, now)
        delete(connection, ANNA, 2, before="D", after="D'", at=now + timedelta(days=1))
        delete(connection, BEN, 3, before="D'", after="D''", at=now + timedelta(days=2))
    return engine


def test_the_answer_names_the_versions_and_what_ended_them(history: Engine) -> None:
    with begin_snapshot(history) as connection:
        assert exposure.models_exposed_to(connection, ANNA) == (
            ExposedVersion("mosi", 1, VersionState.RETIRED, None, Ending(2, "certificate 2", "anna audio")),
        )
        ending = Ending(3, "certificate 3", "ben audio")
        assert exposure.models_exposed_to(connection, BEN) == (
            ExposedVersion("mosi", 1, VersionState.RETIRED, None, ending),
            ExposedVersion("mosi", 2, VersionState.RETIRED, "certified", ending),
        )


def test_what_was_not_revoked_is_inherited_by_every_later_cohort(history: Engine) -> None:
    with begin_snapshot(history) as connection:
        found = exposure.models_exposed_to(connection, ANNA_TEXT)
    assert [(version.version, version.state, version.ended_by) for version in found] == [
        (1, "retired", None),
        (2, "retired", None),
        (3, "live", None),
    ]


def test_a_public_speaker_is_in_every_version_through_the_backbone(history: Engine) -> None:
    with begin_snapshot(history) as connection:
        assert exposed_numbers(connection, PUBLIC) == [1, 2, 3]


def test_nobody_saw_a_stranger(history: Engine) -> None:
    with begin_snapshot(history) as connection:
        assert exposure.models_exposed_to(connection, Channel("stranger", "audio")) == ()
        assert exposure.models_exposed_to(connection, Channel("ben", "text")) == ()


def test_one_answer_is_one_statement(history: Engine) -> None:
    statements: list[str] = []
    event.listen(history, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    with begin_snapshot(history) as connection:
        statements.clear()
        exposure.models_exposed_to(connection, ANNA)
    assert len(statements) == 1


def test_every_line_is_answered_for(history: Engine, now: datetime) -> None:
    with begin_locked(history) as connection:
        register(connection, "other", 1, "D", now)
        found = exposure.models_exposed_to(connection, ANNA)
    assert [(version.line, version.version, version.state) for version in found] == [
        ("mosi", 1, "retired"),
        ("other", 1, "live"),
    ]
    assert found[1].ended_by is None


def test_a_channel_that_comes_back_is_exposed_again(history: Engine, now: datetime) -> None:
    with begin_locked(history) as connection:
        cohort = add(connection, Kind.COHORT, "D with Anna again", now)
        lineage.add_edge(connection, cohort, "cohort:D''", Role.SUCCEEDS)
        exposure.record_exposure(connection, cohort, {ANNA: 3})
        register(connection, "mosi", 4, "D with Anna again", now)
        found = exposure.models_exposed_to(connection, ANNA)
    assert [(version.version, version.ended_by and version.ended_by.version) for version in found] == [
        (1, 2),
        (4, None),
    ]


def test_a_certificate_in_the_lineage_exposes_nothing(history: Engine, now: datetime) -> None:
    with begin_locked(history) as connection:
        deletion = add(connection, Kind.DELETION, "deletion 2", now)
        lineage.add_edge(connection, deletion, "model_version:mosi/1", Role.ABOUT)
        lineage.add_edge(connection, "model_version:mosi/3", deletion, Role.ABOUT)
        assert exposed_numbers(connection, ANNA) == [1]


def test_nothing_live_descends_from_what_was_deleted(history: Engine) -> None:
    with begin_snapshot(history) as connection:
        assert exposure.live_descendants_of_revoked(connection) == ()


def test_a_live_version_that_still_contains_a_revoked_channel_is_found(history: Engine, now: datetime) -> None:
    with begin_locked(history) as connection:
        revoke(connection, ANNA_TEXT, now)
        assert exposure.live_descendants_of_revoked(connection) == (LiveExposure("mosi", 3, ANNA_TEXT),)


def test_a_modality_revoked_for_everyone_is_found_until_it_is_gone(engine: Engine, now: datetime) -> None:
    everyone = Channel(EVERYONE, "audio")
    with begin_locked(engine) as connection:
        begin(connection, now)
        revoke(connection, everyone, now)
        assert exposure.live_descendants_of_revoked(connection) == (
            LiveExposure("mosi", 1, ANNA),
            LiveExposure("mosi", 1, BEN),
        )
        delete(connection, everyone, 2, before="D", after="D'", at=now)
        # The public speaker stays in the backbone, which everyone's withdrawal does not reach: nobody can revoke it.
        assert exposure.live_descendants_of_revoked(connection) == ()
        assert exposed_numbers(connection, PUBLIC) == [1, 2]
        assert exposed_numbers(connection, ANNA) == exposed_numbers(connection, BEN) == [1]
        assert exposed_numbers(connection, ANNA_TEXT) == [1, 2]


def test_everyone_stands_for_anybody(history: Engine) -> None:
    with begin_snapshot(history) as connection:
        assert exposed_numbers(connection, Channel(EVERYONE, "audio")) == [1, 2, 3]
        assert exposed_numbers(connection, Channel(EVERYONE, "vision")) == []


def test_each_step_is_answered_for_with_its_certificate(history: Engine) -> None:
    with begin_snapshot(history) as connection:
        steps = certificates.certificates_between(connection, "mosi", 1, 3)
        assert [(step.parent_version, step.version) for step in steps] == [(1, 2), (2, 3)]
        assert [[found.id for found in step.certificates] for step in steps] == [["certificate 2"], ["certificate 3"]]
        (step,) = certificates.certificates_between(connection, "mosi", 2, 3)
        assert step.certificates == (certificates.get(connection, "certificate 3"),)
        assert certificates.certificates_between(connection, "mosi", 2, 2) == ()


def test_a_certificate_of_absence_ends_nothing_and_made_no_version(history: Engine, now: datetime) -> None:
    """Anna's voice left with version 2; that it is absent there, certified later, is not how it left."""
    with begin_snapshot(history) as connection:
        before = exposure.models_exposed_to(connection, ANNA)
        steps = certificates.certificates_between(connection, "mosi", 1, 3)
    with begin_locked(history) as connection:
        for number, channel in enumerate((ANNA, Channel("stranger", "audio"), Channel(EVERYONE, "vision"))):
            asked = Revocation(f"again {number}", f"again {number}", "gdpr", (channel,), now, now.date())
            requests.file(connection, asked, by=WORKER)
            appended = ledger.append(connection, asked.digest.encode())
            absent = Certificate(f"absence {number}", asked.id, "mosi", 2, appended.leaf_index, asked.digest, "{}", now)
            certificates.issue(connection, replace(absent, kind=CertificateKind.ABSENCE))
    with begin_snapshot(history) as connection:
        assert exposure.models_exposed_to(connection, ANNA) == before
        assert certificates.certificates_between(connection, "mosi", 1, 3) == steps
        for channel, expected in (
            (Channel("stranger", "audio"), ["absence 1"]),
            (Channel("stranger", "text"), []),
            (Channel("stranger", "vision"), ["absence 2"]),
            (ANNA, ["absence 0"]),
            (BEN, []),
        ):
            assert [found.id for found in certificates.absences_of(connection, channel)] == expected


def test_a_step_without_a_deletion_has_no_certificate(history: Engine, now: datetime) -> None:
    with begin_locked(history) as connection:
        register(connection, "mosi", 4, "D''", now)
        (step,) = certificates.certificates_between(connection, "mosi", 3, 4)
    assert step.certificates == ()


@pytest.mark.parametrize(("before", "after"), [(3, 1), (1, 9), (0, 2)])
def test_a_step_that_was_never_taken_is_an_error(history: Engine, before: int, after: int) -> None:
    with begin_snapshot(history) as connection, pytest.raises(RecordsError):
        certificates.certificates_between(connection, "mosi", before, after)
