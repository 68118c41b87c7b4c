"""Large heads: when conjugate gradients beat a Cholesky factor after a deletion, and when saliency helps at all.

    OMP_NUM_THREADS=1 python -m benchmarks.large_heads            half an hour, 8 GB; writes results and picture
    OMP_NUM_THREADS=1 python -m benchmarks.large_heads 500 2000   only these widths; prints, writes nothing

Every figure is a ratio inside one run: the median processor time of a full Cholesky solve over the median of another
way to the same certificate, residual over all coordinates included. Features are synthetic: 8,000 rows on the grid
2^-11.

- ``dense``: tanh of 1,500 latent factors with a 1/k spectrum, as gradients of a small adapter look; ten rows leave,
  and they touch every coordinate.
- ``blocks``: twenty experts, each row lights one of them, so G is block-diagonal; the ten rows touch 5 % of it.
- ``shared``: the same experts, and 2 % of the coordinates lit in every row, which couple them.
"""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from numpy.typing import NDArray

from mbd.lattice.conjugate import full_factor
from mbd.lattice.release import ReleasePolicy
from mbd.lattice.solve import Solution, residual, solve
from mbd.privacy.gaussian import sigma_for

FloatArray = NDArray[np.float64]

RESULTS = Path(__file__).with_name("results") / "large-heads.json"
PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "large-heads.svg"
WIDTHS = (500, 2000, 5000, 10000, 20000)
# Each case with its penalty, and the largest width it is measured at.
CASES = {("dense", 100.0): 20000, ("dense", 10.0): 10000, ("blocks", 100.0): 20000, ("shared", 100.0): 5000}
ROWS, WITHDRAWN, FACTORS, EXPERTS, CHUNK = 8000, 10, 1500, 20, 500
RATIOS = (0.5, 1, 2, 5, 10, 20)
REPEATS = {500: 5, 2000: 5, 5000: 3, 10000: 3, 20000: 1}
RELEASED = "gradients, from the released weights"
NOTHING = "gradients, from nothing"
WITH_FACTOR = "gradients, from the released weights, with the factor of the version before"
NO_NOISE = "default rule, from the weights before noise"
COLOURS = {RELEASED: "#1b6ca8", NOTHING: "#e07b39", WITH_FACTOR: "#5a9367", NO_NOISE: "#8e5ea2"}


@dataclass(frozen=True)
class Head:
    """One head before and after ten rows leave.

    Attributes:
        matrix_DD: G' + Lambda.
        moment_DK: c'.
        removed_RD: features of the rows that left.
        removed_RK: their labels.
    """

    matrix_DD: FloatArray
    moment_DK: FloatArray
    removed_RD: FloatArray
    removed_RK: FloatArray

    def add_rows(self, sign: int) -> None:
        """Put the rows back (+1) or take them out (-1), in place and exactly, strip by strip."""
        for start in range(0, len(self.matrix_DD), CHUNK):
            self.matrix_DD[start : start + CHUNK] += sign * (
                self.removed_RD[:, start : start + CHUNK].T @ self.removed_RD
            )
        self.moment_DK[:] += sign * (self.removed_RD.T @ self.removed_RK)

    def set_penalty(self, new: float, old: float = 0.0) -> None:
        """Put another penalty on every coordinate but the last, an indicator: it keeps 1, and so lambda_min is 1."""
        at = np.arange(len(self.matrix_DD) - 1)
        self.matrix_DD[at, at] += new - old


def make_head(kind: str, width: int) -> Head:
    """A head over ``width`` coordinates, without penalties but the indicator's."""
    rng = np.random.default_rng(1)
    factors = min(width, FACTORS)
    mixing_FD = rng.standard_normal((factors, width)) / np.arange(1, factors + 1)[:, None]
    mixing_FD /= np.linalg.norm(mixing_FD, axis=0)
    truth_D = rng.standard_normal(width) * 2 / np.sqrt(width)
    expert_D = np.arange(width) * EXPERTS // width
    shared_D = rng.random(width) < 0.02 if kind == "shared" else np.zeros(width, dtype=bool)
    matrix_DD, moment_DK = np.zeros((width, width)), np.zeros((width, 1))
    removed = np.zeros((0, width)), np.zeros((0, 1))
    for start in range(0, ROWS, CHUNK):
        values_ND = np.tanh(rng.standard_normal((CHUNK, factors)) @ mixing_FD + rng.normal(0, 0.1, (CHUNK, width)))
        if kind != "dense":
            expert = start * EXPERTS // ROWS  # a chunk is one expert's rows, or a part of them
            values_ND[:, (expert_D != expert) & ~shared_D] = 0.0
        values_ND[:, -1] = 2.0 if kind == "dense" or expert == EXPERTS - 1 else 0.0
        phi_ND = np.rint(values_ND / 2.0 * 2048) / 2048
        label_NK = np.rint((phi_ND @ truth_D + rng.normal(0, 0.5, CHUNK)).clip(-3, 3) * 1024)[:, None] / 1024
        if start == 0:
            removed = phi_ND[:WITHDRAWN].copy(), label_NK[:WITHDRAWN].copy()
        _add_product(matrix_DD, phi_ND)
        moment_DK += phi_ND.T @ label_NK
    matrix_DD[-1, -1] += 1.0
    head = Head(matrix_DD, moment_DK, *removed)
    head.add_rows(-1)
    return head


def _add_product(matrix_DD: FloatArray, phi_ND: FloatArray) -> None:
    """Add phi^T phi to the matrix over the coordinates that any row lights; no second matrix."""
    at = np.flatnonzero(phi_ND.any(axis=0))
    lit_NS = phi_ND[:, at]
    for start in range(0, len(at), 2 * CHUNK):
        strip = at[start : start + 2 * CHUNK]
        rows_SS = lit_NS[:, start : start + 2 * CHUNK].T @ lit_NS
        if len(at) == len(matrix_DD):
            matrix_DD[start : start + 2 * CHUNK] += rows_SS
        else:
            matrix_DD[np.ix_(strip, at)] += rows_SS


def measure(head: Head, kind: str, penalty: float) -> dict[str, Any]:
    """Each way's median time, as a ratio to the full solve's, and what each needed."""
    width = len(head.matrix_DD)
    tau, mu = ReleasePolicy().tau, ReleasePolicy().head_mu
    head.add_rows(+1)
    factor = full_factor(head.matrix_DD)
    before_DK = factor(head.moment_DK)
    head.add_rows(-1)
    sigma = sigma_for(2 * tau, mu)
    released_DK = before_DK + np.random.default_rng(2).normal(0, sigma, before_DK.shape)

    def way(**options: Any) -> Callable[[], Solution]:
        return lambda: solve(head.matrix_DD, head.moment_DK, tau=tau, **options)

    repeats = REPEATS[width]
    measured = {WITH_FACTOR: timed(way(start_DK=released_DK, precondition=factor, direct_width=0), repeats)}
    del factor  # never more than two matrices: the full solve makes a factor of its own
    measured[RELEASED] = timed(way(start_DK=released_DK, direct_width=0), repeats)
    measured[NOTHING] = timed(way(direct_width=0), repeats)
    measured[NO_NOISE] = timed(way(start_DK=before_DK), repeats)
    full = timed(way(direct_width=width), repeats)
    step = 2.0 ** (np.floor(np.log2(sigma)) - 28)  # the release grid of docs/guarantees.md, Claim 3
    weights_DK = way(start_DK=released_DK)().weights_DK
    _, on_grid = residual(head.matrix_DD, head.moment_DK, np.rint(weights_DK / step) * step)
    for found in measured.values():
        found["times_faster"] = round(full["seconds"] / found.pop("seconds"), 2)
    return {
        "case": kind,
        "penalty": penalty,
        "repeats": repeats,
        "width": width,
        "touched": round(float((head.removed_RD != 0).any(axis=0).mean()), 3),
        "frobenius_norm": float(f"{np.linalg.norm(head.matrix_DD):.3g}"),
        "full_solve_seconds": round(full["seconds"], 4),
        "residual_bound_on_release_grid": float(f"{on_grid:.2g}"),
        "ways": measured,
    }


def timed(way: Callable[[], Solution], repeats: int) -> dict[str, Any]:
    """Median processor seconds (other programs on the machine count for little), and what the last run needed."""
    seconds, found = [], None
    for _ in range(repeats):
        begin = time.process_time()
        found = way()
        seconds.append(time.process_time() - begin)
    assert found is not None
    return {
        "seconds": statistics.median(seconds),
        "candidates": found.candidates,
        "iterations": found.iterations,
        "widenings": found.widenings,
        "residual_bound": float(f"{found.residual_bound:.2g}"),
    }


def draw(measured: list[dict[str, Any]]) -> None:
    """One panel for each case: how many times faster than the full solve, over the width."""
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "mbd"  # the same results draw the same file
    figure, axes = plt.subplots(1, len(CASES), figsize=(12, 3.4), sharey=True, layout="constrained")
    for axis, (kind, penalty) in zip(axes, CASES, strict=True):
        mine = [row for row in measured if (row["case"], row["penalty"]) == (kind, penalty)]
        widths = [row["width"] for row in mine]
        for name, colour in COLOURS.items():
            axis.plot(widths, [row["ways"][name]["times_faster"] for row in mine], "o-", color=colour, label=name)
        axis.axhline(1.0, color="#b8c4cc", linewidth=1)
        axis.set(xscale="log", yscale="log", xlabel="coordinates", xlim=(WIDTHS[0] / 1.3, WIDTHS[-1] * 1.3))
        axis.set_xticks(WIDTHS, [f"{width / 1000:g}k" for width in WIDTHS])
        axis.set_yticks(RATIOS, [f"{ratio:g}" for ratio in RATIOS])
        axis.minorticks_off()
        axis.set_title(f"{kind}, penalty {penalty:g}", fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("times faster than the full solve")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(PICTURE, metadata={"Date": None})


def main() -> None:
    """Measure, print, and write when all widths were asked for."""
    if os.environ.get("OMP_NUM_THREADS") is None:
        raise SystemExit("Set OMP_NUM_THREADS, so that the result can say how many threads BLAS had.")
    asked = tuple(int(argument) for argument in sys.argv[1:])
    measured: list[dict[str, Any]] = []
    for width in asked or WIDTHS:
        cases = [case for case, largest in CASES.items() if width <= largest]
        for kind in dict.fromkeys(kind for kind, _ in cases):
            head, before = make_head(kind, width), 0.0
            for penalty in (penalty for case, penalty in cases if case == kind):
                head.set_penalty(penalty, before)
                before = penalty
                measured.append(measure(head, kind, penalty))
                print(json.dumps(measured[-1]), flush=True)
            del head
        if not asked:  # after each width, so that an interrupted run has something to show
            write(measured)


def write(measured: list[dict[str, Any]]) -> None:
    """Results and picture of the widths measured so far."""
    build: Any = np.show_config(mode="dicts")
    about = {
        "blas_threads": int(os.environ["OMP_NUM_THREADS"]),
        "blas": build["Build Dependencies"]["blas"]["name"],
        "rows": ROWS,
        "tau": ReleasePolicy().tau,
        "python": platform.python_version(),
        "machine": platform.machine(),
        **{name: metadata.version(name) for name in ("numpy", "scipy")},
    }
    RESULTS.write_text(json.dumps({"environment": about, "measured": measured}, indent=1) + "\n")
    draw(measured)


if __name__ == "__main__":
    main()
