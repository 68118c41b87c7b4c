"""Deletions under a witness policy: they are done at once, and only their certificates wait for the quorum."""

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from certs import bundle as bundles
from certs.note import NoteKey
from certs.policy import NONE, Policy, PolicyGroup, PolicyLog, PolicyWitness, build_policy
from certs.proof import parse as parse_proof
from mbd.cohort.modality import Modality
from mbd.errors import ForkAlarmError, WitnessError
from mbd.records import certificates, requests
from mbd.records.database import begin_snapshot
from mbd.settings import Settings
from mbd.workflow import log
from mbd.workflow.revocation import resume, revoke, revoke_batch
from mbd.workflow.system import open_system

AUDIO, TEXT = Modality.AUDIO, Modality.TEXT


@dataclass(frozen=True)
class Site:
    """Deployments of one log, and witnesses that know it.

    Attributes:
        folder: of all of them.
        home: of the deployment that `open` opens.
        key: of the log.
    """

    folder: Path
    home: Path
    key: NoteKey
    start: Callable[..., Any]
    opened: ExitStack

    def serve(self, name, **more):
        """Start a witness."""
        return self.start(self.folder / name, self.key, **more)

    def again(self, witness):
        """Start one that was stopped, at the same address."""
        return self.serve(witness.keys[0].name.rpartition("/")[2], port=int(witness.url.rpartition(":")[2]))

    def open(self, *witnesses, home=None, quorum="all"):
        """A deployment whose certificates all of these witnesses must cosign, or none; and its policy."""
        listed = tuple(PolicyWitness(f"w{n}", each.keys[0], each.url) for n, each in enumerate(witnesses))
        group = PolicyGroup("g", len(listed), tuple(witness.name for witness in listed))
        policy = Policy((PolicyLog(self.key),), listed, (group,), "g" if quorum == "all" else NONE)
        path = self.folder / "policy"
        path.write_bytes(build_policy(policy))
        settings = Settings(home=home or self.home, witness_policy=path)
        return self.opened.enter_context(open_system(settings, create=False)), policy


@pytest.fixture
def site(tmp_path, home, serve_witness):
    with open_system(Settings(home=home), create=False) as system:
        key = system.keyring.note_key
    with ExitStack() as opened:
        yield Site(tmp_path, home, key, serve_witness, opened)


def issued(system):
    with begin_snapshot(system.engine) as connection:
        return certificates.current(connection), requests.unfinished(connection)


def test_a_certificate_carries_the_cosignatures_that_the_policy_asks_for(site, people, check):
    system, policy = site.open(site.serve("w1"), site.serve("w2"))
    (result,) = revoke(system, [(people[0], AUDIO)])
    note = bundles.parse(result.bundle.read_bytes()).entry.inclusion_proof.checkpoint.envelope
    checkpoint, logs, witnesses = policy.check(note)
    assert (checkpoint.size, logs) == (2, (site.key,))
    assert [key.name for key in witnesses] == ["witness.example/w1", "witness.example/w2"]
    assert parse_proof((result.folder / "mdc.tlog-proof").read_text("utf-8")).checkpoint == note
    assert check(system, result).tree_size == 2


def test_without_the_quorum_the_deletion_is_done_and_the_certificate_waits(site, people, check):
    witness = site.serve("w1")
    system, policy = site.open(witness)
    witness.stop()
    with pytest.raises(WitnessError, match="cannot be reached"):
        revoke(system, [(people[0], AUDIO)])
    (certificate,), (unfinished,) = issued(system)
    assert (certificate.bundle, unfinished.id) == (None, certificate.revocation_id)
    assert not (system.certificate_folder(certificate.id) / "mdc.sigstore.json").exists()
    assert system.live("main").version == 2
    assert not system.version_folder("main", 1).exists()
    with pytest.raises(WitnessError):
        resume(system)
    assert issued(system)[0] == (certificate,)
    site.again(witness)
    (result,) = resume(system)
    assert result.certificate == certificate.id
    policy.check(bundles.parse(result.bundle.read_bytes()).entry.inclusion_proof.checkpoint.envelope)
    assert check(system, result).leaf_index == certificate.leaf_index
    assert issued(system)[1] == ()
    assert resume(system) == []


def test_no_line_and_no_request_waits_for_the_certificate_of_another(site, two_lines_home, people, monkeypatch):
    home = shutil.copytree(two_lines_home, site.folder / "two-lines")  # a copy of the same deployment, with its keys
    witness = site.serve("w1")
    system, _ = site.open(witness, home=home)
    witness.stop()
    rounds = []
    monkeypatch.setattr(log, "collect", lambda *given, real=log.collect: (rounds.append(1), real(*given))[1])
    with pytest.raises(WitnessError):
        revoke_batch(system, [[(people[2], AUDIO)], [(people[3], TEXT)]])
    assert (system.live("main").version, system.live("second").version) == (2, 2)
    assert [certificate.bundle for certificate in issued(system)[0]] == [None] * 4
    assert len(rounds) == 1  # they all wait for the same witnesses, which are not asked again for each
    site.again(witness)
    assert len(resume(system)) == 4
    assert issued(system)[1] == ()


def test_a_log_that_was_rolled_back_issues_nothing(site, people):
    shutil.copytree(site.home, site.folder / "backup")
    witness = site.serve("w1")
    system, _ = site.open(witness)
    for person in people[:2]:
        revoke(system, [(person, AUDIO)])
    restored, _ = site.open(witness, home=site.folder / "backup")
    with pytest.raises(ForkAlarmError, match="rolled back"):
        revoke(restored, [(people[2], AUDIO)])
    (certificate,), (unfinished,) = issued(restored)
    assert (certificate.bundle, certificate.revocation_id) == (None, unfinished.id)


def test_with_no_quorum_a_deletion_waits_for_nobody(site, people):
    witness = site.serve("w1")
    witness.stop()
    system, policy = site.open(witness, quorum="none")
    (result,) = revoke(system, [(people[0], AUDIO)])
    assert policy.check(bundles.parse(result.bundle.read_bytes()).entry.inclusion_proof.checkpoint.envelope)[2] == ()
