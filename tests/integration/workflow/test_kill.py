"""A real process, killed with SIGKILL at each step of a revocation: the next start finishes it, once."""

import subprocess
import sys

import pytest

from certs.verification import verify
from mbd.cohort import folder
from mbd.cohort.modality import Modality
from mbd.records import certificates, fsck, requests
from mbd.records.database import begin_snapshot
from mbd.workflow.revocation import resume
from mbd.workflow.system import utc_now

STEPS = [
    "suppressing",
    "deleting",
    "writing the new version",
    "signing and logging",
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

home, person, fatal = sys.argv[1:]
seen = []

def on_step(step):
    seen.append(step)
    if step == fatal:
        os.kill(os.getpid(), signal.SIGKILL)

with open_system(Settings(home=Path(home)), create=False) as system:
    revoke(system, [(person, Modality.AUDIO)], on_step=on_step)
print(";".join(seen))
"""


def run(home, person, fatal):
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, str(home), person, fatal], capture_output=True, text=True, check=False
    )


def test_the_list_of_steps_is_complete(home, people):
    assert run(home, people[0], "never").stdout.strip().split(";") == STEPS


@pytest.mark.parametrize("fatal", STEPS)
def test_a_killed_revocation_is_finished_exactly_once(system, home, people, fatal):
    killed = run(home, people[0], fatal)
    assert killed.returncode == -9, killed.stderr
    results = resume(system)
    with begin_snapshot(system.engine) as connection:
        issued = certificates.all_certificates(connection)
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
