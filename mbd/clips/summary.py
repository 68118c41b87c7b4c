"""What outlets say and show, month by month: how aspects are spoken of, and which scenes are seen.

A number of too few people says something of these people, and is left out. It runs no stage.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mbd.clips.manifest import Clip
from mbd.clips.reading import Reading
from mbd.clips.stages import Sentiment
from mbd.durable import write_durably

_COLOURS = ("#1b6ca8", "#c1662f", "#3b8f5a", "#8e5aa8", "#b0892a", "#b8476b", "#3f8f94", "#6b6b6b")


@dataclass(frozen=True)
class Cell:
    """One outlet in one month.

    Attributes:
        month: as 2026-11.
        clips: how many files; one that is listed twice is one.
        people: how many different subjects they have, and no more than there are files.
        sentiments: of each aspect of which enough people speak, in how many clips it is spoken of how.
        scene: the kind that most clips mostly show, the first of equals; None without any, or if of too few people.
    """

    outlet: str
    month: str
    clips: int
    people: int
    sentiments: dict[str, Counter[Sentiment]]
    scene: str | None

    def balance(self, aspect: str) -> float | None:
        """The share of positive clips less that of negative ones, of those that speak of it; None if none does."""
        counts = self.sentiments.get(aspect, Counter())
        if not counts.total():
            return None
        return (counts[Sentiment.POSITIVE] - counts[Sentiment.NEGATIVE]) / counts.total()


def summarise(clips: Sequence[Clip], readings: Sequence[Reading], *, least_people: int) -> list[Cell]:
    """Cells by outlet and month, without those of fewer people than ``least_people``, nor numbers in them of fewer."""
    together: defaultdict[tuple[str, str], list[tuple[Clip, Reading]]] = defaultdict(list)
    for clip, reading in zip(clips, readings, strict=True):
        together[clip.outlet, f"{clip.published:%Y-%m}"].append((clip, reading))
    cells = (_cell(outlet, month, found, least_people) for (outlet, month), found in sorted(together.items()))
    return [cell for cell in cells if cell.people >= least_people]


def _cell(outlet: str, month: str, found: Sequence[tuple[Clip, Reading]], least_people: int) -> Cell:
    spoken: defaultdict[str, list[Reading]] = defaultdict(list)
    shown: defaultdict[str, list[Reading]] = defaultdict(list)
    for _, reading in found:
        for opinion in reading.opinions or ():
            spoken[opinion.aspect].append(reading)
        if reading.scene is not None:
            shown[reading.scene].append(reading)
    most = max(shown, key=lambda kind: len(_files(shown[kind])), default=None)
    return Cell(
        outlet=outlet,
        month=month,
        clips=len(_files([reading for _, reading in found])),
        people=_people([reading for _, reading in found]),
        sentiments={
            aspect: Counter(o.sentiment for r in _files(said) for o in r.opinions or () if o.aspect == aspect)
            for aspect, said in spoken.items()
            if _people(said) >= least_people
        },
        scene=most if most is not None and _people(shown[most]) >= least_people else None,
    )


def _files(readings: Sequence[Reading]) -> list[Reading]:
    """One reading of each file."""
    return list({reading.media: reading for reading in readings}.values())


def _people(readings: Sequence[Reading]) -> int:
    return min(len({reading.subject for reading in readings}), len(_files(readings)))


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
    """The balance of each aspect over the months as SVG: a panel an aspect, a line an outlet. No aspect, no picture."""
    if not aspects_of(cells):
        return
    buffer = BytesIO()
    with mpl.rc_context({"svg.hashsalt": "mbd", "svg.fonttype": "path"}):
        figure_of(cells).savefig(buffer, format="svg", metadata={"Date": None})
    write_durably(path, buffer.getvalue())


def figure_of(cells: Sequence[Cell]) -> Figure:
    """What `draw` writes, of cells that speak of an aspect."""
    aspects = aspects_of(cells)
    months, outlets = sorted({cell.month for cell in cells}), sorted({cell.outlet for cell in cells})
    figure = Figure(figsize=(7, 2 + 1.8 * len(aspects)), layout="constrained")
    panels = figure.subplots(len(aspects), 1, sharex=True, squeeze=False)[:, 0]
    lines: dict[str, Line2D] = {}
    for aspect, axes in zip(aspects, panels, strict=True):
        for n, outlet in enumerate(outlets):
            mine = [(cell.month, cell.balance(aspect)) for cell in cells if cell.outlet == outlet]
            points = [(months.index(month), balance) for month, balance in mine if balance is not None]
            if points:
                (lines[outlet],) = axes.plot(*zip(*points, strict=True), "o-", color=_COLOURS[n % len(_COLOURS)])
        axes.set_title(aspect, loc="left", fontsize=10, parse_math=False)
        axes.set_ylim(-1.1, 1.1)
        axes.axhline(0, color="#cccccc", linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xticks(range(len(months)), months)
    figure.supylabel("share positive less share negative", fontsize=9)
    shown = sorted(lines)
    legend = figure.legend(
        [lines[outlet] for outlet in shown], [" "] * len(shown), loc="outside right upper", frameon=False, fontsize=9
    )
    for outlet, text in zip(shown, legend.get_texts(), strict=True):  # labels "_name" would be left out
        text.set_parse_math(False)
        text.set_text(outlet)
    return figure
