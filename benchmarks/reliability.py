"""QA-MoE's reliability on real clips that are made worse: whether it falls with what is injected, and with the truth.

    OMP_NUM_THREADS=1 python -m benchmarks.reliability

Five seeds of each cohort's first fold, everybody's training rows, the default sizes. Test rows get Gaussian noise of 0
to 2 standard deviations, or lose 0 to 90 % of their frames (of vectors: whole channels); one draw for all strengths.
Writes ``benchmarks/results/reliability.json``; `benchmarks.readme` makes the table of ``docs/benchmarks.md``.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from scipy.stats import spearmanr

from benchmarks.cohorts import RESULTS, SEEDS
from benchmarks.zoo import PEOPLE, People
from mbd.backbones.qa_moe import QualityAwareMoE
from mbd.cohort.batch import Batch, make_batch
from mbd.cohort.cohort import Partition, Split
from mbd.training.loop import train

FloatArray = NDArray[np.float64]

NOISES = tuple(0.25 * step for step in range(9))
LOSSES = tuple(0.1 * step for step in range(10))
FALLEN = -0.8
"""Spearman's correlation at most, for a reliability to have fallen."""


def trained(people: People, seed: int) -> tuple[QualityAwareMoE, Batch]:
    """The network, and the rows to ask it about."""
    cohort = people.fold(0)
    recipe = replace(people.recipe, backbone=QualityAwareMoE.name, trains_on="everyone")
    backbone = train(recipe, cohort, seed=seed, partitions=tuple(Partition)).backbone
    assert isinstance(backbone, QualityAwareMoE)
    test = cohort.where(split=Split.TEST)
    return backbone.eval(), make_batch(test, range(len(test)))


def answers(backbone: QualityAwareMoE, batch: Batch, *, noise: float, missing: float) -> dict[str, FloatArray]:
    """At one point of the spectrum: r of every row [N], r^m of every channel [N,M], stated and real squared errors [N].

    Errors are in the labels' standard units, averaged over outputs.
    """
    torch.manual_seed(1)
    with torch.inference_mode():
        output = backbone(backbone.degraded(batch, noise=noise, missing=missing))
    assert output.log_variance is not None
    stated_N = output.log_variance.exp()
    standard = backbone.standardiser.target
    found = {
        "row": 1 / (1 + stated_N),
        "channels": 1 / (1 + output.terms["sigma2"].mean(dim=2)),
        "stated": stated_N,
        "error": (standard(output.prediction) - standard(batch.target)).square().mean(dim=1),
    }
    return {name: value.double().numpy() for name, value in found.items()}


def falls(strengths: Sequence[float], reliability_SN: FloatArray) -> dict[str, float]:
    """Spearman's correlation of strength and reliability: of its mean over rows, and the mean of that of each row."""
    each = [spearmanr(strengths, row_S).statistic for row_S in reliability_SN.T if np.ptp(row_S) > 0]
    mean = spearmanr(strengths, reliability_SN.mean(axis=1)).statistic
    return {"mean": float(mean), "each": float(np.mean(each))}


def measure(people: People, seed: int) -> dict[str, Mapping[str, float]]:
    """One seed."""
    backbone, batch = trained(people, seed)
    noisy = [answers(backbone, batch, noise=noise, missing=0.0) for noise in NOISES]
    lost = [answers(backbone, batch, noise=0.0, missing=loss) for loss in LOSSES]
    channels = {
        modality.value: falls(NOISES, np.stack([found["channels"][:, column] for found in noisy]))
        for column, modality in enumerate(backbone.interface.channels)
    }
    return {
        "row under noise": falls(NOISES, np.stack([found["row"] for found in noisy])),
        "row under losses": falls(LOSSES, np.stack([found["row"] for found in lost])),
        **{f"{name} under noise": found for name, found in channels.items()},
        "stated over real": {
            "clean": float(noisy[0]["stated"].mean() / noisy[0]["error"].mean()),
            "noisy": float(noisy[-1]["stated"].mean() / noisy[-1]["error"].mean()),
        },
    }


def main() -> None:
    """Measure, and write means over seeds."""
    result = {}
    for name, people in PEOPLE.items():
        seeds = [measure(people, seed) for seed in track(range(SEEDS), description=name)]
        result[name] = {
            what: {part: statistics.fmean(seed[what][part] for seed in seeds) for part in parts}
            for what, parts in seeds[0].items()
        } | {"fell": sum(seed["row under noise"]["mean"] <= FALLEN for seed in seeds), "seeds": SEEDS}
    (RESULTS / "reliability.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
