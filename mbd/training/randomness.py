"""Torch's global state for one run alone: seeds, generators, threads, device. It knows no network and no data."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from mbd.errors import TrainingError
from mbd.hashing import json_digest

Device = Literal["cpu", "cuda"]
"""Where a network trains: a kind, and torch's current device of it. Kinds round differently, so transcripts name it."""


def require_device(device: Device, processes: int = 1) -> None:
    """Fail before anything is done when so many processes cannot train there.

    Raises:
        TrainingError: names the remedy.
    """
    if device == "cuda" and processes > 1:
        raise TrainingError(
            f"{processes} processes cannot share a GPU here: they train on the CPU.",
            remedy="use one process for a GPU, or several on the CPU",
        )
    if device == "cuda" and not torch.cuda.is_available():
        raise TrainingError(
            "There is no GPU that torch can use.",
            remedy="train on the CPU (the default), or install a CUDA build of torch on a machine with a GPU: "
            'python -c "import torch; print(torch.cuda.is_available())" says whether it can be used',
        )


@contextmanager
def own_randomness(threads: int, device: Device = "cpu") -> Iterator[None]:
    """Torch's generators and thread count for the run alone; both are given back."""
    threads_before = torch.get_num_threads()
    on_gpu = [] if device == "cpu" else [torch.cuda.current_device()]
    with torch.random.fork_rng(devices=on_gpu):
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(threads_before)


def derived_seed(seed: int, purpose: int | str) -> int:
    """A 63-bit seed for one purpose."""
    return int(json_digest(["mbd training", seed, purpose])[:16], 16) >> 1
