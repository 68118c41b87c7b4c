"""What outlets say and show, month by month: how aspects are spoken of, and which scenes are seen.

A cell of too few people says something of these people, and is left out. It runs no stage.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from mbd.clips.manifest import Clip
from mbd.clips.pipeline import Reading
from mbd.clips.stages import Sentiment
from mbd.durable import write_durably

_COLOURS = ("#1b6ca8", "#c1662f", "#3b8f5a", "#8e5aa8", "#b0892a", "#b8476b", "#3f8f94", "#6b6b6b")


@dataclass(frozen=True)
class Cell:
    """One outlet in one month.

    Attributes:
        month: as 2026-11.
        people: how many different subjects its clips have.
        sentiments: of each aspect, in how many clips it is spoken of how.
        scenes: how many clips mostly show each kind.
    """

    outlet: str
    month: str
    clips: int
    people: int
    sentiments: dict[str, Counter[Sentiment]]
    scenes: Counter[str]

    @property
    def scene(self) -> str | None:
        """The kind that most clips mostly show; None without any."""
        return self.scenes.most_common(1)[0][0] if self.scenes else None

    def balance(self, aspect: str) -> float | None:
        """The share of positive clips less that of negative ones, of those that speak of it; None if none does."""
        counts = self.sentiments.get(aspect, Counter())
        if not counts.total():
            return None
        return (counts[Sentiment.POSITIVE] - counts[Sentiment.NEGATIVE]) / counts.total()


def summarise(clips: Sequence[Clip], readings: Sequence[Reading], *, least_people: int) -> list[Cell]:
    """Cells by outlet and month, without those of fewer people than ``least_people``."""
    together: defaultdict[tuple[str, str], list[tuple[Clip, Reading]]] = defaultdict(list)
    for clip, reading in zip(clips, readings, strict=True):
        together[clip.outlet, f"{clip.published:%Y-%m}"].append((clip, reading))
    cells = (_cell(outlet, month, found) for (outlet, month), found in sorted(together.items()))
    return [cell for cell in cells if cell.people >= least_people]


def _cell(outlet: str, month: str, found: Sequence[tuple[Clip, Reading]]) -> Cell:
    sentiments: defaultdict[str, Counter[Sentiment]] = defaultdict(Counter)
    for _, reading in found:
        for opinion in reading.opinions:
            sentiments[opinion.aspect][opinion.sentiment] += 1
    scenes = Counter(reading.scene for _, reading in found if reading.scene is not None)
    people = len({clip.subject for clip, _ in found})
    return Cell(outlet, month, len(found), people, dict(sentiments), scenes)


def aspects_of(cells: Sequence[Cell]) -> list[str]:
    """Every aspect that a cell speaks of."""
    return sorted({aspect for cell in cells for aspect in cell.sentiments})


def to_json(cell: Cell) -> dict[str, Any]:
    """A cell as plain JSON, with the balance of each aspect that it speaks of."""
    balances = {aspect: cell.balance(aspect) for aspect in cell.sentiments}
    return {
        "outlet": cell.outlet,
        "month": cell.month,
        "clips": cell.clips,
        "people": cell.people,
        "scene": cell.scene,
        "scenes": dict(cell.scenes),
        "balances": balances,
    }


def rows_of(cells: Sequence[Cell]) -> Iterator[list[object]]:
    """For a table: outlet, month, clips, people, the scene of most clips, and the balance of each aspect."""
    aspects = aspects_of(cells)
    for cell in cells:
        balances = [cell.balance(aspect) for aspect in aspects]
        shown = ["-" if balance is None else f"{balance:+.2f}" for balance in balances]
        yield [cell.outlet, cell.month, cell.clips, cell.people, cell.scene or "-", *shown]


def draw(cells: Sequence[Cell], path: Path) -> None:
    """The balance of each aspect over the months as SVG: a panel an aspect, a line an outlet. No cell, no picture."""
    aspects = aspects_of(cells)
    months, outlets = sorted({cell.month for cell in cells}), sorted({cell.outlet for cell in cells})
    if not aspects:
        return
    figure = Figure(figsize=(7, 2 + 1.8 * len(aspects)), layout="constrained")
    panels = figure.subplots(len(aspects), 1, sharex=True, squeeze=False)[:, 0]
    for aspect, axes in zip(aspects, panels, strict=True):
        for n, outlet in enumerate(outlets):
            mine = [(cell.month, cell.balance(aspect)) for cell in cells if cell.outlet == outlet]
            points = [(months.index(month), balance) for month, balance in mine if balance is not None]
            label = outlet if axes is panels[0] else None
            axes.plot(
                *zip(*points, strict=True), "o-", color=_COLOURS[n % len(_COLOURS)], label=label
            ) if points else None
        axes.set_title(aspect, loc="left", fontsize=10)
        axes.set_ylim(-1.1, 1.1)
        axes.axhline(0, color="#cccccc", linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xticks(range(len(months)), months)
    figure.supylabel("share positive less share negative", fontsize=9)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    buffer = BytesIO()
    with mpl.rc_context({"svg.hashsalt": "mbd", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    write_durably(path, buffer.getvalue())
