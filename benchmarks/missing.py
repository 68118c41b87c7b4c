"""Missing channels at test time, named sets and global rates: the MBD paper's tables repeated on our features.

    OMP_NUM_THREADS=1 python -m benchmarks.missing mosi
    OMP_NUM_THREADS=1 python -m benchmarks.missing ravdess
    python -m benchmarks.missing tables
    python -m benchmarks.missing picture

The first two write ``benchmarks/results/missing-<cohort>.json``, from which the others make Markdown tables and
``docs/images/missing-rates.svg``. Every method is asked about the same rows with the same channels taken away.
*lattice* is what `mbd train` does (backbone of public people, heads that know everyone); both networks are trained on
everybody's training rows and answer by themselves; ridge reads an absent channel as zero after standardisation.

At a rate p each channel of each test row is absent with probability p; a row that would lose all of them keeps one,
drawn uniformly. The paper does not say what it does with such rows. It knows no deletion.
"""

import hashlib
import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from numpy.typing import NDArray
from rich.progress import Progress

from benchmarks.cohorts import NAMES, RESULTS, SEEDS, cohorts, load_results, size_then_order
from benchmarks.real_cohorts import NOISE, shipped
from benchmarks.ridge import fit_ridge
from mbd.backbones.base import Backbone
from mbd.cohort.batch import make_batch
from mbd.cohort.cohort import Cohort, Partition, Split
from mbd.cohort.modality import Modality, in_order, pattern_name
from mbd.cohort.protocols import availability, random_missing
from mbd.hashing import canonical_json
from mbd.lattice.fit import fit_lattice
from mbd.lattice.release import ReleasePolicy
from mbd.metrics.sentiment import evaluate
from mbd.training.loop import train

FloatArray = NDArray[np.float64]
Mask = NDArray[np.bool_]

RATES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
FOLDS_RUN = {"mosi": 1, "ravdess": 2}
"""Of RAVDESS the first two of the six folds a seed: a run trains three networks, and five seeds matter more."""
METRICS = {
    "mosi": {
        "acc2_non0": "Acc-2 Non0",
        "acc2_has0": "Acc-2 Has0",
        "f1_non0": "F1 Non0",
        "mae": "MAE",
        "corr": "Corr",
    },
    "ravdess": {"accuracy": "accuracy", "macro_f1": "macro F1"},
}
METHODS = {
    "lattice": "lattice (ours)",
    "mbd": "MBD network, trained on everyone",
    "control": "masked-training control",
    "ridge": "ridge, absent = 0",
}
PAPER = {
    "source": "arXiv 2602.16144, CMU-MOSI",
    "fixed": {
        "t": {"acc2": 0.889},
        "a": {"acc2": 0.675},
        "v": {"acc2": 0.670},
        "ta": {"acc2": 0.900},
        "tv": {"acc2": 0.895},
        "av": {"acc2": 0.690},
        "tav": {"acc2": 0.899, "f1": 0.899, "mae": 0.620, "corr": 0.872},
    },
    "rate": {0.1: 0.889, 0.2: 0.869, 0.3: 0.846, 0.4: 0.822, 0.5: 0.798, 0.6: 0.774, 0.7: 0.750},
}
"""What the MBD paper reports: three modalities, other features, other details of the split, one number without SD.
Which convention its Acc-2 follows (Has0 or Non0) is unknown."""

THEIRS = "*reported by the paper: other features and split details, three modalities*"
TARGET = Path(__file__).resolve().parents[1] / "docs" / "images" / "missing-rates.svg"
PANELS = (("mosi", "acc2_non0", "MOSI: Acc-2 (ours: Non0)"), ("ravdess", "accuracy", "RAVDESS: accuracy, 8 emotions"))
STYLES = {"lattice": ("#1b6ca8", "-"), "mbd": ("#c1662f", "-"), "control": ("#3b8f5a", "--"), "ridge": ("#7f8c94", ":")}


def missing_at(rows: Cohort, rate: float, seed: int) -> Mask:
    """`random_missing`, but a row that would lose every channel keeps one of its own, drawn uniformly [n, 3].

    That draw has a stream of its own for every (seed, split, clip, rate).
    """
    mask = random_missing(rows, rate, seed)
    for i in np.flatnonzero(~mask.any(axis=1)):
        own = in_order(rows.present(i))
        name = canonical_json([seed, rows.rows[i].split, rows.rows[i].clip, rate])
        drawn = int.from_bytes(hashlib.sha256(b"mbd kept channel v1\0" + name).digest()[:8], "big")
        mask[i, list(Modality).index(own[drawn % len(own)])] = True
    return mask


def masked(rows: Cohort, mask: Mask) -> Cohort:
    """The same rows with only the channels of the mask [n, 3]; a channel that is taken away is not there at all."""
    features = {
        modality: tuple(
            feature if kept else None for feature, kept in zip(rows.features[modality], mask[:, column], strict=True)
        )
        for column, modality in enumerate(Modality)
        if modality in rows.modalities
    }
    return replace(rows, features=features)


def network_predictions(backbone: Backbone, rows: Cohort) -> FloatArray:
    """A network's own answers [N, K]."""
    return np.asarray(backbone(make_batch(rows, range(len(rows)))).prediction.detach().numpy(), dtype=np.float64)


def predictors(name: str, cohort: Cohort, seed: int) -> dict[str, Callable[[Cohort], FloatArray]]:
    """Every method, trained; each answers any rows of the cohort's channels."""
    recipe, everyone = shipped(name), tuple(Partition)
    public = train(recipe, cohort, seed=seed).backbone
    entangled = replace(recipe, trains_on="everyone")
    mbd = train(entangled, cohort, seed=seed, partitions=everyone).backbone
    control = train(replace(entangled, backbone="control"), cohort, seed=seed, partitions=everyone).backbone
    lattice = fit_lattice(
        public, cohort, policy=ReleasePolicy(), noise=NOISE, purpose=f"missing/{seed}", salt=bytes(32)
    )
    ridge = fit_ridge(cohort, frozenset(cohort.modalities))
    return {
        "lattice": lambda rows: lattice.predict(rows).outputs_NK,
        "mbd": lambda rows: network_predictions(mbd, rows),
        "control": lambda rows: network_predictions(control, rows),
        "ridge": ridge.predict,
    }


def missing_run(name: str, cohort: Cohort, seed: int) -> dict[str, Any]:
    """Both protocols on one cohort's test rows: metrics of each method, and what the masks were."""
    methods = predictors(name, cohort, seed)
    test = cohort.where(split=Split.TEST)

    def measure(rows: Cohort) -> dict[str, dict[str, float]]:
        found = {m: evaluate(rows.targets, predict(rows), cohort.task) for m, predict in methods.items()}
        return {m: {key: round(value[key], 4) for key in METRICS[name]} for m, value in found.items()}

    fixed, rates, masks = {}, {}, {}
    for pattern in cohort.patterns:
        mask = availability(test, pattern)
        fixed[pattern_name(pattern)] = measure(masked(test, mask).select(np.flatnonzero(mask.any(axis=1))))
    for rate in RATES:
        mask = missing_at(test, rate, seed)
        rates[str(rate)] = measure(masked(test, mask))
        rescued = int((~random_missing(test, rate, seed).any(axis=1)).sum())
        masks[str(rate)] = {"sha256": hashlib.sha256(mask.tobytes()).hexdigest(), "kept_one": rescued}
    return {"rows": len(test), "fixed": fixed, "rate": rates, "masks": masks}


def fixed_table(name: str) -> str:
    """Mean and SD over seeds for each named set of channels; rows of the paper's figures say whose they are."""
    runs = load_results(f"missing-{name}")["runs"]
    lines = _head(name, "available")
    for pattern in sorted(runs[0]["fixed"], key=size_then_order):
        lines += _lines(name, runs, "fixed", pattern, NAMES[pattern])
        if name == "mosi":
            lines.append(_theirs(NAMES[pattern], PAPER["fixed"][pattern]))
    if name == "mosi":
        lines.append(_theirs("text + voice + face (no face here)", PAPER["fixed"]["tav"]))
    return "\n".join(lines)


def rate_table(name: str) -> str:
    """Mean and SD over seeds for each global missing rate; rows of the paper's figures say whose they are."""
    runs = load_results(f"missing-{name}")["runs"]
    lines = _head(name, "missing rate")
    for rate in RATES:
        lines += _lines(name, runs, "rate", str(rate), str(rate))
        if name == "mosi":
            lines.append(_theirs(str(rate), {"acc2": PAPER["rate"][rate]}))
    return "\n".join(lines)


def seed_means(runs: list[dict[str, Any]], protocol: str, case: str, method: str, metric: str) -> list[float]:
    """One number a seed: the mean over its folds."""
    by_seed: dict[int, list[float]] = {}
    for run in runs:
        by_seed.setdefault(run["seed"], []).append(run[protocol][case][method][metric])
    return [statistics.fmean(values) for values in by_seed.values()]


def _head(name: str, what: str) -> list[str]:
    titles = list(METRICS[name].values())
    return [f"| {what} | method | {' | '.join(titles)} |", "|---|---|" + "---|" * len(titles)]


def _lines(name: str, runs: list[dict[str, Any]], protocol: str, case: str, title: str) -> list[str]:
    lines = []
    for method, who in METHODS.items():
        means = [seed_means(runs, protocol, case, method, metric) for metric in METRICS[name]]
        cells = [f"{statistics.fmean(m):.3f} ± {statistics.stdev(m):.3f}" for m in means]
        lines.append(f"| {title} | {who} | {' | '.join(cells)} |")
    return lines


def _theirs(title: str, found: dict[str, float]) -> str:
    """The paper's row: its Acc-2 and F1 are of an unknown convention, so neither column may claim them."""
    acc2, f1 = (f"*{found[key]:.3f} (Has0 or Non0: unknown)*" if key in found else "" for key in ("acc2", "f1"))
    mae, corr = (f"*{found[key]:.3f}*" if key in found else "" for key in ("mae", "corr"))
    return f"| {title} | {THEIRS} | {acc2} | | {f1} | {mae} | {corr} |"


def draw() -> None:
    """Accuracy over the missing rate: a line a method with a band of one SD over seeds; the paper's points are open."""
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "mbd"  # the same results draw the same file
    figure, axes = plt.subplots(1, len(PANELS), figsize=(9, 3.6), layout="constrained")
    for axis, (name, metric, title) in zip(axes, PANELS, strict=True):
        runs = load_results(f"missing-{name}")["runs"]
        full = max(runs[0]["fixed"], key=len)
        cases = [("fixed", full), *(("rate", str(rate)) for rate in RATES)]
        for method, (colour, line) in STYLES.items():
            found = [seed_means(runs, *case, method, metric) for case in cases]
            mean = np.array([statistics.fmean(f) for f in found])
            sd = np.array([statistics.stdev(f) for f in found])
            x = [0.0, *RATES]
            axis.plot(x, mean, color=colour, linestyle=line, label=METHODS[method])
            axis.fill_between(x, mean - sd, mean + sd, color=colour, alpha=0.15, linewidth=0)
        if name == "mosi":
            points = {0.0: PAPER["fixed"]["tav"]["acc2"]} | PAPER["rate"]
            label = "reported by the paper, other features"
            axis.plot(list(points), list(points.values()), "o", color="#333333", markerfacecolor="none", label=label)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("probability that a channel is missing")
        axis.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(TARGET, metadata={"Date": None})


def main(name: str) -> None:
    """Run one cohort and write its results."""
    chosen = ((seed, fold, cohort) for seed, fold, cohort in cohorts(name) if fold < FOLDS_RUN[name])
    found = []
    with Progress() as progress:
        bar = progress.add_task(f"{name}: missing channels", total=SEEDS * FOLDS_RUN[name])
        for seed, fold, cohort in chosen:
            found.append({"seed": seed, "fold": fold, **missing_run(name, cohort, seed)})
            progress.advance(bar)
    result = {"cohort": name, "recipe": shipped(name).to_json(), "folds": FOLDS_RUN[name], "runs": found}
    (RESULTS / f"missing-{name}.json").write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in (*METRICS, "tables", "picture"):
        sys.exit("usage: python -m benchmarks.missing mosi|ravdess|tables|picture")
    if sys.argv[1] in METRICS:
        main(sys.argv[1])
    elif sys.argv[1] == "picture":
        draw()
    else:
        print("\n\n".join(make(name) for name in METRICS for make in (fixed_table, rate_table)))
