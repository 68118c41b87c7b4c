"""Peak memory and time of the statistics of synthetic cohorts, in pieces and in memory. Prints one row a cohort.

    python -m benchmarks.streaming 10000 100000

Each measurement is a process of its own; the peak (VmHWM) is the part above the loaded model.
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
from mbd.cohort.cohort import Cohort
from mbd.cohort.synthetic import synthetic_cohort
from mbd.lattice.fit import fit_lattice, training_rows
from mbd.lattice.model import load_model, save_model
from mbd.lattice.release import ReleasePolicy
from mbd.lattice.streaming import stream_statistics
from mbd.privacy.noise import NoiseSource
from mbd.training.loop import train
from mbd.training.recipe import Recipe

OPTIONS = {"width": 16, "property_width": 8}


def write_cohort(base: Cohort, rows: int, path: Path) -> None:
    """A cohort of so many training rows: those of a small one, each with noise of its own."""
    rng = np.random.default_rng(0)
    pool = training_rows(base)
    many = pool.select(rng.integers(len(pool), size=rows))
    noisy = {
        m: tuple(None if f is None else f + rng.standard_normal(f.shape, np.float32) for f in column)
        for m, column in many.features.items()
    }
    named = tuple(replace(row, clip=f"clip-{i}") for i, row in enumerate(many.rows))
    folder.write(replace(many, rows=named, features=noisy), path, key=bytes(32))


def peak() -> float:
    """This process's peak so far, MB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text("utf-8"))
    assert found
    return int(found[1]) / 1024


def measure(how: str, model: Path, cohort: Path) -> None:
    """Print MB above the loaded model, seconds, and the statistics' commitment."""
    loaded = load_model(model)
    before, start = peak(), time.perf_counter()
    if how == "pieces":
        statistics = stream_statistics(loaded.featurizer, folder.open_pieces(cohort))
    else:
        statistics = loaded.featurizer.statistics(training_rows(folder.read(cohort)))
    print(peak() - before, time.perf_counter() - start, statistics.commitment(loaded.salt))


def main(sizes: list[int]) -> None:
    """One table."""
    with tempfile.TemporaryDirectory() as name:
        base, place = synthetic_cohort(sequence=True), Path(name)
        trained = train(Recipe(epochs=1, options=OPTIONS), base, seed=0)
        model = fit_lattice(
            trained.backbone,
            base,
            policy=ReleasePolicy(),
            noise=NoiseSource(b"n" * 32),
            purpose="benchmark",
            salt=b"s" * 32,
        )
        save_model(model, place / "model", cohort_root="c" * 64)
        for rows in sizes:
            path = place / str(rows)
            write_cohort(base, rows, path)
            size = sum(file.stat().st_size for file in path.iterdir()) / 2**20
            bits = set()
            for how in ("pieces", "memory"):
                command = [sys.executable, "-m", "benchmarks.streaming", how, place / "model", path]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                megabytes, seconds, commitment = done.stdout.split()
                bits.add(commitment)
                print(
                    f"{rows:>9,} rows {size:7.0f} MB on disk  {how}: {float(megabytes):7.1f} MB {float(seconds):6.1f} s"
                )
            print(f"          the same bits: {'yes' if len(bits) == 1 else 'NO'}")


if __name__ == "__main__":
    if sys.argv[1] in {"pieces", "memory"}:
        measure(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        main([int(size) for size in sys.argv[1:]])
