"""A real process, killed with SIGKILL at each step of a revocation: the next start finishes it, once."""

import shutil
import subprocess
import sys

import pytest

from certs.verification import verify
from mbd.cohort import folder
from mbd.cohort.modality import Modality
from mbd.records import certificates, fsck, requests
from mbd.records.database import begin_snapshot
from mbd.settings import Settings
from mbd.workflow.office import utc_now
from mbd.workflow.revocation import resume
from mbd.workflow.system import open_system

STEPS = [
    "suppressing",
    "deleting",
    "writing the new version",
    "signing and logging",
    "publishing the certificate",
    "destroying the retired version",
]
ABSENCE_STEPS = [
    "suppressing",
    "certifying absence",
    "publishing the certificate",
    "destroying the retired version",
]
SCRIPT = """
import os, signal, sys
from pathlib import Path
from mbd.cohort.modality import Modality
from mbd.settings import Settings
from mbd.workflow.revocation import revoke
from mbd.workflow.system import open_system

home, person, fatal, policy = sys.argv[1:]
seen = []

def on_step(step):
    seen.append(step)
    if step == fatal:
        os.kill(os.getpid(), signal.SIGKILL)

with open_system(Settings(home=Path(home), certify_absence=policy == "absence"), create=False) as system:
    revoke(system, [(person, Modality.AUDIO)], on_step=on_step)
print(";".join(seen))
"""


def run(home, person, fatal, policy="deletion"):
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, str(home), person, fatal, policy], capture_output=True, text=True, check=False
    )


def test_the_lists_of_steps_are_complete(home, people):
    assert run(home, people[0], "never").stdout.strip().split(";") == STEPS
    assert run(home, "nobody here", "never", "absence").stdout.strip().split(";") == ABSENCE_STEPS


@pytest.mark.parametrize("fatal", STEPS)
def test_a_killed_revocation_is_finished_exactly_once(system, home, people, fatal):
    killed = run(home, people[0], fatal)
    assert killed.returncode == -9, killed.stderr
    results = resume(system)
    with begin_snapshot(system.engine) as connection:
        issued = certificates.current(connection)
        report = fsck.fsck(connection, verify_note=system.keyring.read_checkpoint)
        assert requests.unfinished(connection) == ()
    assert report.ok
    if fatal == "suppressing":  # nothing had been filed yet
        assert (results, issued, system.live("main").version) == ([], (), 1)
        return
    assert len(issued) == len(results) == 1
    assert report.head.size == 2
    assert system.live("main").version == 2
    verify(results[0].bundle.read_bytes(), system.trusted_root_path.read_bytes(), at=utc_now())
    assert (results[0].folder / "mdc.tlog-proof").exists()
    assert sorted(path.name for path in (home / "lines" / "main").iterdir()) == ["2"]
    remaining = folder.read(system.cohort_folder("main", 2)).where(subject=people[0])
    assert all(Modality.AUDIO not in remaining.present(i) for i in range(len(remaining)))


@pytest.mark.parametrize("fatal", ABSENCE_STEPS)
def test_a_killed_certificate_of_absence_is_issued_exactly_once_or_not_asked_for(system, home, fatal):
    """The process that resumes does not know the name, nor that the policy was to certify absence."""
    killed = run(home, "nobody here", fatal, "absence")
    assert killed.returncode == -9, killed.stderr
    results = resume(system)
    with begin_snapshot(system.engine) as connection:
        issued = certificates.current(connection)
        report = fsck.fsck(connection, verify_note=system.keyring.read_checkpoint)
        assert requests.unfinished(connection) == ()
    assert report.ok
    assert system.live("main").version == 1
    filed = fatal in ("publishing the certificate", "destroying the retired version")
    assert len(issued) == len(results) == report.head.size - 1 == filed
    assert system.suppressed()("nobody here", Modality.AUDIO) == filed
    for result in results:
        assert (result.kind, result.version) == ("absence", 1)
        verify(result.bundle.read_bytes(), system.trusted_root_path.read_bytes(), at=utc_now())
        assert (result.folder / "mdc.tlog-proof").exists()
    assert [path.name for path in (home / "lines" / "main").iterdir()] == ["1"]


@pytest.mark.parametrize("fatal", ["deleting", "signing and logging"])
def test_a_mixed_request_that_is_killed_still_gives_each_line_one_certificate(two_lines_home, tmp_path, people, fatal):
    home = shutil.copytree(two_lines_home, tmp_path / "two")
    killed = run(home, people[0], fatal, "absence")
    assert killed.returncode == -9, killed.stderr
    with open_system(Settings(home=home), create=False) as system:
        results = resume(system)
        found = [(result.line, result.version, result.kind) for result in results]
        assert found == [("main", 2, "deletion"), ("second", 1, "absence")]
        for result in results:
            verify(result.bundle.read_bytes(), system.trusted_root_path.read_bytes(), at=utc_now())
