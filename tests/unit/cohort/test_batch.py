import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mbd.cohort.batch import make_batch
from mbd.cohort.modality import Modality

COLUMN = {m: c for c, m in enumerate(Modality)}


@given(seed=st.integers(0, 10**6), picks=st.lists(st.integers(0, 26), min_size=1, max_size=8))
def test_a_batch_holds_each_row_bit_for_bit_and_says_what_is_padding_and_what_is_absent(random_cohort, seed, picks):
    cohort = random_cohort(seed)
    batch = make_batch(cohort, picks)
    for m in cohort.modalities:
        for b, i in enumerate(picks):
            has = m in cohort.present(i)
            assert bool(batch.present[b, COLUMN[m]]) == has
            frames = np.atleast_2d(cohort.feature(i, m)) if has else np.zeros((0, cohort.channels[m].dim), np.float32)
            assert np.array_equal(batch.features[m][b, : len(frames)].numpy(), frames)
            assert not batch.features[m][b, len(frames) :].any()
            assert batch.valid[m][b].tolist() == [t < len(frames) for t in range(batch.valid[m].shape[1])]
    assert np.array_equal(batch.target.numpy(), cohort.targets[picks].astype(np.float32))


def test_selected_rows_of_a_batch_are_the_same_rows_with_the_same_padding(random_cohort):
    batch = make_batch(random_cohort(2), range(9))
    chosen = batch.select(torch.tensor([7, 2, 2]))
    for n, row in enumerate([7, 2, 2]):
        assert torch.equal(chosen.present[n], batch.present[row])
        assert torch.equal(chosen.target[n], batch.target[row])
        for m in batch.features:
            assert torch.equal(chosen.features[m][n], batch.features[m][row])
            assert torch.equal(chosen.valid[m][n], batch.valid[m][row])


def test_a_modality_without_a_channel_is_nowhere(small):
    batch = make_batch(small, [0, 1])
    assert set(batch.features) == {Modality.TEXT, Modality.AUDIO}
    assert batch.present.tolist() == [[True, True, False]] * 2


def test_a_vector_is_one_frame_and_an_absent_channel_has_room_for_one(small):
    nobody_speaks = make_batch(small, [9, 10])
    assert nobody_speaks.features[Modality.TEXT].shape == (2, 1, 4)
    assert nobody_speaks.features[Modality.AUDIO].shape == (2, 1, 2)
    assert not nobody_speaks.valid[Modality.AUDIO].any()


def test_a_mask_hides_features_and_lengths_and_never_adds_a_channel(small):
    batch = make_batch(small, [0, 9])
    masked = batch.mask(torch.tensor([[False, True, True], [True, True, True]]))
    assert masked.present.tolist() == [[False, True, False], [True, False, False]]
    assert not masked.features[Modality.TEXT][0].any()
    assert not masked.valid[Modality.TEXT][0].any()
    assert torch.equal(masked.features[Modality.TEXT][1], batch.features[Modality.TEXT][1])
    assert torch.equal(masked.valid[Modality.AUDIO], batch.valid[Modality.AUDIO])
    assert batch.features[Modality.TEXT][0].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_features_and_targets_have_the_dtype_asked_for(small, dtype):
    batch = make_batch(small, range(4), dtype)
    assert batch.target.dtype == dtype
    assert {x.dtype for x in batch.features.values()} == {dtype}


def test_lost_frames_are_not_observed_and_a_channel_without_any_is_absent(random_cohort):
    cohort = random_cohort(3)
    m = next(m for m in cohort.modalities if cohort.channels[m].kind == "sequence")
    having = [i for i in range(len(cohort)) if m in cohort.present(i) and len(cohort.feature(i, m)) > 1][:3]
    batch = make_batch(cohort, having)
    arrived = torch.zeros_like(batch.valid[m])
    arrived[0, 1] = True
    lost = batch.lose({m: arrived})
    assert lost.observed[m].nonzero().tolist() == [[0, 1]]
    assert torch.equal(lost.valid[m][0], batch.valid[m][0])
    assert not lost.valid[m][1:].any()
    assert lost.present[:, COLUMN[m]].tolist() == [True, False, False]
    assert torch.equal(lost.features[m][0, 1], batch.features[m][0, 1])
    assert lost.features[m].count_nonzero() == batch.features[m][0, 1].count_nonzero()
    for other in set(cohort.modalities) - {m}:
        assert torch.equal(lost.features[other], batch.features[other])
        assert torch.equal(lost.observed[other], batch.valid[other])


def test_the_clip_before_comes_along_without_its_label_and_loses_what_the_row_loses(small):
    batch = make_batch(small, [0, 1], context=True)
    assert make_batch(small, [0, 1]).context is None
    assert batch.context is not None
    assert [small.before[0], small.before[1]] == [None, 0]
    assert not batch.context.present[0].any()
    assert torch.equal(batch.context.features[Modality.TEXT][1], batch.features[Modality.TEXT][0])
    assert not batch.context.target.any()
    masked = batch.mask(torch.tensor([[False, True, False]]).expand(2, 3))
    assert masked.context is not None
    assert masked.context.present.tolist() == [[False, False, False], [False, True, False]]
    chosen = batch.select(torch.tensor([1]))
    assert chosen.context is not None
    assert torch.equal(chosen.context.present[0], batch.context.present[1])
