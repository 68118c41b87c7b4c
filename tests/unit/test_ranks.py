"""One process is a group of one, and shares are all rows once."""

import pytest
import torch

from mbd.ranks import ALONE, Ranks, all_ranks, together


@pytest.mark.parametrize("rows", [0, 1, 2, 13])
@pytest.mark.parametrize("count", [1, 2, 3, 16])
def test_shares_are_all_rows_once_in_order_and_differ_by_one_at_most(rows, count):
    shares = [Ranks(rank, count).share(rows) for rank in range(count)]
    assert [row for share in shares for row in share] == list(range(rows))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_process_without_a_group_is_alone_and_sends_nothing():
    assert all_ranks() == ALONE
    assert ALONE.first
    assert torch.equal(ALONE.sum(torch.ones(2)), torch.ones(2))
    assert ALONE.gather([3, 4]) == [[3, 4]]
    ALONE.agree({"seed": "1"})
    with pytest.raises(ZeroDivisionError), together() as ranks:
        raise ZeroDivisionError(ranks)
