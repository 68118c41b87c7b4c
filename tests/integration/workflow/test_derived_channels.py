"""A transcript made from a voice: whether it falls with the voice is the cohort's policy."""

import dataclasses

import pytest

from certs.statement import Exact
from mbd.cohort import folder
from mbd.cohort.cohort import EVERYONE
from mbd.cohort.modality import Modality
from mbd.errors import ChannelSuppressedError
from mbd.settings import Settings
from mbd.workflow.revocation import revoke
from mbd.workflow.system import open_system
from mbd.workflow.training import train_line

AUDIO, TEXT, VISION = Modality.AUDIO, Modality.TEXT, Modality.VISION


def test_what_falls_with_a_channel_is_suppressed_with_it(check, tmp_path, cohort, people, recipe):
    """A transcript that follows the voice is refused later even where it is declared to stand on its own."""
    text = dataclasses.replace(cohort.channels[TEXT], derived_from=(AUDIO,), consent="follows")
    following = dataclasses.replace(cohort, channels={**cohort.channels, TEXT: text})
    with open_system(Settings(home=tmp_path / "home"), create=True) as system:
        train_line(system, following, recipe, line="main", seed=0)
        (result,) = revoke(system, [(people[0], AUDIO)])
        predicate = check(system, result).statement.predicate
        assert {proof.modality for proof in predicate.dataset.absence} == {"audio", "text"}
        assert system.suppressed()(people[0], TEXT)
        assert not system.suppressed()(people[0], VISION)
        with pytest.raises(ChannelSuppressedError):
            train_line(system, cohort, recipe, line="again", seed=0)


def test_text_that_follows_a_voice_whose_modality_everyone_dropped(check, tmp_path, cohort, tester, recipe):
    """Heads with text are gone already when a tester's voice, and the text with it, is withdrawn."""
    text = dataclasses.replace(cohort.channels[TEXT], derived_from=(AUDIO,), consent="follows")
    following = dataclasses.replace(cohort, channels={**cohort.channels, TEXT: text})
    with open_system(Settings(home=tmp_path / "home"), create=True) as system:
        train_line(system, following, recipe, line="main", seed=0)
        revoke(system, [(EVERYONE, TEXT)])
        (result,) = revoke(system, [(tester, AUDIO)])
        assert isinstance(check(system, result).statement.predicate.guarantee, Exact)


def test_where_lines_differ_each_keeps_its_own_policy_on_derived_text(tmp_path, cohort, people, recipe):
    text = dataclasses.replace(cohort.channels[TEXT], derived_from=(AUDIO,), consent="follows")
    following = dataclasses.replace(cohort, channels={**cohort.channels, TEXT: text})
    with open_system(Settings(home=tmp_path / "home"), create=True) as system:
        train_line(system, following, recipe, line="follows", seed=0)
        train_line(system, cohort, recipe, line="independent", seed=0)
        results = revoke(system, [(people[0], AUDIO)])
        assert [r.line for r in results] == ["follows", "independent"]
        assert system.suppressed()(people[0], AUDIO)
        assert not system.suppressed()(people[0], TEXT)
        rows = {r.line: folder.read(system.cohort_folder(r.line, r.version)).where(subject=people[0]) for r in results}
        assert not any(TEXT in rows["follows"].present(i) for i in range(len(rows["follows"])))
        assert any(TEXT in rows["independent"].present(i) for i in range(len(rows["independent"])))
