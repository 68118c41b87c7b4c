"""Peak memory and time of statistics and of whole trainings, in pieces and in memory. Prints one row a measurement.

    python -m benchmarks.streaming 2000 8000

The cohorts are synthetic: a small public part, and so many revocable training rows, each with 12 kB of face. Each
measurement is a process of its own; the peak (VmHWM) is the part above the same work on the public part alone.
"""

import re
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from mbd.cohort import folder
from mbd.cohort.cohort import Cohort, Partition, Split
from mbd.cohort.modality import Modality
from mbd.cohort.synthetic import synthetic_cohort
from mbd.lattice.fit import fit_lattice, training_rows
from mbd.lattice.model import load_model, save_model
from mbd.lattice.release import ReleasePolicy
from mbd.lattice.streaming import stream_statistics
from mbd.privacy.noise import NoiseSource
from mbd.settings import Settings
from mbd.training.loop import train
from mbd.training.recipe import Recipe
from mbd.workflow.system import open_system
from mbd.workflow.training import train_line

RECIPE = Recipe(epochs=1, options={"width": 16, "property_width": 8})
FRAMES, NUMBERS = 8, 384


def make_cohort(base: Cohort, rows: int) -> Cohort:
    """The public and test rows of a small cohort, and so many revocable training rows, with noise of their own."""
    rng = np.random.default_rng(0)
    pool = [i for i, r in enumerate(base.rows) if (r.partition, r.split) == (Partition.REVOCABLE, Split.TRAIN)]
    others = [i for i in range(len(base)) if i not in set(pool)]
    many = base.select([*others, *rng.choice(pool, size=rows)])
    face = Modality.VISION
    shape = (FRAMES, NUMBERS)
    faces = tuple(rng.standard_normal(shape, np.float32) if f is not None else None for f in many.features[face])
    return replace(
        many,
        rows=tuple(replace(row, clip=f"clip-{i}") for i, row in enumerate(many.rows)),
        channels={**many.channels, face: replace(many.channels[face], kind="sequence", dim=NUMBERS)},
        features={**many.features, face: faces},
    )


def peak() -> float:
    """This process's peak so far, MB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text("utf-8"))
    assert found
    return int(found[1]) / 1024


def statistics_of(how: str, place: Path, cohort: Path) -> str:
    """Their commitment."""
    loaded = load_model(place / "model")
    if how == "pieces":
        statistics = stream_statistics(loaded.featurizer, folder.open_pieces(cohort))
    else:
        statistics = loaded.featurizer.statistics(training_rows(folder.read(cohort)))
    return statistics.commitment(loaded.salt)


def line_of(how: str, place: Path, cohort: Path) -> str:
    """The commitment to the statistics of a line that is trained, under a salt that is always the same."""
    with tempfile.TemporaryDirectory(dir=place) as home, open_system(Settings(home=Path(home)), create=True) as system:
        rows = folder.open_pieces(cohort) if how == "pieces" else folder.read(cohort)
        trained = train_line(system, rows, RECIPE, line="line", seed=0)
        return trained.model.statistics.commitment(b"s" * 32)


def measure(what: str, how: str, place: Path, cohort: Path) -> None:
    """Print MB above the same work on the public part, seconds, and what says whether the bits are the same."""
    work = {"statistics": statistics_of, "training": line_of}[what]
    work(how, place, place / "0")
    before, start = peak(), time.perf_counter()
    result = work(how, place, cohort)
    print(peak() - before, time.perf_counter() - start, result)


def main(sizes: list[int]) -> None:
    """One table."""
    with tempfile.TemporaryDirectory() as name:
        base, place = synthetic_cohort(), Path(name)
        public = make_cohort(base, 0)
        backbone = train(RECIPE, public, seed=0).backbone
        model = fit_lattice(
            backbone, public, policy=ReleasePolicy(), noise=NoiseSource(b"n" * 32), purpose="x", salt=b"s" * 32
        )
        save_model(model, place / "model", cohort_root="c" * 64)
        for rows in (0, *sizes):
            folder.write(make_cohort(base, rows), place / str(rows), key=bytes(32))
        for rows in sizes:
            size = sum(file.stat().st_size for file in (place / str(rows)).iterdir()) / 2**20
            for what in ("statistics", "training"):
                bits = set()
                for how in ("pieces", "memory"):
                    command = [sys.executable, "-m", "benchmarks.streaming", what, how, place, place / str(rows)]
                    done = subprocess.run(command, capture_output=True, text=True, check=True)
                    megabytes, seconds, result = done.stdout.split()
                    bits.add(result)
                    print(f"{rows:>8,} rows {size:5.0f} MB  {what:<10} {how}: ", end="")
                    print(f"{float(megabytes):7.1f} MB {float(seconds):6.1f} s", flush=True)
                print(f"          the same bits: {'yes' if len(bits) == 1 else 'NO'}", flush=True)


if __name__ == "__main__":
    if sys.argv[1] in {"statistics", "training"}:
        measure(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
    else:
        main([int(size) for size in sys.argv[1:]])
