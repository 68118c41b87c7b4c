"""Lines whose backbone everybody shaped, from training to certificates, each of the three ways."""

import json
import shutil
from collections.abc import Callable

import pytest

from certs.gaussian import compose
from certs.statement import Certified, Empirical, Exact
from mbd.cohort.cohort import EVERYONE
from mbd.cohort.modality import Modality
from mbd.deletion import noisy_finetuning
from mbd.deletion.noisy_finetuning import NoisyFineTuning
from mbd.errors import TrainingError, UtilityError
from mbd.hashing import sha256_hex
from mbd.records import fsck, models, requests
from mbd.records.database import begin_snapshot
from mbd.records.exposure import models_exposed_to
from mbd.records.suppression import Channel
from mbd.settings import Settings
from mbd.training.recipe import Recipe
from mbd.workflow.leaks import hits_now, needles_before, sweep_deployment
from mbd.workflow.planning import plan_revocation
from mbd.workflow.replay import replay
from mbd.workflow.revocation import resume, revoke, revoke_batch
from mbd.workflow.system import System, open_system
from mbd.workflow.training import train_line

AUDIO, TEXT, VISION = Modality.AUDIO, Modality.TEXT, Modality.VISION
WAYS = {"retrain": Exact, "noisy-fine-tuning": Certified, "surgical": Empirical}
ENTANGLED = Recipe(epochs=2, options={"width": 8, "property_width": 8}, trains_on="everyone")


@pytest.fixture(scope="module")
def trained_entangled(cohort, tmp_path_factory):
    home = tmp_path_factory.mktemp("entangled") / "home"
    with open_system(Settings(home=home), create=True) as system:
        train_line(system, cohort, ENTANGLED, line="main", seed=0)
    return home


@pytest.fixture
def open_as(trained_entangled, tmp_path) -> Callable[[str], System]:
    """``open_as("surgical")``: the deployment with MBD_ENTANGLED set so."""
    shutil.copytree(trained_entangled, tmp_path / "home")

    def opened(way):
        return open_system(Settings(home=tmp_path / "home", entangled=way), create=False)

    return opened


@pytest.fixture(autouse=True)
def _few_finishing_steps(monkeypatch):
    """A workflow takes the default options; here they are quick. What they prove does not depend on it."""

    def quick():
        return NoisyFineTuning(finishing_steps=4, largest_loss=1e9)

    monkeypatch.setattr(noisy_finetuning, "NoisyFineTuning", quick)


def transcript_of(system, version):
    return system.version_folder("main", version) / "transcript.json"


@pytest.mark.parametrize("way", list(WAYS))
def test_a_story_of_each_way(check, open_as, people, tester, way):
    """One person, then another, then somebody whom no training row held: verified, replayed, recorded."""
    with open_as(way) as system:
        for number, person in enumerate(people[:2], start=2):
            (planned,) = plan_revocation(system, frozenset({(person, AUDIO)}))
            (result,) = revoke(system, [(person, AUDIO)])
            predicate = check(system, result).statement.predicate
            assert replay(system, result.bundle.read_bytes()).matched
            assert planned.plan.mechanism == result.outcome.mechanism == predicate.procedure.mechanism == way
            assert isinstance(predicate.guarantee, WAYS[way])
            assert (predicate.lineage.version, predicate.lineage.backbone_provenance) == (number, "entangled")
            assert sha256_hex(transcript_of(system, number).read_bytes()) == predicate.lineage.transcript_digest
            assert not list((system.home / "training").rglob("*.*")), "no checkpoint of those who may leave next"
        before = predicate
        (result,) = revoke(system, [(tester, AUDIO)])
        predicate = check(system, result).statement.predicate
        assert replay(system, result.bundle.read_bytes()).matched
        assert (predicate.procedure.mechanism, type(predicate.guarantee)) == ("lattice-drop", Exact)
        assert predicate.lineage.backbone_digest != before.lineage.backbone_digest, "another salt"
        with begin_snapshot(system.engine) as connection:
            assert fsck.fsck(connection, verify_note=system.keyring.read_checkpoint).ok


def test_transcripts_lie_with_their_version_and_are_gone_with_it(open_as, people):
    with open_as("retrain") as system:
        first = transcript_of(system, 1).read_bytes()
        assert not (system.home / "transcripts").exists(), "that is where public backbones' records lie"
        revoke(system, [(people[0], AUDIO)])
        second = transcript_of(system, 2).read_bytes()
        revoke(system, [(people[1], AUDIO)])
        left = [path.read_bytes() for path in system.home.rglob("*.json")]
        assert first not in left
        assert second not in left
        nonces = {json.loads(body)["nonce"] for body in (first, second, transcript_of(system, 3).read_bytes())}
        assert len(nonces) == 3


def test_the_live_version_keeps_its_transcript_when_the_backbone_stays(open_as, tester):
    """A drop leaves the backbone as it is, and the certificate names the record of how that was made."""
    with open_as("retrain") as system:
        before = transcript_of(system, 1).read_bytes()
        revoke(system, [(tester, AUDIO)])
        assert transcript_of(system, 2).read_bytes() == before


def test_lineage_follows_a_voice_through_the_backbone(open_as, people):
    channel = AUDIO.value
    with open_as("retrain") as system:
        mine, other = (Channel(system.identities.subject_key(person), channel) for person in people[:2])
        with begin_snapshot(system.engine) as connection:
            assert [found.version for found in models_exposed_to(connection, mine)] == [1]
        revoke(system, [(people[0], AUDIO)])
        with begin_snapshot(system.engine) as connection:
            (found,) = models_exposed_to(connection, mine)
            assert (found.version, found.ended_by.version) == (1, 2)
            assert [found.version for found in models_exposed_to(connection, other)] == [1, 2]


def test_lineage_does_not_say_that_a_surgical_update_ended_anything(open_as, people):
    """Nothing is proved of it, and the network goes on from the one that saw the voice: it still descends from it."""
    with open_as("surgical") as system:
        mine = Channel(system.identities.subject_key(people[0]), AUDIO.value)
        revoke(system, [(people[0], AUDIO)])
        with begin_snapshot(system.engine) as connection:
            assert [found.version for found in models_exposed_to(connection, mine)] == [1, 2]


def test_two_lines_trained_alike_share_no_digest(open_as, cohort):
    with open_as("retrain") as system:
        other = train_line(system, cohort, ENTANGLED, line="other", seed=0)
        main = {path.name: path.read_bytes() for path in system.model_folder("main", 1).iterdir()}
        twin = {path.name: path.read_bytes() for path in other.saved.folder.iterdir()}
        assert not {name for name in main if main[name] == twin[name]}
        transcripts = {system.version_folder(line, 1) / "transcript.json" for line in ("main", "other")}
        assert len({path.read_bytes() for path in transcripts}) == 2


def test_every_certified_deletion_of_a_line_is_in_the_series_of_the_next(check, open_as, people):
    """mu_series has one mu for each certified deletion, and mu_total is of all of them."""
    with open_as("noisy-fine-tuning") as system:
        series = []
        for person in people[:3]:
            (planned,) = plan_revocation(system, frozenset({(person, AUDIO)}))
            (result,) = revoke(system, [(person, AUDIO)])
            guarantee = check(system, result).statement.predicate.guarantee
            series.append(guarantee.mu)
            assert guarantee.mu_series == tuple(series)
            assert guarantee.mu_total == pytest.approx(compose(series))
            assert guarantee.total_curve[0].epsilon == planned.plan.budget.after


def test_a_surgical_certificate_has_no_epsilon_and_no_mu(check, open_as, people):
    with open_as("surgical") as system:
        (result,) = revoke(system, [(people[0], AUDIO)])
        predicate = check(system, result).statement.predicate
        words = json.dumps(predicate.guarantee.model_dump(mode="json")).lower()
        assert "epsilon" not in words
        assert '"mu"' not in words
        assert predicate.procedure.fine_tuning is None
        attacks = {measured.attack for measured in predicate.guarantee.report.measurements}
        assert attacks == {"reconstruction-of-audio-before", "reconstruction-of-audio-after"}


def test_beyond_the_utility_limit_the_request_waits_and_another_way_finishes_it(check, open_as, people, monkeypatch):
    monkeypatch.setattr(
        noisy_finetuning, "NoisyFineTuning", lambda: NoisyFineTuning(finishing_steps=0, largest_loss=0.0)
    )
    with open_as("noisy-fine-tuning") as system:
        files = {p: p.read_bytes() for p in system.version_folder("main", 1).rglob("*") if p.is_file()}
        with pytest.raises(UtilityError, match="No model was released"):
            revoke(system, [(people[0], AUDIO)])
        assert files == {p: p.read_bytes() for p in (system.home / "lines").rglob("*") if p.is_file()}
        assert system.suppressed()(people[0], AUDIO)
    with open_system(Settings(home=system.home, entangled="retrain"), create=False) as system:
        (result,) = resume(system)
        assert isinstance(check(system, result).statement.predicate.guarantee, Exact)


def test_a_refused_attempt_is_paid_for(check, open_as, people, monkeypatch):
    """A refusal is a number of noisy weights. Asked again it is the same draw; with somebody else it is another one."""
    limits = iter([0.0, 0.0, 1e9])
    monkeypatch.setattr(
        noisy_finetuning, "NoisyFineTuning", lambda: NoisyFineTuning(finishing_steps=0, largest_loss=next(limits))
    )
    with open_as("noisy-fine-tuning") as system:
        for ask in (lambda: revoke(system, [(people[0], AUDIO)]), lambda: resume(system)):
            with pytest.raises(UtilityError):
                ask()
        with begin_snapshot(system.engine) as connection:
            (charged,) = models.mu_series(connection, "main")
        assert charged.version == 1
        (result,) = revoke(system, [(people[1], AUDIO)])
        guarantee = check(system, result).statement.predicate.guarantee
        assert guarantee.mu_series == (charged.mu, guarantee.mu)
        assert guarantee.mu_total == pytest.approx(compose([charged.mu, guarantee.mu]))


def test_what_a_killed_training_of_everyones_rows_left_goes_with_the_next_deletion(open_as, cohort, people):
    def killed(stage, done, about):
        if stage == "backbone" and done >= 0.5:
            raise Killed

    with open_as("retrain") as system:
        with pytest.raises(Killed):
            train_line(system, cohort, ENTANGLED, line="second", seed=0, on_progress=killed)
        assert list(system.home.rglob("training*/second/*.checkpoint"))
        revoke(system, [(people[0], AUDIO)])
        assert not list(system.home.rglob("*.checkpoint"))


def test_after_a_modality_left_for_everyone_a_person_without_training_rows_costs_nothing(open_as, tester):
    with open_as("retrain") as system:
        revoke(system, [(EVERYONE, AUDIO)])
        (planned,) = plan_revocation(system, frozenset({(tester, TEXT)}))
        assert (planned.plan.mechanism, planned.plan.rows_touched) == ("lattice-drop", 0)


class Killed(BaseException):
    """Stands for the death of the process: nothing catches it."""


def kill_in_training(step):
    if step.startswith("training again, epoch 1"):
        raise Killed


def test_a_killed_retraining_is_finished_with_the_bits_of_an_undisturbed_one(check, open_as, people):
    with open_as("retrain") as system:
        with pytest.raises(Killed):
            revoke(system, [(people[0], AUDIO)], on_step=kill_in_training)
        assert list((system.home / "training").rglob("*.checkpoint"))
        steps = []
        (result,) = resume(system, on_step=steps.append)
        assert [step for step in steps if step.startswith("training again")] == ["training again, epoch 2 of at most 2"]
        check(system, result)
        assert not list((system.home / "training").rglob("*.*"))


def test_requests_that_come_after_a_killed_batch_do_not_strand_it(check, open_as, people):
    """Two were being carried out together when the process died; a third one comes. All three must get done."""
    with open_as("retrain") as system:
        with pytest.raises(Killed):
            revoke_batch(system, [[(people[0], AUDIO)], [(people[1], AUDIO)]], on_step=kill_in_training)
        (third,) = revoke(system, [(people[2], AUDIO)])
        check(system, third)
        with begin_snapshot(system.engine) as connection:
            assert requests.unfinished(connection) == ()
        assert not list((system.home / "training").rglob("*.*"))


def test_a_killed_retraining_leaves_no_checkpoint_when_another_way_finishes_it(check, open_as, people):
    with open_as("retrain") as system, pytest.raises(Killed):
        revoke(system, [(people[0], AUDIO)], on_step=kill_in_training)
    with open_system(Settings(home=system.home, entangled="surgical"), create=False) as system:
        (result,) = resume(system)
        check(system, result)
        assert not list((system.home / "training").rglob("*.*"))


def test_a_damaged_backbone_is_refused(open_as, people):
    with open_as("retrain") as system:
        path = system.model_folder("main", 1) / "backbone.safetensors"
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(TrainingError, match=r"backbone\.safetensors"):
            revoke(system, [(people[0], AUDIO)])


def test_the_digest_of_rows_that_shaped_a_network_goes_with_it(open_as, people):
    with open_as("retrain") as system:
        pairs = frozenset({(people[0], AUDIO)})
        needles = needles_before(system, pairs)
        before = hits_now(system, needles)
        digest = "the digest in a transcript"
        assert [hit.form for hit in before].count(digest) == 1
        revoke(system, pairs)
        report = sweep_deployment(system, needles, before=before)
        assert report.verdict == "held"
        assert digest in report.details["forms_before"]


def test_the_digest_of_a_network_that_stays_is_not_looked_for(open_as, tester):
    with open_as("retrain") as system:
        needles = needles_before(system, frozenset({(tester, AUDIO)}))
        assert needles
        assert "the digest in a transcript" not in {needle.form for needle in needles}
