from dataclasses import fields

import numpy as np
import pytest
import torch

from mbd.backbones.base import Backbone, ChannelShape, Interface
from mbd.backbones.zoo import ZOO, build
from mbd.cohort.batch import Batch
from mbd.cohort.modality import Modality, in_order

SHAPES = {
    Modality.TEXT: ChannelShape(dim=7, sequence=False),
    Modality.AUDIO: ChannelShape(dim=5, sequence=True),
    Modality.VISION: ChannelShape(dim=3, sequence=True),
}
SMALL = {"width": 8, "property_width": 6}


@pytest.fixture
def make_backbone():
    """A freshly drawn network over some channels, small and with every option at its default unless given."""

    def make(
        name: str = "mbd", channels=tuple(Modality), outputs: int = 1, seed: int = 0, **options: float
    ) -> Backbone:
        torch.manual_seed(seed)
        interface = Interface({m: SHAPES[m] for m in in_order(channels)}, outputs)
        known = {field.name for field in fields(ZOO[name].Options)}
        small = {option: size for option, size in SMALL.items() if option in known}
        return build(name, interface, {**small, **options}).eval()

    return make


@pytest.fixture
def make_random_batch():
    """Random rows: ragged sequences that lost frames, channels missing at random (never all), garbage in padding."""

    def make(rows: int = 6, channels=tuple(Modality), outputs: int = 1, seed: int = 0, extra_frames: int = 0) -> Batch:
        rng = np.random.default_rng(seed)
        features, valid, observed = {}, {}, {}
        present = np.zeros((rows, 3), dtype=bool)
        columns = [list(Modality).index(m) for m in channels]
        present[:, columns] = rng.random((rows, len(columns))) < 0.7
        present[np.arange(rows), rng.choice(columns, rows)] = True
        for m in in_order(channels):
            shape = SHAPES[m]
            frames = 4 if shape.sequence else 1
            lengths = rng.integers(1, frames + 1, rows)
            values = rng.standard_normal((rows, frames, shape.dim))
            padding = rng.standard_normal((rows, extra_frames if shape.sequence else 0, shape.dim))
            features[m] = torch.from_numpy(np.concatenate([values, padding], axis=1)).float()
            valid[m] = torch.from_numpy(np.arange(features[m].shape[1])[None] < lengths[:, None])
            arrived = torch.from_numpy(rng.random(valid[m].shape) < 0.8)
            arrived[np.arange(rows), rng.integers(0, lengths)] = True
            observed[m] = valid[m] & arrived
        target = torch.from_numpy(rng.standard_normal((rows, outputs))).float()
        return Batch(features, valid, observed, torch.from_numpy(present), target)

    return make


@pytest.fixture(scope="session")
def descend():
    """Descent on one loss term of a network; the term's first and last value."""

    def down(backbone, batch, term, steps=60):
        values = []
        optimiser = torch.optim.AdamW(backbone.parameters(), lr=0.01, weight_decay=0.0)
        for _ in range(steps):
            loss = backbone.losses(backbone(batch), batch)[term]
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            values.append(loss.item())
        return values[0], values[-1]

    return down
