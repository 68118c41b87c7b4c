from dataclasses import replace

import pytest

from mbd.cohort.cohort import Partition
from mbd.cohort.modality import Modality
from mbd.cohort.suppression import drop_suppressed, refuse_suppressed
from mbd.errors import ChannelSuppressedError


def withdrawn(*pairs):
    return lambda subject, modality: (subject, modality) in pairs


VOICE_OF_CEM = withdrawn(("cem", Modality.AUDIO))


def test_a_cohort_with_a_suppressed_channel_is_refused_without_naming_anybody(small):
    with pytest.raises(ChannelSuppressedError, match="holds audio of 1 subject who withdrew it") as caught:
        refuse_suppressed(small, VOICE_OF_CEM)
    assert "cem" not in str(caught.value)
    assert "--drop-suppressed" in caught.value.remedy


def test_a_modality_that_everyone_withdrew_is_refused_with_the_number_of_subjects(small):
    with pytest.raises(ChannelSuppressedError, match="holds audio of 4 subjects"):
        refuse_suppressed(small, lambda _subject, modality: modality is Modality.AUDIO)


def test_what_is_not_there_is_no_reason_to_refuse(small):
    refuse_suppressed(small, withdrawn(("dan", Modality.AUDIO), ("zoe", Modality.TEXT)))
    refuse_suppressed(small.revoke([("cem", Modality.AUDIO)]), VOICE_OF_CEM)


def test_a_suppressed_channel_is_made_absent_on_request(small, same):
    dropped = drop_suppressed(small, VOICE_OF_CEM)
    refuse_suppressed(dropped, VOICE_OF_CEM)
    assert same(dropped, small.revoke([("cem", Modality.AUDIO)]))


def test_declaring_somebody_public_does_not_bring_a_withdrawn_channel_back(small):
    moved = replace(
        small,
        rows=tuple(replace(r, partition=Partition.PUBLIC) if r.subject == "cem" else r for r in small.rows),
    )
    with pytest.raises(ChannelSuppressedError):
        refuse_suppressed(moved, VOICE_OF_CEM)
    refuse_suppressed(drop_suppressed(moved, VOICE_OF_CEM), VOICE_OF_CEM)


def test_a_transcript_that_follows_a_suppressed_voice_is_refused(small):
    text = replace(small.channels[Modality.TEXT], derived_from=(Modality.AUDIO,), consent="follows")
    follows = replace(small, channels={**small.channels, Modality.TEXT: text})
    with pytest.raises(ChannelSuppressedError, match="holds text of 1 subject"):
        refuse_suppressed(follows, withdrawn(("dan", Modality.AUDIO)))


def test_a_label_made_from_a_suppressed_voice_is_refused_where_labels_fall(small):
    task = replace(small.task, label_derived_from=(Modality.AUDIO,), label_policy="falls")
    falls = replace(small, task=task)
    of_dan = withdrawn(("dan", Modality.AUDIO))
    with pytest.raises(ChannelSuppressedError, match="labels"):
        refuse_suppressed(falls, of_dan)
    assert "dan" not in drop_suppressed(falls, of_dan).subjects
