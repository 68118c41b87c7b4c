"""Keys take over from keys, in good order and after a theft; certificates are revoked and replaced."""

from datetime import timedelta

import pytest
from pydantic import SecretStr

from certs import bundle as bundles
from certs import checkpoint as checkpoints
from certs import dsse
from certs import notice as wire
from certs.errors import Code, VerificationError
from certs.merkle import leaf_hash
from certs.notice import KeyCompromised, KeySucceeded, Reason
from certs.vectors.make_stamped import tile_files
from certs.verification import verify
from mbd.cohort.modality import Modality
from mbd.errors import RecordsError, SettingsError
from mbd.records import certificates, fsck, ledger, notices
from mbd.records.database import begin_snapshot
from mbd.settings import Settings
from mbd.workflow import rotation
from mbd.workflow.issuance import publish_certificate
from mbd.workflow.keyring import key_path
from mbd.workflow.log import sign_checkpoint
from mbd.workflow.notices import reissue, revoke_certificate
from mbd.workflow.office import utc_now
from mbd.workflow.revocation import revoke
from mbd.workflow.rotation import compromised, renew, rotate
from mbd.workflow.system import open_system

AUDIO = Modality.AUDIO
DAY = timedelta(days=1)


@pytest.fixture
def later(home):
    """``later(days)``: the deployment, opened so many days from now."""
    opened = []

    def reopen(days, **settings):
        now = utc_now() + days * DAY
        context = open_system(Settings(home=home, **settings), create=False, clock=lambda: now)
        opened.append(context)
        return context.__enter__()

    yield reopen
    for context in reversed(opened):
        context.__exit__(None, None, None)


def root_of(system):
    return system.trusted_root_path.read_bytes()


def checked(system, result, root=None, **more):
    return verify(result.bundle.read_bytes(), root or root_of(system), at=system.clock(), **more)


def signed_by(system):
    """Which keys signed the newest checkpoint."""
    keys = [log.key for log in system.keyring.trusted.logs]
    return [key.key.key_id for key in checkpoints.verify(sign_checkpoint(system).note, keys)[1]]


def log_copy(system):
    """A copy of the deployment's log."""
    note = sign_checkpoint(system).note
    with begin_snapshot(system.engine) as connection:
        leaves = [ledger.leaf(connection, index) for index in range(ledger.head(connection).size)]
    return {"checkpoint": note.encode(), **dict(tile_files(leaves))}.get


def said(system):
    """Every notice of the log, each signed by a trusted key."""
    with begin_snapshot(system.engine) as connection:
        entries = [wire.read(ledger.leaf(connection, known.leaf_index)) for known in notices.all_notices(connection)]
    for _, envelope in entries:
        dsse.verify(envelope, system.keyring.trusted.signer_by_id(envelope.signature.keyid).key)
    return [(predicate.notice, envelope.signature.keyid) for predicate, envelope in entries]


def test_certificates_change_keys_after_an_overlap_and_old_ones_stay_valid(later, people):
    old_root = root_of(later(0))
    (before,) = revoke(later(0), [(people[0], AUDIO)])
    done = rotate(later(1), "certificate", overlap=30 * DAY)
    (within,) = revoke(later(2), [(people[1], AUDIO)])
    (after,) = revoke(later(40), [(people[2], AUDIO)])
    now = later(50)
    keys = [checked(now, result).key_id for result in (before, within, after)]
    assert keys == [done.old_key, done.old_key, done.new_key]
    assert checked(later(2), within, old_root).key_id == done.old_key
    with pytest.raises(VerificationError) as failure:
        checked(now, after, old_root)
    assert failure.value.code is Code.KEY_UNKNOWN
    assert said(now) == [(KeySucceeded(role="certificate", old_key=done.old_key, new_key=done.new_key), done.old_key)]


def test_the_log_signs_with_both_keys_in_the_overlap(later, people):
    old_root = root_of(later(0))
    done = rotate(later(0), "log", overlap=10 * DAY)
    within = later(1)
    (result,) = revoke(within, [(people[0], AUDIO)])
    assert signed_by(within) == [done.old_key, done.new_key]
    checked(within, result, old_root)
    after = later(11)
    (last,) = revoke(after, [(people[1], AUDIO)])
    assert signed_by(after) == [done.new_key]
    checked(after, result)
    checked(after, last)
    with pytest.raises(VerificationError) as failure:
        checked(after, last, old_root)
    assert failure.value.code is Code.LOG_UNKNOWN
    with begin_snapshot(after.engine) as connection:
        assert fsck.fsck(connection, verify_note=after.keyring.read_checkpoint).ok


def test_an_old_private_key_is_destroyed_by_the_next_rotation_after_its_end(later):
    first = rotate(later(0), "certificate", overlap=5 * DAY)
    with pytest.raises(SettingsError, match="overlap until"):
        rotate(later(1), "certificate", overlap=DAY)
    assert key_path(later(0).home, "certificate", first.old_key).exists()
    now = later(6)
    second = rotate(now, "certificate", overlap=timedelta(0))
    assert second.old_key == first.new_key
    assert not key_path(now.home, "certificate", first.old_key).exists()
    assert len(now.with_current_keys().keyring.trusted.signers) == 3


@pytest.mark.parametrize("dies_in", ["add_key", "log_notice", "sign_checkpoint", "_publish"])
def test_a_rotation_that_dies_is_taken_up_and_said_once(dies_in, later, monkeypatch):
    class DiedError(Exception):
        pass

    original = getattr(rotation, dies_in)

    def die(*arguments, **named):
        if dies_in in {"add_key", "log_notice"}:
            original(*arguments, **named)
        raise DiedError

    with monkeypatch.context() as patched:
        patched.setattr(rotation, dies_in, die)
        with pytest.raises(DiedError):
            rotate(later(0), "log", overlap=DAY)
    made = sorted((later(0).home / "keys").glob("log-*.pem"))
    assert len(made) == 2
    done = rotate(later(0), "log", overlap=DAY)
    assert sorted((later(0).home / "keys").glob("log-*.pem")) == made
    now = later(0)
    assert said(now) == [(KeySucceeded(role="log", old_key=done.old_key, new_key=done.new_key), said(now)[0][1])]


def test_after_a_theft_what_nobody_can_rely_on_is_issued_anew(later, people):
    (before,) = revoke(later(0), [(people[0], AUDIO)])
    (doubtful,) = revoke(later(5), [(people[1], AUDIO)])
    stolen = later(0).keyring.certificate.key_id
    thief = later(6)
    done = compromised(thief, stolen, since=thief.clock() - 3 * DAY)
    assert done.old_key == stolen
    fresh = thief.with_current_keys()
    assert fresh.keyring.certificate.key_id == done.new_key
    assert not key_path(fresh.home, "certificate", stolen).exists()
    (new,) = renew(fresh, stolen)
    assert renew(fresh, stolen) == []
    copy = log_copy(fresh)
    assert checked(fresh, before, logs=[copy]).key_id == stolen
    with pytest.raises(VerificationError) as failure:
        checked(fresh, doubtful)
    assert failure.value.code is Code.KEY_NOT_VALID
    renewed = (fresh.certificate_folder(new.id) / "mdc.sigstore.json").read_bytes()
    verified = verify(renewed, root_of(fresh), at=fresh.clock(), logs=[copy])
    assert verified.key_id == done.new_key
    old_leaf = bundles.parse(doubtful.bundle.read_bytes()).entry.canonicalized_body
    assert verified.statement.predicate.supersedes == leaf_hash(old_leaf).hex()
    kinds = [notice.kind for notice, _ in said(fresh)]
    assert kinds == ["key-succeeded", "key-compromised", "certificate-revoked"]


def test_a_theft_that_is_reported_twice_is_said_once(later):
    system = later(3)
    stolen = system.keyring.certificate.key_id
    compromised(system, stolen, since=system.clock() - DAY)
    again = system.with_current_keys()
    assert compromised(again, stolen, since=system.clock() - 2 * DAY) is None
    assert [notice.kind for notice, _ in said(again)] == ["key-succeeded", "key-compromised"]
    window = again.with_current_keys().keyring.trusted.signer_by_id(stolen).valid_for
    assert window.end == system.clock() - 2 * DAY


def test_a_stolen_log_key_signs_nothing_more_and_says_so(later, people):
    (result,) = revoke(later(0), [(people[0], AUDIO)])
    system = later(2)
    stolen = system.keyring.note_key.key.key_id
    done = compromised(system, stolen, since=system.clock() - DAY)
    fresh = system.with_current_keys()
    assert signed_by(fresh) == [done.new_key]
    assert checked(fresh, result, logs=[log_copy(fresh)]).tree_size > 2
    (theft,) = [notice for notice, _ in said(fresh) if isinstance(notice, KeyCompromised)]
    assert theft.key == stolen


def test_an_unknown_key_and_a_time_ahead_are_refused(later):
    system = later(0)
    with pytest.raises(SettingsError, match="no key"):
        compromised(system, "a" * 64, since=system.clock())
    with pytest.raises(SettingsError, match="future"):
        compromised(system, system.keyring.certificate.key_id, since=system.clock() + DAY)
    with pytest.raises(SettingsError, match="not negative"):
        rotate(system, "log", overlap=-DAY)
    assert said(system) == []


def test_encrypted_keys_are_rotated_encrypted(tmp_path):
    settings = Settings(home=tmp_path / "home", key_passphrase=SecretStr("correct horse"))
    with open_system(settings, create=True) as system:
        done = rotate(system, "certificate", overlap=DAY)
    assert b"ENCRYPTED" in key_path(tmp_path / "home", "certificate", done.new_key).read_bytes()


def test_a_revoked_certificate_is_refused_by_whoever_has_a_copy_of_the_log(system, people):
    (result,) = revoke(system, [(people[0], AUDIO)])
    assert checked(system, result, logs=[log_copy(system)])
    notice = revoke_certificate(system, result.certificate, Reason.ISSUED_IN_ERROR)
    assert revoke_certificate(system, result.certificate, Reason.CLAIM_WITHDRAWN) == notice
    with pytest.raises(VerificationError, match="issued-in-error") as failure:
        checked(system, result, logs=[log_copy(system)])
    assert failure.value.code is Code.CERTIFICATE_REVOKED
    with pytest.raises(RecordsError, match="was revoked"):
        reissue(system, result.certificate)
    with pytest.raises(RecordsError, match="reissue"):
        revoke_certificate(system, result.certificate, Reason.SUPERSEDED)
    with pytest.raises(RecordsError, match="no certificate"):
        revoke_certificate(system, "mdc-none", Reason.ISSUED_IN_ERROR)


def test_a_certificate_is_superseded_once(system, people):
    (result,) = revoke(system, [(people[0], AUDIO)])
    new = reissue(system, result.certificate)
    publish_certificate(system, new)
    with pytest.raises(RecordsError, match="superseded already"):
        reissue(system, result.certificate)
    with begin_snapshot(system.engine) as connection:
        assert certificates.current(connection) == (certificates.get(connection, new.id),)
        assert certificates.get(connection, result.certificate).superseded_by == new.id
        assert certificates.find(connection, new.revocation_id, "main").id == new.id
        (step,) = certificates.certificates_between(connection, "main", 1, 2)
        assert [certificate.id for certificate in step.certificates] == [new.id]
    again = reissue(system, new.id)
    assert again.superseded_by is None


def test_an_absence_is_reissued_too(home, people):
    with open_system(Settings(home=home, certify_absence=True), create=False) as system:
        (result,) = revoke(system, [("nobody of that name", AUDIO)])
        new = reissue(system, result.certificate)
        folder = publish_certificate(system, new)
        verified = verify((folder / "mdc.sigstore.json").read_bytes(), root_of(system), at=system.clock())
    assert verified.statement.predicate.supersedes is not None
