import dataclasses
import json

import pytest

from certs.errors import VerificationError
from mbd.cohort.cohort import EVERYONE
from mbd.cohort.modality import Modality
from mbd.errors import DeletionError
from mbd.privacy.noise import NoiseSource
from mbd.workflow.replay import replay
from mbd.workflow.revocation import revoke

AUDIO = Modality.AUDIO


def names(result, *, matched):
    return {check.name for check in result.checks if check.matched is matched}


def test_everything_matches_on_the_deployment_that_issued_it(system, people):
    (result,) = revoke(system, [(people[0], AUDIO)])
    replayed = replay(system, result.bundle.read_bytes())
    assert replayed.matched
    assert names(replayed, matched=True) == {
        "model files",
        "manifest of D'",
        "statistics of D'",
        "list of heads",
        "sigma",
        "noise commitment",
        "noise contexts",
        *(f"residual of head {head}" for head in ("t", "a", "v", "ta", "tv", "av", "tav")),
    }


def test_a_dropped_modality_replays_without_noise(system):
    (result,) = revoke(system, [(EVERYONE, AUDIO)])
    assert names(replay(system, result.bundle.read_bytes()), matched=True) == {
        "model files",
        "manifest of D'",
        "statistics of D'",
        "list of heads",
        "sigma",
        *(f"residual of head {head}" for head in ("t", "v", "tv")),
    }


def test_with_another_secret_the_residual_shows_it(system, people):
    (result,) = revoke(system, [(people[0], AUDIO)])
    keyring = dataclasses.replace(system.keyring, noise=NoiseSource(b"x" * 32))
    replayed = replay(dataclasses.replace(system, keyring=keyring), result.bundle.read_bytes())
    assert "noise commitment" in names(replayed, matched=False)
    assert "residual of head a" in names(replayed, matched=False)


def test_a_row_that_came_back_is_noticed(system, people, cohort):
    """Someone puts the withdrawn channel back into the cohort folder, with a manifest that fits."""
    from mbd.cohort import folder

    (result,) = revoke(system, [(people[0], AUDIO)])
    where = system.cohort_folder("main", 2)
    key = bytes.fromhex(json.loads((where / "manifest.json").read_text())["merkle"]["key"])
    import shutil

    shutil.rmtree(where)
    folder.write(cohort, where, key=key)
    replayed = replay(system, result.bundle.read_bytes())
    assert {"manifest of D'", "statistics of D'"} <= names(replayed, matched=False)


def test_only_the_live_version_can_be_replayed(system, people):
    (first,) = revoke(system, [(people[0], AUDIO)])
    revoke(system, [(people[1], AUDIO)])
    with pytest.raises(DeletionError, match="version 3 is live"):
        replay(system, first.bundle.read_bytes())


def test_an_invalid_certificate_is_not_replayed(system, people):
    (result,) = revoke(system, [(people[0], AUDIO)])
    bundle = result.bundle.read_bytes()
    with pytest.raises(VerificationError):
        replay(system, bundle[:-1])


def test_a_noise_commitment_is_no_deletion(system):
    bundle = (system.home / "published" / "noise-commitment.sigstore.json").read_bytes()
    with pytest.raises(DeletionError, match="noise commitment"):
        replay(system, bundle)


def test_a_head_that_was_secretly_left_as_it_was_is_found(system, people, monkeypatch):
    """An operator's engine forgets one head; files, digests and signature all fit, and the residual still tells."""
    from mbd.cohort.modality import parse_pattern
    from mbd.deletion import engine

    honest = engine.delete

    def lazy(model, *args, **kwargs):
        outcome = honest(model, *args, **kwargs)
        pattern = parse_pattern("tav")
        heads = {**outcome.model.heads, pattern: model.heads[pattern]}
        return dataclasses.replace(outcome, model=dataclasses.replace(outcome.model, heads=heads))

    monkeypatch.setattr(engine, "delete", lazy)
    (result,) = revoke(system, [(people[0], AUDIO)])
    replayed = replay(system, result.bundle.read_bytes())
    assert names(replayed, matched=False) == {"noise contexts", "residual of head tav"}


def test_a_head_whose_noise_is_bound_to_another_occasion_is_found(system, people, monkeypatch):
    from mbd.deletion import engine

    honest = engine.delete
    monkeypatch.setattr(engine, "delete", lambda *args, **kw: honest(*args, **{**kw, "occasion": "main/1"}))
    (result,) = revoke(system, [(people[0], AUDIO)])
    assert names(replay(system, result.bundle.read_bytes()), matched=False) == {"noise contexts"}
