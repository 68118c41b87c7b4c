"""What an answer costs: CPU milliseconds of one row and of one in a batch. It knows no accuracy."""

import statistics
import time

import torch

from mbd.backbones.base import Backbone
from mbd.cohort.batch import Batch

_WARM, _TRIES = 3, 15


def milliseconds_a_row(backbone: Backbone, batch: Batch) -> float:
    """The median CPU time of a forward pass over the batch by this process's threads, divided by its rows [ms].

    CPU time and not the clock's, because other processes work beside this one; on a shared cache it is still not alike
    from run to run.
    """
    times = []
    with torch.inference_mode():
        for n in range(_WARM + _TRIES):
            started = time.process_time()
            backbone(batch)
            if n >= _WARM:
                times.append(time.process_time() - started)
    return 1000 * statistics.median(times) / len(batch.present)


def parameters(backbone: Backbone) -> int:
    """How many numbers are learnt."""
    return sum(parameter.numel() for parameter in backbone.parameters())
