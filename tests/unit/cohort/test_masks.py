"""What conditions leave of rows, and that nothing else decides it: not order, not neighbours, not padding."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mbd.cohort.batch import make_batch
from mbd.cohort.masks import draw_masks
from mbd.cohort.modality import Modality
from mbd.cohort.protocols import (
    Condition,
    Protocol,
    all_conditions,
    fixed,
    frames,
    imbalanced,
    random_missing,
    rates,
    shared,
    spans,
    spectrum,
)
from mbd.cohort.synthetic import Subjects, synthetic_cohort
from mbd.errors import CohortError

COLUMN = {m: c for c, m in enumerate(Modality)}
SCALES = {m: np.full(dim, 2.0) for m, dim in ((Modality.TEXT, 3), (Modality.AUDIO, 2), (Modality.VISION, 2))}
"""For `random_cohort`."""

any_condition = st.builds(
    Condition,
    st.just(Protocol.SPECTRUM),
    st.just("any"),
    pattern=st.none() | st.frozensets(st.sampled_from(Modality)),
    missing=st.tuples(*[st.sampled_from([0.0, 0.3, 1.0])] * 3),
    lost=st.sampled_from([0.0, 0.4, 1.0]),
    span=st.sampled_from([0.0, 0.4, 1.0]),
    noise=st.sampled_from([0.0, 1.5]),
)


@pytest.fixture(scope="module")
def people():
    return synthetic_cohort(subjects=Subjects(10, 5, 10, 5), clips=10, missing=0.0, sequence=True)


def same(one, other):
    """Two batches, up to padding, bit for bit."""
    if one is None or other is None:
        return one is other
    return (
        torch.equal(one.present, other.present)
        and all(same_channel(one, other, m) for m in one.features)
        and same(one.context, other.context)
    )


def same_channel(one, other, m):
    shorter = min(one.valid[m].shape[1], other.valid[m].shape[1])
    cut = [(b.features[m][:, :shorter], b.valid[m][:, :shorter], b.observed[m][:, :shorter]) for b in (one, other)]
    rest = any(b.valid[m][:, shorter:].any() or b.features[m][:, shorter:].any() for b in (one, other))
    return not rest and all(torch.equal(a, b) for a, b in zip(*cut, strict=True))


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), condition=any_condition, data=st.data())
def test_a_clip_keeps_the_same_whatever_happens_to_other_rows_and_to_padding(random_cohort, seed, condition, data):
    cohort = random_cohort(seed % 7)
    chosen = data.draw(st.lists(st.integers(0, len(cohort) - 1), min_size=1, max_size=6, unique=True))
    few, all_rows = cohort.select(chosen), range(len(cohort))
    whole = draw_masks(cohort, condition, seed).apply(make_batch(cohort, all_rows), all_rows, SCALES)
    part = draw_masks(few, condition, seed).apply(make_batch(few, range(len(few))), range(len(few)), SCALES)
    assert same(whole.select(torch.tensor(chosen)), part)


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), condition=any_condition)
def test_a_clip_keeps_the_same_whatever_happens_to_its_other_channels(random_cohort, seed, condition):
    cohort, every = random_cohort(seed % 7), range(27)
    whole = draw_masks(cohort, condition, seed).apply(make_batch(cohort, every), every, SCALES)
    silent = replace(cohort, features={**cohort.features, Modality.AUDIO: (None,) * len(cohort)})
    rest = draw_masks(silent, condition, seed).apply(make_batch(silent, every), every, SCALES)
    for m in (Modality.TEXT, Modality.VISION):
        assert same_channel(whole, rest, m)
        assert torch.equal(whole.present[:, COLUMN[m]], rest.present[:, COLUMN[m]])
    assert not rest.present[:, COLUMN[Modality.AUDIO]].any()


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), condition=any_condition)
def test_nothing_is_added_and_presence_says_what_the_batch_says(random_cohort, seed, condition):
    cohort, every = random_cohort(seed % 7), range(27)
    masks, batch = draw_masks(cohort, condition, seed), make_batch(cohort, every)
    left = masks.apply(batch, every, SCALES)
    assert np.array_equal(masks.present, left.present.numpy())
    assert not (left.present & ~batch.present).any()
    for m in left.features:
        assert not (left.observed[m] & ~batch.observed[m]).any()
        assert torch.equal(left.observed[m].any(dim=1), left.present[:, COLUMN[m]])
        assert not left.features[m][~left.observed[m]].any()
        if not condition.noise:
            assert torch.equal(left.features[m][left.observed[m]], batch.features[m][left.observed[m]])
    assert torch.equal(left.target, batch.target)


def test_rates_and_shared_are_random_missing_and_fixed_is_availability(people):
    for condition in (*rates((0.0, 0.4)), *shared((0.7,))):
        assert np.array_equal(draw_masks(people, condition, 3).present, random_missing(people, condition.missing[0], 3))
    for condition in fixed(people.modalities):
        present = draw_masks(people, condition, 3).present
        assert np.array_equal(present, [[m in condition.pattern for m in Modality]] * len(people))


def test_imbalanced_rates_are_met_one_by_one(people):
    for condition in imbalanced(people.modalities):
        present = draw_masks(people, condition, 1).present
        assert np.abs(1 - present.mean(axis=0) - condition.missing).max() < 0.1


@pytest.mark.parametrize("condition", [*frames((0.2, 0.5, 0.9)), *spans((0.2, 0.5, 0.9))], ids=lambda c: c.name)
def test_frames_are_lost_at_the_rate(people, condition):
    every = range(len(people))
    batch = make_batch(people, every)
    left = draw_masks(people, condition, 1).apply(batch, every)
    for m in people.modalities:
        lost = 1 - left.observed[m].sum().item() / batch.observed[m].sum().item()
        assert abs(lost - (condition.lost or condition.span)) < 0.05


@pytest.mark.parametrize("condition", [*frames((0.3, 0.8)), *spans((0.3, 0.8))], ids=lambda c: c.name)
def test_a_vector_goes_as_often_as_any_frame(condition):
    vectors = synthetic_cohort(subjects=Subjects(10, 5, 10, 5), clips=10, missing=0.0)
    masks = draw_masks(vectors, condition, 1)
    assert not masks.arrived
    assert np.abs(1 - masks.present.mean(axis=0) - (condition.lost or condition.span)).max() < 0.1


@given(seed=st.integers(0, 10**6), share=st.sampled_from([0.1, 0.25, 0.5, 0.9]))
def test_a_span_is_one_piece_of_its_share(random_cohort, seed, share):
    cohort = random_cohort(seed % 7)
    for m, by_row in draw_masks(cohort, *spans((share,)), seed).arrived.items():
        for i, arrived in enumerate(by_row):
            if arrived is None:
                continue
            lost = np.flatnonzero(~arrived)
            assert len(arrived) == len(cohort.feature(i, m))
            assert lost.tolist() == list(range(lost[0], lost[-1] + 1))
            assert abs(len(lost) - share * len(arrived)) < 1


def test_spans_start_anywhere(people):
    starts = {
        int(np.argmin(arrived)) / len(arrived)
        for by_row in draw_masks(people, *spans((0.3,)), 1).arrived.values()
        for arrived in by_row
        if arrived is not None
    }
    assert min(starts) == 0
    assert max(starts) > 0.6


def test_channels_lose_their_frames_independently(people):
    masks = draw_masks(people, *frames((0.5,)), 1)
    audio, vision = (masks.arrived[m] for m in (Modality.AUDIO, Modality.VISION))
    pairs = [
        (a[:n], v[:n])
        for a, v in zip(audio, vision, strict=True)
        if a is not None and v is not None and (n := min(len(a), len(v)))
    ]
    a, v = (np.concatenate(side).astype(float) for side in zip(*pairs, strict=True))
    assert abs(np.corrcoef(a, v)[0, 1]) < 0.1


def test_channels_lose_their_spans_independently(people):
    by_row = draw_masks(people, *spans((0.3,)), 1).arrived
    both = [
        [np.argmin(frames) / len(frames) for frames in row]
        for row in zip(by_row[Modality.AUDIO], by_row[Modality.VISION], strict=True)
        if all(frames is not None for frames in row)
    ]
    assert len(both) > 100
    assert abs(np.corrcoef(np.array(both).T)[0, 1]) < 0.2


def test_noise_is_gaussian_in_units_of_each_feature_and_leaves_padding_alone(people):
    every = range(len(people))
    scales = {m: np.linspace(0.5, 2.0, people.channels[m].dim) for m in people.modalities}
    batch = make_batch(people, every, torch.float64)
    noisy = draw_masks(people, *spectrum((1.5,), (0.0,)), 1).apply(batch, every, scales)
    first = []
    for m in people.modalities:
        added = (noisy.features[m] - batch.features[m]) / torch.from_numpy(1.5 * scales[m])
        assert not added[~batch.valid[m]].any()
        found = added[batch.valid[m]]
        assert found.mean(dim=0).abs().max() < 0.15
        assert (found.std(dim=0) - 1).abs().max() < 0.15
        assert abs((found.abs() < 1).double().mean() - 0.6827) < 0.02
        first.append(added[:, 0, 0].numpy())
    assert np.abs(np.corrcoef(first)[~np.eye(3, dtype=bool)]).max() < 0.2


def test_noise_is_the_same_on_the_frames_that_are_left(people):
    every = range(len(people))
    scales = {m: np.ones(people.channels[m].dim) for m in people.modalities}
    clean, some = (
        draw_masks(people, condition, 1).apply(make_batch(people, every), every, scales)
        for condition in spectrum((1.0,), (0.0, 0.5))
    )
    for m in people.modalities:
        assert torch.equal(some.features[m][some.observed[m]], clean.features[m][some.observed[m]])


def test_noise_without_standard_deviations_is_refused(small):
    masks = draw_masks(small, *spectrum((1.0,), (0.0,)), 1)
    with pytest.raises(CohortError, match="standard deviations is for audio"):
        masks.apply(make_batch(small, [0]), [0], {Modality.TEXT: np.ones(4)})


def test_the_clip_before_has_lost_what_it_and_its_successor_lose(small):
    every = list(range(len(small)))
    scales = {Modality.TEXT: np.ones(4), Modality.AUDIO: np.ones(2)}
    condition = Condition(Protocol.SPECTRUM, "all", missing=(0.3, 0.3, 0.3), lost=0.3, noise=1.0)
    masks = draw_masks(small, condition, 1)
    left = masks.apply(make_batch(small, every, context=True), every, scales)
    followers = [i for i in every if small.before[i] is not None]
    before = [small.before[i] for i in followers]
    assert followers
    assert left.context is not None
    alone = replace(left, context=None).select(torch.tensor(before)).mask(left.present[followers])
    assert same(left.context.select(torch.tensor(followers)), alone)
    assert not left.context.present[[i for i in every if i not in followers]].any()


def test_masks_share_a_digest_exactly_when_they_do_the_same_to_the_same_rows(people):
    conditions = [c for c in all_conditions(people.modalities) if c.protocol is not Protocol.SHARED]
    twins = {"tav": "untouched", "0.0": "untouched", "noise0.0-lost0.0": "untouched"}
    twins |= {f"noise0.0-lost{rate}": f"lost {rate}" for rate in (0.3, 0.6, 0.9)}
    twins |= {(Protocol.FRAMES, str(rate)): f"lost {rate}" for rate in (0.3, 0.6, 0.9)}
    found = {}
    for c in conditions:
        effect = twins.get((c.protocol, c.name), twins.get(c.name, (c.protocol, c.name)))
        found.setdefault(effect, set()).add(draw_masks(people, c, 1).digest)
    assert {len(digests) for digests in found.values()} == {1}
    assert len(set().union(*found.values())) == len(found)
    lost, noise = frames((0.3,))[0], spectrum((1.0,), (0.0,))[0]
    for condition in (lost, noise):
        once = draw_masks(people, condition, 1)
        assert once.digest == draw_masks(people, condition, 1).digest
        assert once.digest != draw_masks(people, condition, 2).digest
        assert once.digest != draw_masks(people.select(range(9)), condition, 1).digest
    renamed = replace(people, rows=tuple(replace(row, clip=f"{row.clip}x") for row in people.rows))
    whole = fixed(people.modalities)[-1]
    assert draw_masks(people, whole, 1).digest == draw_masks(people, whole, 2).digest
    assert draw_masks(people, whole, 1).digest != draw_masks(renamed, whole, 1).digest


@pytest.mark.parametrize(
    ("condition", "digest"),
    [
        (fixed(Modality)[3], "f10df0857c55fdec710e24e433da9a877cdbb15c7b0416d9cac0cfca31508f31"),
        (imbalanced(Modality)[2], "5f9e7d4e42e2d7c39840f379b774203008e5e4e1a6e16acf13cda288060b4709"),
        (*frames((0.3,)), "19268ca2fdf6fcebc99a2f78584a990a7079965fe54736298cac615c58588011"),
        (*spans((0.5,)), "f621a51b60eaa056e4e9ebe0a92bf322190abe6f76cc3392ee3b4009a8f8071d"),
        (*spectrum((0.5,), (0.3,)), "9713779229a1cae88025a4c34d14494c40eba51a21f4c39b868a0c630a7987db"),
    ],
    ids=lambda value: getattr(value, "protocol", ""),
)
def test_the_digests_of_stored_results_come_out_again(random_cohort, condition, digest):
    assert draw_masks(random_cohort(0), condition, 7).digest == digest


def test_noise_of_another_strength_or_seed_is_another_draw_and_no_multiple(people):
    """Else a network that is steady at one strength would be so at all, and seeds would say nothing."""
    batch = make_batch(people, range(len(people)))
    scales = {m: np.ones(channel.dim) for m, channel in people.channels.items()}

    def drawn(noise, seed):
        masks = draw_masks(people, Condition(Protocol.SPECTRUM, "noise", noise=noise), seed)
        moved = masks.apply(batch, range(len(people)), scales)
        units = [((moved.features[m] - x) / noise)[batch.valid[m]].flatten() for m, x in batch.features.items()]
        return torch.cat(units)

    one = drawn(1.0, 0)
    assert len(one) > 500
    assert torch.equal(one, drawn(1.0, 0))
    for other in (drawn(2.0, 0), drawn(1.0, 1)):
        assert abs(torch.corrcoef(torch.stack([one, other]))[0, 1]) < 0.15
