"""A line that is trained on an opened folder: the bits of one in memory, flat memory, and nothing left of a failure."""

import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from mbd.cohort import folder
from mbd.cohort.cohort import Partition, Split
from mbd.cohort.modality import Modality
from mbd.errors import ChannelSuppressedError, CohortError
from mbd.records import models
from mbd.records.database import begin_snapshot
from mbd.workflow.live import load_live_model
from mbd.workflow.revocation import revoke
from mbd.workflow.training import exposure_of, train_line


@pytest.fixture
def opened(cohort, tmp_path):
    """The cohort in a folder of its own, opened; a piece is smaller than it."""
    folder.write(cohort, tmp_path / "import", key=bytes(32))
    return folder.open_pieces(tmp_path / "import")


@pytest.fixture
def begin(system, recipe):
    """``begin(cohort)`` trains a second line on it, as the first one was trained."""
    return partial(train_line, system, recipe=recipe, line="pieces", seed=0)


def test_a_line_from_a_folder_has_the_bits_of_one_from_memory(system, begin, opened, cohort, monkeypatch):
    in_memory = load_live_model(system, system.live("main"))
    monkeypatch.setattr(folder, "PIECE_ROWS", 7)
    trained = begin(opened)
    assert trained.model.statistics == in_memory.statistics
    assert trained.model.layout == in_memory.layout
    for group, scaling in in_memory.featurizer.scalings.items():
        assert np.array_equal(trained.model.featurizer.scalings[group].centre, scaling.centre)
    one, other = ((system.model_folder(line, 1) / "backbone.safetensors").read_bytes() for line in ("main", "pieces"))
    assert one == other
    assert exposure_of(system, opened) == exposure_of(system, cohort)


def test_a_line_from_a_folder_forgets_as_any_other(system, begin, opened, people, check):
    begin(opened)
    results = revoke(system, [(people[0], Modality.AUDIO)])
    assert {result.line for result in results} == {"main", "pieces"}
    for result in results:
        check(system, result)


def test_what_was_withdrawn_is_refused_in_a_folder_or_dropped_on_the_way(system, begin, opened, people, audio):
    revoke(system, [(people[0], audio)])
    with pytest.raises(ChannelSuppressedError, match="holds audio of 1 subject"):
        begin(opened)
    assert not system.version_folder("pieces", 1).exists()
    begin(opened, drop_channels=True)
    own = folder.read(system.cohort_folder("pieces", 1)).where(subject=people[0])
    assert len(own)
    assert not any(audio in own.present(i) for i in range(len(own)))


def test_rows_that_change_while_a_line_is_trained_leave_no_line(system, begin, opened):
    path = Path(str(opened.place)) / "rows.parquet"
    content = path.read_bytes()
    path.write_bytes(content)
    with pytest.raises(CohortError, match="has changed since it was opened"):
        begin(opened)
    with begin_snapshot(system.engine) as connection:
        assert not models.versions(connection, "pieces")
    begin(folder.open_pieces(path.parent))


@pytest.fixture(scope="module")
def long_cohorts(cohort, tmp_path_factory):
    """Cohorts with 400 and 3,000 revocable training rows, each with 12 kB of face: 5 and 37 MB."""
    base, rng = tmp_path_factory.mktemp("long"), np.random.default_rng(0)
    public = [i for i, row in enumerate(cohort.rows) if row.partition is Partition.PUBLIC]
    pool = [i for i, row in enumerate(cohort.rows) if (row.partition, row.split) == (Partition.REVOCABLE, Split.TRAIN)]
    channel = replace(cohort.channels[Modality.VISION], kind="sequence", dim=384)
    face = rng.normal(size=(8, 384)).astype(np.float32)
    for rows in (400, 3000):
        many = cohort.select([*public, *rng.choice(pool, size=rows)])
        faces = tuple(face + rng.normal(size=384).astype(np.float32) for _ in range(len(many)))
        folder.write(
            replace(
                many,
                rows=tuple(replace(row, clip=f"clip-{i}") for i, row in enumerate(many.rows)),
                channels={**many.channels, Modality.VISION: channel},
                features={**many.features, Modality.VISION: faces},
            ),
            base / f"line-{rows}",
            key=bytes(32),
        )
    return base


MALLOC = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""Whatever is freed goes back at once: what is measured is what is held, not what the allocator keeps."""


def growth(how, base, home):
    """By how many MB the peak of a training process rises from 400 to 3,000 revocable rows."""
    script = Path(__file__).with_name("train_memory.py")
    places = [home, base / "line-400", base / "line-3000"]
    done = subprocess.run(
        [sys.executable, script, how, *places],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **MALLOC},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return float(done.stdout)


def test_memory_of_a_training_does_not_grow_with_revocable_rows(long_cohorts, tmp_path):
    assert growth("pieces", long_cohorts, tmp_path / "home") < 25


def test_the_measurement_can_fail(long_cohorts, tmp_path):
    assert growth("memory", long_cohorts, tmp_path / "home") > 33
