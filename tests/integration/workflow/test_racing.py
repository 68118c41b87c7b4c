"""Several processes delete from one model line at once: each in its turn, nothing lost, no version twice."""

import subprocess
import sys

from certs.verification import verify
from mbd.cohort import folder
from mbd.cohort.modality import Modality
from mbd.lattice.fit import training_rows
from mbd.lattice.model import load_model
from mbd.records import certificates, fsck, models
from mbd.records.database import begin_snapshot
from mbd.workflow.office import utc_now

SCRIPT = """
import sys, time
from pathlib import Path
from mbd.cohort.modality import Modality
from mbd.errors import SettingsError
from mbd.settings import Settings
from mbd.workflow.revocation import revoke
from mbd.workflow.system import open_system

home, *people = sys.argv[1:]
refused = 0
with open_system(Settings(home=Path(home)), create=False) as system:
    print("ready", flush=True)
    sys.stdin.readline()
    for person in people:
        while True:
            try:
                revoke(system, [(person, Modality.AUDIO)])
                break
            except SettingsError as error:
                assert "wait for it to end" in error.remedy, error
                refused += 1
                time.sleep(0.02)
print(refused, flush=True)
"""


def test_two_processes_delete_from_one_line_in_turn_and_lose_nothing(system, home, people):
    shares = [people[:2], people[2:4]]
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(home), *share], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for share in shares
    ]
    try:
        for racer in racers:
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            racer.stdin.write("go\n")
            racer.stdin.flush()
        refused = [int(racer.communicate(timeout=120)[0]) for racer in racers]
    finally:
        for racer in racers:
            racer.kill()
            racer.wait()
    assert [racer.returncode for racer in racers] == [0, 0]
    assert sum(refused) > 0, "they never met: nothing was tested"
    with begin_snapshot(system.engine) as connection:
        issued = certificates.current(connection)
        versions = models.versions(connection, "main")
        assert fsck.fsck(connection, verify_note=system.keyring.read_checkpoint).ok
    assert sorted(one.version for one in issued) == [2, 3, 4, 5]
    assert [(one.version, one.parent_version) for one in versions] == [(1, None), (2, 1), (3, 2), (4, 3), (5, 4)]
    for one in issued:
        verify(one.bundle.encode(), system.trusted_root_path.read_bytes(), at=utc_now())
    rows = folder.read(system.cohort_folder("main", 5))
    model = load_model(system.model_folder("main", 5))
    assert model.featurizer.statistics(training_rows(rows)) == model.statistics
    withdrawn = {person for share in shares for person in share}
    assert not any(row.subject in withdrawn and Modality.AUDIO in rows.present(i) for i, row in enumerate(rows.rows))
