"""The networks of the zoo on real people: what `mbd benchmark` does, on the cohorts of ``shared/data``.

    python -m benchmarks.zoo mosi [FOLDER]
    python -m benchmarks.zoo ravdess [FOLDER]

Each writes ``benchmarks/results/zoo-<cohort>.json`` and the pictures ``docs/images/zoo-<cohort>-*.svg``;
`benchmarks.readme` writes the tables into ``docs/benchmarks.md``. Five seeds. MOSI by its official split, RAVDESS
by the first fold of actors: four test actors, so that whoever is tested matters more than there. With a folder each
network's result is kept there, and an interrupted run goes on.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from benchmarks.cohorts import DATA, RESULTS, SEEDS
from mbd.backbones.zoo import ZOO
from mbd.benchmark.figures import draw
from mbd.benchmark.leaderboard import Leaderboard, balance_and_cost, by_protocol, with_all_channels
from mbd.benchmark.plan import Plan, telling_protocols
from mbd.benchmark.runner import run
from mbd.cohort import folder
from mbd.cohort.cohort import Cohort
from mbd.cohort.importers.mosi import mosi
from mbd.cohort.importers.ravdess import ravdess, ravdess_fold
from mbd.training import recipes
from mbd.training.recipe import Recipe

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "images"
JOBS = 2


def cohort_of(name: str) -> tuple[Cohort, Recipe]:
    """The rows, and the recipe that we ship for them."""
    if name == "mosi":
        return mosi(DATA / "mosi", seed=0), recipes.mosi()
    return ravdess(DATA / "ravdess", **ravdess_fold(0, 0)), recipes.ravdess()


def main(name: str, kept: Path | None) -> None:
    """Run one cohort, and write its results."""
    cohort, recipe = cohort_of(name)
    plan = Plan(recipe, tuple(ZOO), SEEDS, telling_protocols(cohort))
    with tempfile.TemporaryDirectory(prefix="mbd-zoo-") as place, Progress(console=Console(stderr=True)) as progress:
        stored = Path(place) / "cohort"
        folder.write(cohort, stored, key=bytes(32))
        bar = progress.add_task(name, total=1.0)
        results = run(
            plan,
            stored,
            out=kept or Path(place) / "out",
            jobs=JOBS,
            on_progress=lambda done, about: progress.update(bar, completed=done, description=about),
        )
        board = Leaderboard(results, cohort.modalities)
        for path in draw(board, Path(place)):
            shutil.copyfile(path, PICTURES / f"zoo-{name}-{path.name}")
    tables = {make.__name__: make(board) for make in (with_all_channels, by_protocol, balance_and_cost)}
    found = {"cohort": cohort.name, "seeds": SEEDS, "metric": board.headline, "people": len(results[0].rows), **tables}
    (RESULTS / f"zoo-{name}.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or sys.argv[1] not in ("mosi", "ravdess"):
        sys.exit("usage: python -m benchmarks.zoo mosi|ravdess [FOLDER]")
    main(sys.argv[1], Path(sys.argv[2]) if len(sys.argv) == 3 else None)
