from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbd.cohort.cohort import EVERYONE, Partition
from mbd.cohort.modality import Modality
from mbd.errors import NothingToDeleteError, UnknownSubjectError

PAIRS = st.tuples(
    st.sampled_from([*(f"s{i}" for i in range(9)), EVERYONE, "stranger"]), st.sampled_from(list(Modality))
)
REQUESTS = st.lists(PAIRS, max_size=6)
CONSENTS = st.sampled_from(["own", "follows", "independent"])
POLICIES = st.sampled_from(["keeps", "falls"])


def with_transcript(cohort, consent):
    """The same cohort, its text made from its audio."""
    derived = (Modality.AUDIO,) if consent != "own" else ()
    text = replace(cohort.channels[Modality.TEXT], derived_from=derived, consent=consent)
    return replace(cohort, channels={**cohort.channels, Modality.TEXT: text})


def with_labels_from_audio(cohort, policy):
    return replace(cohort, task=replace(cohort.task, label_derived_from=(Modality.AUDIO,), label_policy=policy))


@settings(max_examples=100)
@given(seed=st.integers(0, 10**6), declared=st.tuples(CONSENTS, POLICIES), requests=st.tuples(REQUESTS, REQUESTS))
def test_withdrawals_in_any_order_together_or_twice_leave_the_same_cohort(
    random_cohort, same, seed, declared, requests
):
    (consent, policy), (first, second) = declared, requests
    cohort = with_transcript(random_cohort(seed, label_policy=policy), consent)
    together = cohort.without([*first, *second])
    assert same(cohort.without(first).without(second), together)
    assert same(cohort.without(second).without(first), together)
    assert same(together.without(first), together)
    assert same(cohort.without([*second, *first, *first]), together)


@settings(max_examples=100)
@given(seed=st.integers(0, 10**6), request=REQUESTS)
def test_exactly_the_named_channels_of_revocable_rows_become_absent(random_cohort, seed, request):
    cohort = random_cohort(seed)
    after = cohort.without(request)
    position = {row.clip: i for i, row in enumerate(after.rows)}
    for i, row in enumerate(cohort.rows):
        revocable = row.partition is Partition.REVOCABLE
        lost = {m for s, m in request if revocable and s in (row.subject, EVERYONE)}
        kept = cohort.present(i) - lost
        assert (row.clip in position) == bool(kept)
        if kept:
            j = position[row.clip]
            assert after.present(j) == kept
            assert all(after.feature(j, m) is cohort.feature(i, m) for m in kept)


def test_a_row_left_with_nothing_is_dropped(small):
    after = small.revoke([("cem", Modality.TEXT), ("cem", Modality.AUDIO)])
    assert "cem" not in after.subjects
    assert len(after) == 12


def test_everyone_withdraws_from_the_revocable_partition_and_never_from_the_public_one(small):
    after = small.revoke([(EVERYONE, Modality.AUDIO)])
    holders = {row.subject for i, row in enumerate(after.rows) if Modality.AUDIO in after.present(i)}
    assert holders == {"ann", "bob"}
    assert len(after) == 15


def test_a_transcript_that_follows_the_voice_falls_with_it(small):
    follows = with_transcript(small, "follows")
    assert follows.closure([("cem", Modality.AUDIO)]) == {("cem", Modality.AUDIO), ("cem", Modality.TEXT)}
    assert "cem" not in follows.revoke([("cem", Modality.AUDIO)]).subjects
    assert Modality.AUDIO in follows.revoke([("cem", Modality.TEXT)]).where(subject="cem").present(0)


def test_a_transcript_falls_even_where_the_voice_it_was_made_from_is_not_stored(small):
    assert "dan" not in with_transcript(small, "follows").revoke([("dan", Modality.AUDIO)]).subjects


def test_an_independently_consented_transcript_stays(small):
    after = with_transcript(small, "independent").revoke([("cem", Modality.AUDIO)])
    assert after.where(subject="cem").present(0) == {Modality.TEXT}


def test_derivation_is_followed_through_several_channels(random_cohort):
    cohort = with_transcript(random_cohort(0), "follows")
    vision = replace(cohort.channels[Modality.VISION], derived_from=(Modality.TEXT,), consent="follows")
    chain = replace(cohort, channels={**cohort.channels, Modality.VISION: vision})
    assert chain.closure([("s5", Modality.AUDIO)]) == {("s5", m) for m in Modality}


def test_a_label_made_from_the_voice_keeps_or_falls_by_policy(small):
    request = [("cem", Modality.AUDIO)]
    assert "cem" in with_labels_from_audio(small, "keeps").revoke(request).subjects
    falls = with_labels_from_audio(small, "falls")
    assert "cem" not in falls.revoke(request).subjects
    assert "cem" in falls.revoke([("cem", Modality.TEXT)]).subjects


def test_a_stranger_is_unknown_and_a_public_subject_cannot_withdraw(small):
    with pytest.raises(UnknownSubjectError, match="has no revocable subject 'zoe'"):
        small.revoke([("zoe", Modality.AUDIO)])
    with pytest.raises(UnknownSubjectError, match="'ann' is in the public partition"):
        small.revoke([("cem", Modality.AUDIO), ("ann", Modality.AUDIO)])


def test_a_channel_that_is_not_there_cannot_be_withdrawn(small):
    with pytest.raises(NothingToDeleteError, match="Subject 'dan' has no audio"):
        small.revoke([("dan", Modality.AUDIO)])
    with pytest.raises(NothingToDeleteError, match="The revocable partition has no vision"):
        small.revoke([(EVERYONE, Modality.VISION)])
    once = small.revoke([("cem", Modality.AUDIO)])
    with pytest.raises(NothingToDeleteError, match="an earlier revocation may have removed it"):
        once.revoke([("cem", Modality.AUDIO)])
