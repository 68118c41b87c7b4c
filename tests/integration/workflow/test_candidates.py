"""A deletion while a candidate waits: the candidate gives way, and no number is given twice."""

import shutil
from dataclasses import replace

from mbd.cohort.modality import Modality
from mbd.records import destruction, models
from mbd.records.certificates import certificates_between
from mbd.records.database import begin_locked, begin_snapshot
from mbd.workflow.revocation import revoke


def test_a_deletion_takes_the_next_free_number_and_destroys_what_waits(system, people, check):
    live = system.live("main")
    shutil.copytree(system.version_folder("main", 1), system.version_folder("main", 2))
    with begin_locked(system.engine) as connection:
        models.register(connection, replace(live, version=2, parent_version=1), candidate=True)
    (result,) = revoke(system, [(people[0], Modality.AUDIO)])
    assert result.version == system.live("main").version == 3
    lineage = check(system, result).statement.predicate.lineage
    assert (lineage.parent_version, lineage.version) == (1, 3)
    with begin_snapshot(system.engine) as connection:
        assert [version.state.value for version in models.versions(connection, "main")] == [
            "retired",
            "retired",
            "live",
        ]
        assert [each.version for each in destruction.every(connection)] == [1, 2]
        (step,) = certificates_between(connection, "main", 1, 3)
    assert [certificate.id for certificate in step.certificates] == [result.certificate]
    assert [path.name for path in (system.home / "lines" / "main").iterdir()] == ["3"]
