"""One picture of the real cohorts: each availability pattern, the lattice beside ridge. Written by ``make bench``.

python -m benchmarks.picture
"""

import statistics
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt

from benchmarks.cohorts import NAMES, load_results, size_then_order
from benchmarks.readme import seed_means

TARGET = Path(__file__).resolve().parents[1] / "docs" / "images" / "real-cohorts.svg"
PANELS = (
    ("ravdess", "accuracy", "RAVDESS: accuracy, 8 emotions"),
    ("mosi", "mae", "MOSI: mean absolute error (less is better)"),
)
COLOURS = {"lattice": "#1b6ca8", "ridge": "#b8c4cc"}


def draw() -> None:
    """Bars of means over seeds, with the seeds' standard deviation."""
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "mbd"  # the same results draw the same file
    figure, axes = plt.subplots(1, len(PANELS), figsize=(9, 3.2), layout="constrained")
    for axis, (name, metric, title) in zip(axes, PANELS, strict=True):
        runs = load_results(name)["runs"]
        patterns = sorted(runs[0]["patterns"], key=size_then_order)
        for shift, method in ((-0.2, "lattice"), (0.2, "ridge")):
            by_pattern = [seed_means(runs, pattern, method, metric) for pattern in patterns]
            axis.bar(
                [n + shift for n in range(len(patterns))],
                [statistics.fmean(means) for means in by_pattern],
                width=0.4,
                yerr=[statistics.stdev(means) for means in by_pattern],
                color=COLOURS[method],
                capsize=3,
                label=method,
            )
        axis.set_xticks(range(len(patterns)), [NAMES[pattern] for pattern in patterns])
        axis.set_title(title, fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(TARGET, metadata={"Date": None})


if __name__ == "__main__":
    draw()
