"""What a deletion costs at D = 448: beside n, beside a refit of the heads, beside training everything again.

    OMP_NUM_THREADS=1 python -m benchmarks.deletion

Writes ``benchmarks/results/deletion.json``, from which ``benchmarks.readme`` makes a table and
``benchmarks.deletion_picture`` a picture. It takes a few minutes and reads MOSI from ``../shared/data``.

Three vector channels of 128, 64 and 25 numbers and embeddings of 32 make 7 (32 + 1) + 217 = 448 coordinates. Every row
has all three channels: the dearest case. All seconds are processor time of this process, BLAS and torch on one
thread: waiting for other programs does not count, and a second thread could hide no work. Compared
things are measured in turns within one run; figures are medians.
"""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from benchmarks.ridge import complete_rows
from mbd.cohort.cohort import Channel, Cohort, Partition, Row, Split, Task
from mbd.cohort.importers.mosi import mosi
from mbd.cohort.modality import Modality, pattern_name
from mbd.deletion.comparator import refit
from mbd.deletion.downdate import downdate
from mbd.deletion.engine import delete
from mbd.deletion.outcome import Outcome, Revocation
from mbd.lattice.featurizer import CHUNK_ROWS, Featurizer
from mbd.lattice.fit import fit_lattice, training_rows
from mbd.lattice.layout import Layout
from mbd.lattice.model import LatticeModel
from mbd.lattice.release import Head, ReleasePolicy, release_heads, solve_head
from mbd.lattice.statistics import Statistics
from mbd.metrics.sentiment import evaluate
from mbd.privacy.noise import NoiseSource
from mbd.training import recipes
from mbd.training.loop import train

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
TARGET = Path(__file__).with_name("results") / "deletion.json"
DIMS = {Modality.TEXT: 128, Modality.AUDIO: 64, Modality.VISION: 25}
POOLS = {Modality.TEXT: 4096, Modality.AUDIO: 4093, Modality.VISION: 4091}  # no common factor: no two rows are equal
SIZES = (10_000, 100_000, 1_000_000)
SLICE = 10_000
CLIPS = 10
PUBLIC = {Split.TRAIN: 6_400, Split.VALID: 640}
SINGLES, BATCHES, PEOPLE = 60, 5, 1_000
REPEATS = 15
RELEASES = 20
TAU, PENALTY = 1e-5, 10.0  # with tau = 1e-6 or lambda_min = 1, rounding alone can pass tau at a million rows
SALT = b"a benchmark's salt is no secret."
NOISE = NoiseSource(b"a benchmark's noise is no secret")

Step = Callable[[], None]


def synthetic_people(revocable: int) -> Cohort:
    """Public people and ``revocable`` revocable training rows, `CLIPS` a person; vectors are shared by many rows."""
    rng = np.random.default_rng(0)
    pools = {m: list(rng.standard_normal((POOLS[m], dim)).astype(np.float32)) for m, dim in DIMS.items()}
    means = {m: np.array([float(vector[:8].mean()) for vector in pool]) for m, pool in pools.items()}
    places = [(Partition.PUBLIC, split) for split, rows in PUBLIC.items() for _ in range(rows)]
    places += [(Partition.REVOCABLE, Split.TRAIN)] * revocable
    numbers = np.arange(len(places))
    scores = np.clip(sum(3 * means[m][numbers % POOLS[m]] for m in DIMS), -3.0, 3.0).tolist()
    rows = tuple(
        Row(f"clip-{i}", f"person-{i // CLIPS}", scores[i], partition, split)
        for i, (partition, split) in enumerate(places)
    )
    return Cohort(
        name="a million clips",
        description="Numbers made by a program, of no person.",
        synthetic=True,
        task=Task("regression", low=-3.0, high=3.0),
        channels={m: Channel(m, "vector", dim, extractor="synthetic") for m, dim in DIMS.items()},
        rows=rows,
        features={m: tuple(pool[i % POOLS[m]] for i in range(len(rows))) for m, pool in pools.items()},
    )


def training_seconds_per_row(cohort: Cohort) -> tuple[torch.nn.Module, float]:
    """A backbone of the shipped recipe after two epochs on the public people, and the second epoch's cost a row."""
    at: list[float] = []
    recipe = replace(recipes.synthetic(), epochs=2)
    trained = train(recipe, cohort, seed=0, on_progress=lambda *_: at.append(time.process_time()))
    return trained.backbone, (at[1] - at[0]) / PUBLIC[Split.TRAIN]


def summed(featurizer: Featurizer, cohort: Cohort, step: Step) -> dict[int, tuple[Statistics, float]]:
    """Statistics of the public rows and the first n revocable ones, and the seconds that they took, for each n."""
    public = sum(PUBLIC.values())
    started = time.process_time()
    total = featurizer.statistics(training_rows(cohort.select(range(public))))
    seconds = time.process_time() - started
    found = {}
    for done in range(SLICE, SIZES[-1] + 1, SLICE):
        part = cohort.select(range(public + done - SLICE, public + done))
        started = time.process_time()
        total += featurizer.statistics(part)
        seconds += time.process_time() - started
        if done in SIZES:
            found[done] = (total, seconds)
        step()
    return found


def line_of(cohort: Cohort, featurizer: Featurizer, total: Statistics) -> tuple[LatticeModel, float]:
    """The model line with these statistics, and the seconds that solving and releasing all heads took."""
    policy = ReleasePolicy(tau=TAU)
    started = time.process_time()
    released = release_heads(
        featurizer.layout,
        total,
        featurizer.layout.patterns,
        policy=policy,
        noise=NOISE,
        purpose="benchmark/1",
        commitment=total.commitment(SALT),
    )
    seconds = time.process_time() - started
    return LatticeModel(cohort.task, featurizer, total, SALT, released.heads, policy), seconds


def withdraw(model: LatticeModel, cohort: Cohort, people: Sequence[int], spent: Sequence[float]) -> Outcome:
    """Take the voices of these people, numbered among the revocable ones, out of the model."""
    first = sum(PUBLIC.values()) // CLIPS
    pairs = frozenset((f"person-{first + person}", Modality.AUDIO) for person in people)
    revocation = Revocation(pairs, "00" * 32)
    return delete(model, cohort, revocation, noise=NOISE, occasion="benchmark/2", spent=spent, salt=SALT)


def single_deletions(models: dict[int, LatticeModel], cohorts: dict[int, Cohort], step: Step) -> dict[int, list[float]]:
    """Seconds of `SINGLES` deletions in a row, each from the model that the one before left; the sizes take turns.

    Other people's deletions change no row of a person, so one cohort's rows serve the whole series. The first three
    deletions warm up and do not count.
    """
    seconds: dict[int, list[float]] = {n: [] for n in SIZES}
    models, spent = dict(models), []
    for person in range(SINGLES + 3):
        for n in SIZES:
            started = time.process_time()
            outcome = withdraw(models[n], cohorts[n], [person], spent)
            seconds[n].append(time.process_time() - started)
            assert outcome.mechanism == "lattice-newton", "the series stays within the line's budget"
            models[n] = outcome.model
        spent.append(outcome.guarantee.mu)
        step()
    everybody = [(f"person-{sum(PUBLIC.values()) // CLIPS + person}", Modality.AUDIO) for person in range(SINGLES + 3)]
    reference = refit(models[SIZES[0]], cohorts[SIZES[0]], Revocation(frozenset(everybody), ""))
    assert models[SIZES[0]].statistics == reference.statistics, "deletions must equal the refit, bit for bit"
    return {n: found[3:] for n, found in seconds.items()}


def batch_deletions(model: LatticeModel, cohort: Cohort, step: Step) -> list[float]:
    """Seconds of deletions of `PEOPLE` people at once."""
    seconds = []
    for batch in range(BATCHES):
        people = range((batch + 1) * PEOPLE, (batch + 2) * PEOPLE)
        started = time.process_time()
        outcome = withdraw(model, cohort, people, [])
        seconds.append(time.process_time() - started)
        assert outcome.rows_touched == PEOPLE * CLIPS
        step()
    return seconds


def parts(model: LatticeModel, cohort: Cohort) -> dict[str, float]:
    """Median seconds of the parts of one deletion; the release once from the old heads and once from nothing."""
    pairs = {(f"person-{sum(PUBLIC.values()) // CLIPS}", Modality.AUDIO)}
    rows = cohort.of_subjects(subject for subject, _ in pairs)
    after = rows.without(pairs)
    down = downdate(model.featurizer, model.statistics, rows, after).statistics
    patterns = [pattern for pattern in model.layout.patterns if Modality.AUDIO in pattern]

    def release(start: dict[Any, Head] | None) -> None:
        release_heads(
            model.layout, down, patterns, policy=model.policy, noise=NOISE, purpose="", commitment="", start=start
        )

    return in_turns(
        {
            "downdate": lambda: downdate(model.featurizer, model.statistics, rows, after),
            "commitment": lambda: down.commitment(SALT),
            "release_newton": lambda: release(dict(model.heads)),
            "release_from_nothing": lambda: release(None),
        }
    )


def accumulation(featurizer: Featurizer, cohort: Cohort) -> dict[str, float]:
    """Median seconds a row: the plain product of chunks of features, and the checked, accumulated statistics."""
    chunks = []
    for start in range(0, 16 * CHUNK_ROWS, CHUNK_ROWS):
        rows = range(start, start + CHUNK_ROWS)
        chunks.append((featurizer.features(cohort, rows), featurizer.labels(cohort, rows)))
    copies = [phi_ND.copy() for phi_ND, _ in chunks]
    grid, layout = featurizer.grid, featurizer.layout
    seconds = in_turns(
        {
            "statistics": lambda: Statistics.accumulate(grid, layout.width, cohort.task.outputs, chunks),
            "product": lambda: [phi_ND.T @ phi_ND for phi_ND, _ in chunks],
            "general_product": lambda: [p.T @ q for (p, _), q in zip(chunks, copies, strict=True)],
        }
    )
    return {name: value / (len(chunks) * CHUNK_ROWS) for name, value in seconds.items()}


def in_turns(work: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Median seconds of each, over `REPEATS` rounds in which they take turns; the first round does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(REPEATS + 1):
        for name, do in work.items():
            started = time.process_time()
            do()
            seconds[name].append(time.process_time() - started)
    return {name: statistics.median(found[1:]) for name, found in seconds.items()}


def accuracy_lost(step: Step) -> dict[str, Any]:
    """Points that the release noise costs on MOSI's official test rows: `RELEASES` releases beside no noise at all.

    It measures the noise alone: weights, penalties and solutions are the same on both sides, and nothing is selected.
    """
    cohort = mosi(DATA / "mosi")
    backbone = train(recipes.mosi(), cohort, seed=0).backbone
    step()
    policy = ReleasePolicy()
    model = fit_lattice(backbone, cohort, policy=policy, noise=NOISE, purpose="accuracy", salt=SALT)
    quiet = {
        pattern: replace(
            head, weights_DK=solve_head(model.layout, model.statistics, pattern, policy=model.policy).weights_DK
        )
        for pattern, head in model.heads.items()
    }
    models = [replace(model, heads=quiet)]
    for number in range(RELEASES):
        noise = NoiseSource(number.to_bytes(32, "big"))
        released = release_heads(
            model.layout,
            model.statistics,
            model.layout.patterns,
            policy=model.policy,
            noise=noise,
            purpose="accuracy",
            commitment="",
        )
        models.append(replace(model, heads=released.heads))
    step()
    lost = {}
    for pattern in cohort.patterns:
        rows = complete_rows(cohort, pattern)
        outputs = [m.predict(rows).outputs_NK for m in models]
        scores = [evaluate(rows.targets, made, cohort.task) for made in outputs]
        lost[pattern_name(pattern)] = {
            metric: 100 * (scores[0][metric] - statistics.fmean(score[metric] for score in scores[1:]))
            for metric in ("acc2_non0", "acc2_has0")
        } | {
            "rows": len(rows),
            "largest_shift": max(float(np.abs(made - outputs[0]).max()) for made in outputs[1:]),
            "smallest_output": float(np.abs(outputs[0]).min()),
        }
    return {"epsilon": policy.epsilon, "delta": policy.delta, "releases": RELEASES, "points": lost}


def memory_mib(name: str) -> float:
    """A figure of /proc/self/status in MiB: ``VmRSS`` now, ``VmHWM`` at its highest since `forget_peak`."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024


def forget_peak() -> None:
    """Start `VmHWM` anew (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    """Measure everything and write the results."""
    bar = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), auto_refresh=False)
    if os.environ.get("OMP_NUM_THREADS") != "1":
        sys.exit("set OMP_NUM_THREADS=1: what is compared must run on one core")
    with bar:

        def stage(name: str, total: int) -> Step:
            task = bar.add_task(name, total=total)
            bar.refresh()
            return lambda: (bar.advance(task), bar.refresh())[1]

        step = stage("a million rows, a backbone", 2)
        cohort = synthetic_people(SIZES[-1])
        rows_mib = memory_mib("VmRSS")  # with the rows and the libraries, before there is a model: the strict side
        step()
        public = cohort.select(range(sum(PUBLIC.values())))
        backbone, training = training_seconds_per_row(public)
        step()
        featurizer = Featurizer.fit(backbone, public.where(split=Split.TRAIN))
        layout = featurizer.layout
        penalties = dict.fromkeys(layout.groups, PENALTY)
        featurizer = featurizer.with_layout(Layout(layout.raw_widths, layout.embedding, penalties, PENALTY))
        forget_peak()
        sums = summed(featurizer, cohort, stage("statistics of all rows", SIZES[-1] // SLICE))
        peak = memory_mib("VmHWM") - rows_mib

        started = time.process_time()
        people = len(cohort.rows_of)
        index_seconds = time.process_time() - started
        cohorts = {n: cohort.select(range(sum(PUBLIC.values()) + n)) for n in SIZES}
        models, solving = {}, {}
        for n, (total, _) in sums.items():
            models[n], solving[n] = line_of(cohort, featurizer, total)
        singles = single_deletions(models, cohorts, stage("single deletions", SINGLES + 3))
        largest = SIZES[-1]
        batches = batch_deletions(models[largest], cohorts[largest], stage("a thousand people at once", BATCHES))
        step = stage("parts, products", 2)
        pieces = parts(models[largest], cohorts[largest])
        step()
        products = accumulation(featurizer, cohort)
        step()
        lost = accuracy_lost(stage("noise on MOSI", 2))

    recipe = recipes.synthetic()
    refitting = {n: seconds + solving[n] for n, (_, seconds) in sums.items()}
    result = {
        "environment": {
            "python": platform.python_version(),
            **{name: metadata.version(name).partition("+")[0] for name in ("numpy", "scipy", "torch")},
            "threads": "OMP_NUM_THREADS=1",
            "clock": "processor time",
        },
        "line": {
            "width": featurizer.layout.width,
            "tau": TAU,
            "lambda_min": PENALTY,
            "epsilon": ReleasePolicy().epsilon,
        },
        "clips_per_person": CLIPS,
        "deletion_seconds": {str(n): statistics.median(found) for n, found in singles.items()},
        "deletion_quartiles": {str(n): statistics.quantiles(found)[::2] for n, found in singles.items()},
        "parts_seconds": pieces,
        "batch": {"people": PEOPLE, "seconds": statistics.median(batches)},
        "index": {"people": people, "seconds": index_seconds},
        "refit_seconds": {str(n): seconds for n, seconds in refitting.items()},
        "solve_all_heads_seconds": statistics.median(solving.values()),
        "retraining": {
            "seconds": {str(n): recipe.epochs * n * training + refitting[n] for n in SIZES},
            "epochs": recipe.epochs,
            "batch_size": recipe.batch_size,
            "extrapolated_from_steps": PUBLIC[Split.TRAIN] // recipe.batch_size,
        },
        "accumulation_seconds_per_row": products,
        "peak_memory_mib": peak,
        "accuracy": lost,
    }
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
