"""Rows in, integers out: phi(i) on the grid, the same bits however the rows are batched. It knows no statistics.

Everything that shapes a feature (centre, scale, backbone, grid, layout) is a public constant, fitted on the public
partition alone. Block B of phi(i) is a function of the channels in B of row i.

Why the bits do not depend on batching: the backbone runs in float64, where batching moves an embedding by about
1e-13; a value that lies so close to a rounding boundary that such a difference could matter (one coordinate in a
million) is computed again from its row alone, and that result counts.

Legend: N rows, D coordinates, F features of one channel, K outputs.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from mbd.backbones.base import Backbone, isolate
from mbd.backbones.tower import Tower
from mbd.cohort.batch import Batch, make_batch
from mbd.cohort.cohort import Cohort, Task
from mbd.cohort.modality import Modality, ModalitySet, pattern_name
from mbd.errors import CohortError
from mbd.lattice.cross_entropy import HeadRows
from mbd.lattice.layout import Block, Layout, group_names
from mbd.lattice.statistics import LABEL_BITS, Grid, Statistics

FloatArray = NDArray[np.float64]

FEATURE_BITS = 11
BATCH_ROWS = 512
"""Rows that the backbone embeds at once: its activations are the largest thing in memory."""

CHUNK_ROWS = 1024
"""Rows that are multiplied at once: enough that a product costs more than adding it to the total."""

_SPREAD = 4.0  # standard deviations that fit into [-1, 1]
_AMBIGUOUS = 2.0**-20  # grid steps around a rounding boundary; float64 embeddings differ by far less
_LEAST_RAW_SPREAD = 1e-12  # a channel's own numbers have the same bits in every batch: only constants are left out
_LEAST_LEARNED_SPREAD = 1e-3  # an embedding that hardly varies would be scaled until its last bits count


@dataclass(frozen=True)
class Scaling:
    """A public affine map of one coordinate group: ``clip((x - centre) * factor, -1, 1)``.

    Attributes:
        centre: float64 [F], the mean over public training rows.
        factor: float64 [F], 1 / (4 SD) over the same rows; 0 where a feature hardly varies.
    """

    centre: FloatArray
    factor: FloatArray

    @classmethod
    def fit(cls, values_NF: FloatArray, *, least_spread: float) -> "Scaling":
        """Centre and factor of public rows; a feature whose 4 SD are at most ``least_spread`` gets factor 0."""
        spread = _SPREAD * values_NF.std(axis=0)
        factor = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > least_spread)
        return cls(values_NF.mean(axis=0), factor)

    def __call__(self, values_NF: FloatArray) -> FloatArray:
        """The scaled and clipped values."""
        return np.clip((values_NF - self.centre) * self.factor, -1.0, 1.0)


@dataclass(frozen=True)
class Featurizer:
    """The public map from a row to its integer features.

    Attributes:
        backbone: in float64 and evaluation mode.
        layout: what each coordinate means.
        grid: the integer grid.
        scalings: one for each group of the layout; a tower's is of the tower's own provenance.
        towers: networks of one channel each, by name, in float64 and evaluation mode.
    """

    backbone: Backbone
    layout: Layout
    grid: Grid
    scalings: Mapping[str, Scaling]
    towers: Mapping[str, Tower] = field(default_factory=dict)

    @classmethod
    def fit(cls, backbone: Backbone, public: Cohort, *, feature_bits: int = FEATURE_BITS) -> "Featurizer":
        """Constants from public training rows; every penalty starts at 1 (see `mbd.lattice.selection`).

        Raises:
            CohortError: a channel or a combination of channels that no public row has.
        """
        backbone = copy.deepcopy(backbone).double().eval()  # the caller's weights stay as they were trained
        raw_widths = {modality: public.channels[modality].dim for modality in public.modalities}
        groups = group_names(raw_widths, backbone.embedding_dim)
        layout = Layout(raw_widths, backbone.embedding_dim, dict.fromkeys(groups, 1.0))
        scalings = {}
        for block in layout.blocks:
            at = _rows_with(public, block.channels)
            if not at:
                raise CohortError(
                    f"No public training row has {' and '.join(sorted(block.channels))} together.",
                    remedy="put rows with every combination of channels into the public partition",
                )
            if block.raw:
                scalings[f"{block.name}.raw"] = Scaling.fit(_channel(public, at, block), least_spread=_LEAST_RAW_SPREAD)
            if block.learned:
                scalings[f"{block.name}.learned"] = Scaling.fit(
                    _embedding(backbone, public, at, block.channels), least_spread=_LEAST_LEARNED_SPREAD
                )
        return cls(backbone, layout, Grid(feature_bits, label_limit(public.task)), scalings)

    def with_layout(self, layout: Layout) -> "Featurizer":
        """The same map with other penalties, or with fewer modalities."""
        scalings = {group: self.scalings[group] for group in layout.groups}
        towers = {name: self.towers[name] for name in layout.towers}
        return Featurizer(self.backbone, layout, self.grid, scalings, towers)

    def with_towers(self, towers: Mapping[str, Tower], public: Cohort) -> "Featurizer":
        """The same map with the output of more towers, scaled by what they make of public training rows.

        A tower takes the penalty that the embedding of its channel has: a constant, chosen without a look at the tower.

        Raises:
            CohortError: no public training row has a tower's channel.
        """
        mine = {name: copy.deepcopy(tower).double().eval() for name, tower in towers.items()}
        scalings, penalties = dict(self.scalings), dict(self.layout.penalties)
        for name, tower in mine.items():
            at = _rows_with(public, frozenset({tower.modality}))
            if not at:
                raise CohortError(
                    f"No public training row has {tower.modality}, from which the scale of a tower's output comes.",
                    remedy="put rows with that channel into the public partition",
                )
            scalings[name] = Scaling.fit(_outputs(tower, public, at), least_spread=_LEAST_LEARNED_SPREAD)
            penalties[name] = self.layout.penalties[f"{pattern_name([tower.modality])}.learned"]
        widths = {**self.layout.towers, **{name: tower.embedding_dim for name, tower in mine.items()}}
        layout = replace(self.layout, towers=dict(sorted(widths.items())), penalties=penalties)
        return Featurizer(self.backbone, layout, self.grid, scalings, {**self.towers, **mine})

    def features(self, cohort: Cohort, rows: Sequence[int]) -> FloatArray:
        """The features of these rows, integer-valued float64 [N, D]; a block that a row lacks is all zeros."""
        phi_ND = np.zeros((len(rows), self.layout.width))
        for start in range(0, len(rows), BATCH_ROWS):
            self._fill(phi_ND[start : start + BATCH_ROWS], cohort, rows[start : start + BATCH_ROWS])
        return phi_ND

    def head_inputs(self, cohort: Cohort, rows: Sequence[int], pattern: ModalitySet) -> FloatArray:
        """What the head of one availability pattern reads of these rows, in the features' units: float64 [N, D_A]."""
        scale = 2.0**-self.grid.feature_bits
        return self.features(cohort, rows)[:, self.layout.coordinates(pattern)] * scale

    def labels(self, cohort: Cohort, rows: Sequence[int]) -> FloatArray:
        """Labels of these rows on the grid, integer-valued float64 [N, K]."""
        return self.grid.label_integers(cohort.targets[list(rows)])

    def statistics(self, cohort: Cohort, *, chunk_rows: int = CHUNK_ROWS) -> Statistics:
        """G, c and n of all rows of a cohort that have a channel in force, streamed in chunks.

        Raises:
            ExactnessError: the sums could reach 2^53.
        """
        in_force = frozenset(self.layout.modalities)
        rows = [i for i in range(len(cohort)) if cohort.present(i) & in_force]
        self.grid.require(len(rows))
        return Statistics.accumulate(
            self.grid, self.layout.width, cohort.task.outputs, self._chunks(cohort, rows, chunk_rows)
        )

    def head_rows(self, cohort: Cohort, *, salt: bytes) -> HeadRows:
        """All rows of a cohort that have a channel in force, for heads without finite statistics; all are in memory."""
        in_force = frozenset(self.layout.modalities)
        rows = [i for i in range(len(cohort)) if cohort.present(i) & in_force]
        phi_ND = self.features(cohort, rows) * 2.0**-self.grid.feature_bits
        return HeadRows(phi_ND, cohort.targets[rows], salt)

    def _chunks(self, cohort: Cohort, rows: Sequence[int], chunk_rows: int) -> Iterator[tuple[FloatArray, FloatArray]]:
        for start in range(0, len(rows), chunk_rows):
            chunk = rows[start : start + chunk_rows]
            yield self.features(cohort, chunk), self.labels(cohort, chunk)

    def _fill(self, phi_ND: FloatArray, cohort: Cohort, rows: Sequence[int]) -> None:
        """Write the features of one batch of rows over zeros."""
        batch = make_batch(cohort, rows, dtype=torch.float64)
        having = {block: _positions(batch, block.channels) for block in self.layout.blocks}
        embedded = _embed_all(self.backbone, batch, having) if self.layout.embedding else {}
        for block, position in having.items():
            phi_ND[position, block.indicator] = 1.0
            if block.raw and len(position):
                phi_ND[position, block.raw_at] = _channel(cohort, [rows[n] for n in position], block)
            if block.learned:
                phi_ND[position, block.learned_at] = embedded[block]
            for name, at in block.towers_at.items() if len(position) else ():
                phi_ND[position, at] = _output(self.towers[name], batch.select(torch.from_numpy(position)))
        one = float(1 << self.grid.feature_bits)
        steps_ND = self._scaling(phi_ND) * one
        for block, position in having.items():
            if len(position) < len(rows):
                steps_ND[np.setdiff1d(np.arange(len(rows)), position), block.start : block.stop] = 0.0
        self._settle(steps_ND, cohort, rows, having)
        np.rint(steps_ND, out=phi_ND)

    def _settle(
        self, steps_ND: FloatArray, cohort: Cohort, rows: Sequence[int], having: Mapping[Block, NDArray[np.intp]]
    ) -> None:
        """Compute again, from its row alone, what lies so near a rounding boundary that the batch could decide."""
        near_ND = np.abs(steps_ND - np.floor(steps_ND) - 0.5) < _AMBIGUOUS
        one = float(1 << self.grid.feature_bits)
        for block, position in having.items() if near_ND.any() else ():
            for n in position[near_ND[position, block.learned_at].any(axis=1)].tolist():
                alone_1D = _embedding(self.backbone, cohort, [rows[n]], block.channels)
                steps_ND[n, block.learned_at] = self.scalings[f"{block.name}.learned"](alone_1D)[0] * one
            for name, at in block.towers_at.items():
                for n in position[near_ND[position, at].any(axis=1)].tolist():
                    steps_ND[n, at] = self.scalings[name](_outputs(self.towers[name], cohort, [rows[n]]))[0] * one

    @cached_property
    def _scaling(self) -> Scaling:
        """The scalings of all groups as one; indicators stay as they are."""
        centre_D, factor_D = np.zeros(self.layout.width), np.ones(self.layout.width)
        for block in self.layout.blocks:
            for group, at in block.groups_at.items():
                centre_D[at], factor_D[at] = self.scalings[group].centre, self.scalings[group].factor
        return Scaling(centre_D, factor_D)


def label_limit(task: Task) -> int:
    """The largest label of a task on the grid 2^-10, from its public declaration."""
    largest = 1.0 if task.kind == "classification" else max(abs(task.low), abs(task.high))
    return int(np.ceil(largest * 2**LABEL_BITS))


def _positions(batch: Batch, channels: ModalitySet) -> NDArray[np.intp]:
    """Positions of the rows that have all of these channels, ascending."""
    columns = [column for column, modality in enumerate(Modality) if modality in channels]
    return np.flatnonzero(batch.present.numpy()[:, columns].all(axis=1))


def _embed_all(backbone: Backbone, batch: Batch, having: Mapping[Block, NDArray[np.intp]]) -> dict[Block, FloatArray]:
    """h_B [N, D] for the rows that have each block.

    All (row, block) pairs stand in one queue and go through the network `BATCH_ROWS` at a time: for one person's few
    rows that is one pass instead of one a block.
    """
    position = np.concatenate(list(having.values()))
    blocks = [block.channels for block, mine in having.items() for _ in mine]
    embedded = [np.zeros((0, backbone.embedding_dim))]
    for start in range(0, len(position), BATCH_ROWS):
        queued = slice(start, start + BATCH_ROWS)
        embedded.append(backbone.embed_each(batch.select(torch.from_numpy(position[queued])), blocks[queued]).numpy())
    ends = np.cumsum([len(mine) for mine in having.values()])[:-1]
    return dict(zip(having, np.split(np.concatenate(embedded), ends), strict=True))


def _rows_with(cohort: Cohort, channels: ModalitySet) -> list[int]:
    return [i for i in range(len(cohort)) if channels <= cohort.present(i)]


def _channel(cohort: Cohort, at: Sequence[int], block: Block) -> FloatArray:
    """The channel itself, float64 [N, F]; a sequence is represented by the mean of its frames."""
    (modality,) = block.channels
    return np.stack([_frames_mean(cohort, i, modality) for i in at])


def _frames_mean(cohort: Cohort, row: int, modality: Modality) -> FloatArray:
    feature = cohort.feature(row, modality).astype(np.float64)
    return feature if feature.ndim == 1 else np.asarray(feature.mean(axis=0))


def _embedding(backbone: Backbone, cohort: Cohort, at: Sequence[int], channels: ModalitySet) -> FloatArray:
    chunks = []
    for start in range(0, len(at), BATCH_ROWS):
        batch = make_batch(cohort, at[start : start + BATCH_ROWS], dtype=torch.float64)
        chunks.append(backbone.embed(batch, channels).numpy())
    return np.concatenate(chunks)


def _outputs(tower: Tower, cohort: Cohort, at: Sequence[int]) -> FloatArray:
    """What a tower makes of these rows, float64 [N, E]; it is handed its own channel and nothing else."""
    chunks = []
    for start in range(0, len(at), BATCH_ROWS):
        batch = make_batch(cohort, at[start : start + BATCH_ROWS], dtype=torch.float64)
        chunks.append(_output(tower, batch))
    return np.concatenate(chunks)


def _output(tower: Tower, batch: Batch) -> FloatArray:
    with torch.no_grad():
        return np.asarray(tower(isolate(batch, frozenset({tower.modality}))).numpy())
