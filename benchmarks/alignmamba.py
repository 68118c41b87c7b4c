"""What AlignMamba-2's regularisers cost: nothing at inference is the paper's claim, and training pays for it.

    OMP_NUM_THREADS=1 python -m benchmarks.alignmamba

One network made with the regularisers and one without, with the same weights, answer for the same batch of MOSI's
word-level clips; then a training step is taken with the regularisers' losses and without. The two of a pair work one
after the other in alternating order, so that what else the machine does falls on both alike. Writes
``benchmarks/results/alignmamba.json``: the median over pairs of the ratio of CPU times, with a 95 % interval of that
median by order statistics; `benchmarks.readme` makes the table of ``docs/benchmarks.md``.
"""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from rich.progress import track
from scipy.stats import binom

from benchmarks.cohorts import DATA, RESULTS
from mbd.backbones.alignmamba import AlignMamba
from mbd.backbones.base import Backbone, Interface
from mbd.backbones.zoo import build
from mbd.cohort.batch import Batch, make_batch
from mbd.cohort.cohort import Split
from mbd.cohort.importers.mosi import mosi_wordlevel

PAIRS, WARM, ROWS = 400, 10, 32


def network(interface: Interface, **options: float) -> Backbone:
    """The same weights whatever the options."""
    torch.manual_seed(0)
    return build(AlignMamba.name, interface, options)


def infer(backbone: Backbone, batch: Batch) -> None:
    """One answer, as a service gives it."""
    with torch.inference_mode():
        backbone.eval()(batch)


def train(backbone: Backbone, batch: Batch, *, regularised: bool) -> None:
    """One step's work, but for the optimiser's, which is alike."""
    output = backbone.train()(batch)
    read = output if regularised else replace(output, terms={})  # the regularisers' frames
    torch.stack(list(backbone.losses(read, batch).values())).sum().backward()
    backbone.zero_grad()


def seconds(work: Callable[[], None]) -> float:
    """CPU time."""
    started = time.process_time()
    work()
    return time.process_time() - started


def ratio(name: str, one: Callable[[], None], other: Callable[[], None]) -> dict[str, float]:
    """The median of one time over the other, and the order statistics between which the true one lies with 95 %."""
    found = []
    for n in track(range(WARM + PAIRS), description=name):
        if n % 2:
            mine, theirs = seconds(one), seconds(other)
        else:
            theirs, mine = seconds(other), seconds(one)
        found += [mine / theirs] if n >= WARM else []
    found.sort()
    low = int(binom.ppf(0.025, PAIRS, 0.5)) - 1  # fewer than 2.5 % of samples have their median below this one
    return {"ratio": statistics.median(found), "low": found[low], "high": found[-1 - low]}


def main() -> None:
    """Measure, and write the result."""
    torch.set_num_threads(1)
    cohort = mosi_wordlevel(DATA / "mosi").where(split=Split.TRAIN)
    batch, interface = make_batch(cohort, range(ROWS)), Interface.of(cohort)
    aligned, plain = network(interface), network(interface, transport=0.0, discrepancy=0.0)
    found = {
        "pairs": PAIRS,
        "rows": ROWS,
        "inference": ratio("inference", lambda: infer(aligned, batch), lambda: infer(plain, batch)),
        "training": ratio(
            "training",
            lambda: train(aligned, batch, regularised=True),
            lambda: train(aligned, batch, regularised=False),
        ),
    }
    (RESULTS / "alignmamba.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
