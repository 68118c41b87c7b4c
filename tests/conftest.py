"""What every test may rely on: loopback only, one thread, small real cohorts and models, real data if present."""

import ipaddress
import os
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # pytest-xdist already uses every core

settings.register_profile("mbd", deadline=None, print_blob=True)
settings.load_profile("mbd")

ROOT = Path(__file__).resolve().parents[1]
REAL_DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch):
    """A test that reaches beyond this machine fails, whatever the library."""
    connect = socket.socket.connect

    def guarded(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6):
            host = address[0]
            assert host == "localhost" or ipaddress.ip_address(host).is_loopback, f"a test tried to reach {host}"
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch, tmp_path):
    """The person's own state folder and MBD_ variables stay out of the tests."""
    for name in [name for name in os.environ if name.startswith("MBD_") and not name.startswith("MBD_TEST_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """``real_data("mosi")`` is the folder, or a visible skip."""

    def folder(name: str) -> Path:
        if not (REAL_DATA / name).is_dir():
            pytest.skip(f"real data is absent: ../shared/data/{name}")
        return REAL_DATA / name

    return folder


@pytest.fixture(scope="session")
def random_cohort():
    """``random_cohort(seed)``: a small cohort with three ragged channels, missing at random, some of it sequences."""
    from mbd.cohort.cohort import Channel, Cohort, Partition, Row, Split, Task
    from mbd.cohort.modality import Modality

    def make(seed: int, *, subjects: int = 9, clips: int = 3, classes: int = 0, label_policy: str = "keeps") -> Cohort:
        rng = np.random.default_rng(seed)
        dims = {Modality.TEXT: 3, Modality.AUDIO: 2, Modality.VISION: 2}
        names = tuple(f"class-{k}" for k in range(classes))
        rows, features = [], {m: [] for m in dims}
        for s in range(subjects):
            public = s < 4
            split = Split.VALID if s == 3 else Split.TEST if s == subjects - 1 else Split.TRAIN
            for c in range(clips):
                label = names[rng.integers(classes)] if classes else float(rng.integers(-30, 31) / 10)
                rows.append(
                    Row(f"s{s}-c{c}", f"s{s}", label, Partition.PUBLIC if public else Partition.REVOCABLE, split)
                )
                has = np.ones(3, bool) if public and c == 0 else rng.random(3) < 0.7
                has[rng.integers(3)] = True
                for m, keep in zip(dims, has, strict=True):
                    shape = (dims[m],) if m is Modality.TEXT else (int(rng.integers(1, 5)), dims[m])
                    features[m].append(rng.normal(size=shape).astype(np.float32) if keep else None)
        return Cohort(
            name=f"random-{seed}",
            description="Random numbers for tests.",
            synthetic=True,
            task=Task(
                "classification" if classes else "regression",
                *((0.0, 1.0) if classes else (-3.0, 3.0)),
                classes=names,
                label_derived_from=(Modality.AUDIO,),
                label_policy=label_policy,
            ),
            channels={
                m: Channel(m, "vector" if m is Modality.TEXT else "sequence", dims[m], extractor="random") for m in dims
            },
            rows=tuple(rows),
            features={m: tuple(column) for m, column in features.items()},
        )

    return make


@pytest.fixture(scope="session")
def fit_small():
    """``fit_small(cohort)``: a lattice model on a small, untrained, real MBD backbone."""
    import torch

    from mbd.backbones.base import Interface
    from mbd.backbones.zoo import build
    from mbd.cohort.cohort import Partition, Split
    from mbd.lattice.featurizer import Featurizer
    from mbd.lattice.fit import training_rows
    from mbd.lattice.model import LatticeModel
    from mbd.lattice.release import ReleasePolicy, release_heads
    from mbd.privacy.noise import NoiseSource

    salt = b"s" * 32

    def fit(cohort, *, policy=None, noise=None):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            backbone = build("mbd", Interface.of(cohort), {"width": 4, "property_width": 4})
        public = cohort.where(partition=Partition.PUBLIC, split=Split.TRAIN)
        backbone.standardiser.fit(public)
        featurizer = Featurizer.fit(backbone, public)
        statistics = featurizer.statistics(training_rows(cohort))
        policy, layout = policy or ReleasePolicy(), featurizer.layout
        rows = featurizer.head_rows(training_rows(cohort), salt=salt) if policy.loss == "cross-entropy" else None
        released = release_heads(
            layout,
            statistics,
            layout.patterns,
            policy=policy,
            noise=noise or NoiseSource(b"n" * 32),
            purpose="initial",
            commitment=statistics.commitment(salt),
            rows=rows,
        )
        return LatticeModel(cohort.task, featurizer, statistics, salt, released.heads, policy)

    return fit


@pytest.fixture(scope="session")
def tower_recipe():
    """Three shards for the voice, one private tower for the face: as small and quick as they can be."""
    from mbd.training.recipe import Recipe
    from mbd.training.tower_recipe import PrivateRecipe, ShardedRecipe, TowerRecipe

    def tower(modality):
        return TowerRecipe(modality, width=3, epochs=1, batch_size=8)

    # Slow enough for the noise to leave a tower whose answers differ, whatever this processor's first weights are.
    private = PrivateRecipe(tower("vision"), rate=0.1, noise_multiplier=8.0, steps=4, subjects=8, learning_rate=0.01)
    return Recipe(
        options={"width": 4, "property_width": 4}, sharded=(ShardedRecipe(tower("audio"), 3),), private=(private,)
    )


@pytest.fixture(scope="session")
def fit_towers(tower_recipe):
    """``fit_towers(cohort)``: version 1 of a line with towers over a small, untrained, real MBD backbone."""
    import torch

    from mbd.backbones.base import Interface
    from mbd.backbones.zoo import build
    from mbd.cohort.cohort import Partition, Split
    from mbd.deletion.towers import train_towers
    from mbd.lattice.fit import Line, fit_lattice
    from mbd.lattice.release import ReleasePolicy
    from mbd.privacy.noise import NoiseSource

    noise = NoiseSource(b"n" * 32)

    def fit(
        cohort, recipe=tower_recipe, *, policy=None, shard_key=b"k" * 32, seed=3, purpose="line/1", entangled=False
    ):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            backbone = build("mbd", Interface.of(cohort), {"width": 4, "property_width": 4})
        backbone.standardiser.fit(cohort.where(partition=Partition.PUBLIC, split=Split.TRAIN))
        names = [name for entry in recipe.towers for name in entry.names()]
        towers = train_towers(recipe, cohort, names, seed=seed, shard_key=shard_key, noise=noise, purpose=purpose)
        return fit_lattice(
            backbone,
            cohort,
            policy=policy or ReleasePolicy(),
            noise=noise,
            purpose=purpose,
            salt=b"s" * 32,
            line=Line(entangled, towers, recipe.to_json(), seed, shard_key),
        )

    return fit


@pytest.fixture(scope="session")
def make_media():
    """Write a file with a second of each colour (red, green, blue) and a tone [Hz]; None leaves a track out."""

    import av

    def make(path, *, colours=((200, 30, 30),), tone=440.0):
        with av.open(str(path), "w") as container:
            seconds = len(colours or (None,))
            video = audio = None
            if colours is not None:
                video = container.add_stream("mpeg4", rate=10)
                video.width = video.height = 64
                video.pix_fmt = "yuv420p"
            if tone is not None:
                audio = container.add_stream("aac" if colours is not None else "flac", rate=16_000, layout="mono")
            for n in range(10 * seconds) if video else ():
                picture = np.broadcast_to(np.array(colours[n // 10], np.uint8), (64, 64, 3)).copy()
                container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            if audio:
                sound = np.sin(2 * np.pi * tone * np.arange(16_000 * seconds) / 16_000) * 8000
                frame = av.AudioFrame.from_ndarray(sound.astype(np.int16)[None], format="s16", layout="mono")
                frame.sample_rate = 16_000
                for piece in av.AudioResampler(format=audio.format, layout="mono", rate=16_000).resample(frame):
                    container.mux(audio.encode(piece))
            for stream in filter(None, (video, audio)):
                container.mux(stream.encode(None))
        return path

    return make
