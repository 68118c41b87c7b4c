"""A leaderboard as pictures: what is lost with the channels, how evenly they count, and what an answer costs.

Pictures are SVG, and the same results give the same bytes. It measures nothing.
"""

from io import BytesIO
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mbd.backbones.zoo import ZOO
from mbd.benchmark.leaderboard import METRICS, Leaderboard
from mbd.cohort.protocols import Protocol
from mbd.durable import write_durably

_COLOURS = (
    "#1b6ca8",
    "#c1662f",
    "#3b8f5a",
    "#8e5aa8",
    "#b0892a",
    "#b8476b",
    "#3f8f94",
    "#6b6b6b",
    "#7a8f3b",
    "#444b8c",
)
_LINES = ("-", "--", "-.", ":")
_MARKERS = ("o", "s", "^", "v", "D", "P", "X")


def draw(board: Leaderboard, out: Path) -> list[Path]:
    """Every picture that these results have something for, in a folder; their paths."""
    made = []
    with mpl.rc_context({"svg.hashsalt": "mbd", "svg.fonttype": "path"}):
        if board.of_protocol(Protocol.RATES):
            made.append(_save(_rates(board), out / "missing-rates.svg"))
        if any(board.mei(name) and board.mli(name) for name in board.backbones):
            made.append(_save(_balance(board), out / "balance.svg"))
        made.append(_save(_cost(board), out / "cost.svg"))
    return made


def _rates(board: Leaderboard) -> Figure:
    """The headline over the missing rate: a line a network, a band of one standard deviation over seeds."""
    figure, axes = _figure(8, 4.5)
    names = board.of_protocol(Protocol.RATES)
    rates = [float(name.partition("/")[2]) for name in names]
    for backbone in board.backbones:
        found = [board.spread(backbone, [name], board.headline) for name in names]
        mean = np.array([spread.mean for spread in found])
        sd = np.array([spread.sd or 0.0 for spread in found])
        colour, line, _ = _style(backbone)
        axes.plot(rates, mean, color=colour, linestyle=line, label=backbone)
        axes.fill_between(rates, mean - sd, mean + sd, color=colour, alpha=0.1, linewidth=0)
    axes.set_xlabel("probability that a channel of a row is missing")
    axes.set_ylabel(METRICS[board.headline])
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return figure


def _balance(board: Leaderboard) -> Figure:
    """MEI against MLI: evenly used is up, evenly learnt is left."""
    figure, axes = _figure(7.5, 4.5)
    for backbone in board.backbones:
        mei, mli = board.mei(backbone), board.mli(backbone)
        if mei and mli:
            _point(axes, backbone, mli.mean, mei.mean, xerr=mli.sd, yerr=mei.sd)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    axes.set_xlabel("MLI: how unevenly modalities learn (ours)")
    axes.set_ylabel("MEI: how evenly they contribute (ours)")
    return figure


def _cost(board: Leaderboard) -> Figure:
    """The headline, averaged over all conditions, against the milliseconds of an answer."""
    figure, axes = _figure(7.5, 4.5)
    for backbone in board.backbones:
        spread, cost = board.spread(backbone, board.conditions, board.headline), board.milliseconds(backbone)
        _point(axes, backbone, cost, spread.mean, xerr=None, yerr=spread.sd)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(_plain)
    axes.xaxis.set_minor_formatter(_plain)
    axes.set_xlabel("CPU milliseconds a row (batch of 32, one thread)")
    axes.set_ylabel(f"{METRICS[board.headline]}, mean over all conditions")
    return figure


def _style(backbone: str) -> tuple[str, str, str]:
    """Colour, line and marker, alike in every picture."""
    n = list(ZOO).index(backbone)
    return _COLOURS[n % len(_COLOURS)], _LINES[n % len(_LINES)], _MARKERS[n % len(_MARKERS)]


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _point(axes: Axes, backbone: str, x: float, y: float, *, xerr: float | None, yerr: float | None) -> None:
    """One network with its standard deviations over seeds."""
    colour, _, marker = _style(backbone)
    axes.errorbar(x, y, xerr=xerr, yerr=yerr, fmt=marker, color=colour, elinewidth=0.7, label=backbone)


def _plain(value: float, _position: float) -> str:
    """A tick of a logarithmic axis: 1, 2 and 5 of each power of ten, without an exponent."""
    return f"{value:g}" if f"{value:e}"[0] in "125" else ""


def _save(figure: Figure, path: Path) -> Path:
    buffer = BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    write_durably(path, buffer.getvalue())
    return path
