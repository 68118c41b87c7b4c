"""One picture of what a deletion costs as the cohort grows, beside a refit and beside training again.

python -m benchmarks.deletion_picture
"""

from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt

from benchmarks.cohorts import load_results

TARGET = Path(__file__).resolve().parents[1] / "docs" / "images" / "deletion.svg"


def draw() -> None:
    """Seconds over revocable rows, both on logarithmic axes."""
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "mbd"  # the same results draw the same file
    found = load_results("deletion")
    again = found["retraining"]
    steps = again["extrapolated_from_steps"]
    lines = (
        (again["seconds"], f"training backbone and heads again (extrapolated from {steps} steps)", "#b8c4cc", "--"),
        (found["refit_seconds"], "refit of the heads", "#6d8494", "-"),
        (found["deletion_seconds"], "deletion of one person's voice", "#1b6ca8", "-"),
    )
    figure, axis = plt.subplots(figsize=(7, 3.4), layout="constrained")
    for seconds, label, colour, style in lines:
        sizes = sorted(int(n) for n in seconds)
        axis.loglog(sizes, [seconds[str(n)] for n in sizes], style, marker="o", color=colour, label=label)
    axis.set_xlabel("revocable rows")
    axis.set_ylabel("seconds of one core")
    axis.set_title(f"What a deletion costs, D = {found['line']['width']}", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=1, frameon=False, fontsize=8)
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(TARGET, metadata={"Date": None})


if __name__ == "__main__":
    draw()
