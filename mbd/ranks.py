"""This process among those that work together (`torch.distributed`, gloo), and the few things they tell each other.

It does not know who started them, or what they work at. One process alone is a group of one: nothing is sent then.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist

# Loaded before there is a group: its functions' defaults take hold of the default group that exists by then, for ever,
# and gloo's threads, still there when the interpreter ends, then can abort the process. An optimiser would load it.
import torch.distributed.nn.functional
from torch import Tensor

from mbd.errors import RanksError
from mbd.hashing import sha256_hex


@dataclass(frozen=True)
class Ranks:
    """The group, seen from this process. All of the group's processes must make the same calls in the same order.

    Attributes:
        rank: of this process, from 0.
        count: how many processes there are.
        group: of a backend that reduces tensors on the CPU (gloo); the default group when None.
    """

    rank: int = 0
    count: int = 1
    group: dist.ProcessGroup | None = None

    @property
    def first(self) -> bool:
        """Whether this is the one process that writes files and tells progress."""
        return self.rank == 0

    def share(self, rows: int) -> range:
        """Which of so many rows are this process's: consecutive ones, maybe none; everybody's together are all."""
        return range(rows * self.rank // self.count, rows * (self.rank + 1) // self.count)

    def sum(self, mine: Tensor) -> Tensor:
        """The sum over all ranks, on every rank with the same bits, in place of ``mine``.

        Raises:
            RanksError: another process stopped.
        """
        if self.count > 1:
            with _loss_told(self.count):
                dist.all_reduce(mine, op=dist.ReduceOp.SUM, group=self.group)
        return mine

    def gather(self, mine: Sequence[int]) -> list[list[int]]:
        """Every rank's numbers (int64, as many on each), by rank.

        Raises:
            RanksError: another process stopped.
        """
        if self.count == 1:
            return [list(mine)]
        own = torch.tensor(mine, dtype=torch.int64)
        all_of_them = [torch.empty_like(own) for _ in range(self.count)]
        with _loss_told(self.count):
            dist.all_gather(all_of_them, own, group=self.group)
        return [[int(number) for number in one] for one in all_of_them]

    def agree(self, facts: Mapping[str, str]) -> None:
        """Go on only if these facts (the same names on each) are the same on every rank.

        Raises:
            RanksError: on all ranks alike, naming the facts that differ; or another process stopped.
        """
        names = sorted(facts)
        told = self.gather([int(sha256_hex(facts[name].encode())[:15], 16) for name in names])
        if differ := [name for name, *values in zip(names, *told, strict=True) if len(set(values)) > 1]:
            raise RanksError(
                f"The {self.count} processes are not at the same work: {', '.join(differ)} differ.",
                remedy="give every process the same data, settings and files, on machines of one kind",
            )


ALONE = Ranks()


def all_ranks(group: dist.ProcessGroup | None = None) -> Ranks:
    """The group, or the default group, or this process alone where none was initialised."""
    if group is None and not (dist.is_available() and dist.is_initialized()):
        return ALONE
    return Ranks(dist.get_rank(group), dist.get_world_size(group), group)


@contextmanager
def together() -> Iterator[Ranks]:
    """The default group at one piece of work.

    A process that fails leaves the group for good: the others then meet a `RanksError` instead of waiting for it.
    """
    ranks = all_ranks()
    try:
        yield ranks
    except BaseException:
        if ranks.count > 1:
            dist.destroy_process_group()
        raise


@contextmanager
def _loss_told(count: int) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo has no class of its own for a peer that went, or a time-out
        raise RanksError(
            f"Another of the {count} processes that work together stopped, or cannot be reached.",
            remedy="see what that process said, and give the command again: training goes on from its last epoch",
        ) from error
