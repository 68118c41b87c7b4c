"""Each row practises each way in which its own channels could be missing, equally often."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mbd.cohort.modality import Modality, subsets
from mbd.training.masking import as_columns, draw_patterns

ALL = as_columns(subsets(Modality))


@settings(deadline=None)
@given(present=st.lists(st.sampled_from(ALL.tolist()), min_size=1, max_size=20), seed=st.integers(0, 2**31))
def test_a_row_keeps_some_of_its_channels_and_gains_none(present, seed):
    torch.manual_seed(seed)
    present_BM = torch.tensor(present)
    drawn_BM = draw_patterns(present_BM, ALL)
    assert drawn_BM.any(dim=1).all()
    assert not (drawn_BM & ~present_BM).any()


def test_all_patterns_that_a_row_allows_are_equally_likely():
    torch.manual_seed(0)
    drawn = draw_patterns(torch.tensor([[True, False, True]]).expand(6000, 3), ALL)
    patterns, counts = drawn.unique(dim=0, return_counts=True)
    assert patterns.tolist() == [[False, False, True], [True, False, False], [True, False, True]]
    assert all(1800 < count < 2200 for count in counts.tolist())


def test_columns_stand_in_declaration_order():
    assert as_columns([frozenset({Modality.VISION, Modality.TEXT})]).tolist() == [[True, False, True]]
