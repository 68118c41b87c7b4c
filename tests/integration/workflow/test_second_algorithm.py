"""A deployment whose log signs with ML-DSA-44 as well, and the policy that it publishes."""

import pytest

from certs import policy as policies
from certs.checkpoint import verify as verify_note
from certs.errors import Code, VerificationError
from certs.note import SignatureType
from certs.verification import verify
from mbd.records import fsck
from mbd.records.database import begin_snapshot
from mbd.settings import Settings
from mbd.workflow.log import commit_to_noise, sign_checkpoint
from mbd.workflow.office import utc_now
from mbd.workflow.system import open_system


@pytest.fixture
def deployed(tmp_path):
    with open_system(Settings(home=tmp_path / "home", ml_dsa_checkpoints=True), create=True) as system:
        commit_to_noise(system)
        yield system


def noise_commitment(system):
    return (system.home / "published" / "noise-commitment.sigstore.json").read_bytes()


def test_both_signatures_stand_under_a_checkpoint_and_clients_may_know_either(deployed):
    note = sign_checkpoint(deployed).note
    first, second = deployed.keyring.log_keys
    assert (first.type, second.type) == (SignatureType.LOG, SignatureType.COSIGNATURE_ML_DSA_44)
    for known in ([first], [second], [first, second]):
        assert list(verify_note(note, known)[1]) == known
    with begin_snapshot(deployed.engine) as connection:
        assert fsck.fsck(connection, verify_note=deployed.keyring.read_checkpoint).ok


def test_the_published_policy_demands_the_second_signature(deployed, tmp_path):
    policy = (deployed.home / "published" / "tlog-policy").read_bytes()
    root = deployed.trusted_root_path.read_bytes()
    bundle = noise_commitment(deployed)
    verified = verify(bundle, root, at=utc_now(), policy=policy)
    assert deployed.keyring.origin in verified.steps[4].detail
    with open_system(Settings(home=tmp_path / "plain"), create=True) as plain:
        commit_to_noise(plain)
        own = (plain.home / "published" / "tlog-policy").read_bytes()
        assert policies.parse(own).quorum == policies.NONE
        assert verify(noise_commitment(plain), plain.trusted_root_path.read_bytes(), at=utc_now(), policy=own)
        with pytest.raises(VerificationError) as failure:
            verify(noise_commitment(plain), plain.trusted_root_path.read_bytes(), at=utc_now(), policy=policy)
    assert failure.value.code is Code.CHECKPOINT_SIGNATURE_INVALID


def test_a_deployment_opens_again_with_its_second_key(deployed):
    with open_system(Settings(home=deployed.home), create=False) as again:
        assert again.keyring.ml_dsa_key == deployed.keyring.ml_dsa_key
