"""A lattice model: public featurizer, exact statistics, released heads; how it predicts, and its files.

It knows no request and no guarantee. Its folder holds five files, written once and never changed:

    backbone.safetensors    public weights
    constants.safetensors   public centres and factors
    statistics.safetensors  G, c, n: exact integers (kept by the operator, never published)
    heads.safetensors       released weights
    model.json              layout, grid, policy, task, the cohort's Merkle root, each head's sigma and context,
                            digests of the four others
"""

import json
import os
import platform
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from mbd.backbones.weights import load_backbone, save_backbone
from mbd.cohort.cohort import Cohort, Task
from mbd.cohort.modality import Modality, ModalitySet, parse_modality, parse_pattern, pattern_name
from mbd.durable import sync, write_durably
from mbd.errors import TrainingError
from mbd.hashing import canonical_json, file_digest, json_digest
from mbd.lattice.featurizer import Featurizer, Scaling
from mbd.lattice.layout import Layout
from mbd.lattice.provenance import LATTICE
from mbd.lattice.release import Head, ReleasePolicy
from mbd.lattice.statistics import Grid, Statistics

FORMAT = "mbd-lattice-model/1"
PARTS = ("backbone.safetensors", "constants.safetensors", "statistics.safetensors", "heads.safetensors")
CONSTANTS = PARTS[:2]
"""What a featurizer is made of."""


@dataclass(frozen=True)
class Predictions:
    """What the heads say about N rows.

    Attributes:
        outputs_NK: float64; NaN in a row that no head can answer.
        patterns: the availability pattern that answered each row; empty where none could.
    """

    outputs_NK: NDArray[np.float64]
    patterns: tuple[ModalitySet, ...]


@dataclass(frozen=True)
class LatticeModel:
    """One version of a model line.

    Attributes:
        task: what is predicted.
        featurizer: the public map from rows to integers.
        statistics: exact G, c, n of the rows the heads know.
        salt: 32 random bytes of this version, under which the statistics are committed to; it dies with their file.
        heads: one released head per availability pattern.
        policy: the line's public constants.
        provenance: where the numbers of each part come from, as it was written down when they were made.
    """

    task: Task
    featurizer: Featurizer
    statistics: Statistics
    salt: bytes = field(repr=False)
    heads: Mapping[ModalitySet, Head]
    policy: ReleasePolicy
    provenance: Mapping[str, str] = field(default_factory=lambda: dict(LATTICE))

    @property
    def layout(self) -> Layout:
        """What each coordinate means."""
        return self.featurizer.layout

    @property
    def commitment(self) -> str:
        """The salted commitment (hex) to the statistics."""
        return self.statistics.commitment(self.salt)

    def predict(self, cohort: Cohort) -> Predictions:
        """Each row by the head of the channels it has; channels without a block in force are not read."""
        in_force = frozenset(self.layout.modalities)
        patterns = tuple(cohort.present(i) & in_force for i in range(len(cohort)))
        outputs_NK = np.full((len(cohort), self.task.outputs), np.nan)
        scale = 2.0**-self.featurizer.grid.feature_bits
        for pattern in dict.fromkeys(patterns):
            if not pattern:
                continue
            rows = [i for i, mine in enumerate(patterns) if mine == pattern]
            phi_ND = self.featurizer.features(cohort, rows)[:, self.layout.coordinates(pattern)] * scale
            outputs_NK[rows] = phi_ND @ self.heads[pattern].weights_DK
        return Predictions(outputs_NK, patterns)


@dataclass(frozen=True)
class Saved:
    """A model's files.

    Attributes:
        folder: where they lie.
        digests: SHA-256 (hex) of each file by name.
    """

    folder: Path
    digests: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """The digest of ``model.json``, which names all the others."""
        return self.digests["model.json"]


def save_model(model: LatticeModel, folder: Path, *, cohort_root: str) -> Saved:
    """Write the five files into a new folder, which appears whole or not at all.

    Args:
        model: what to write.
        folder: must not exist.
        cohort_root: Merkle root (hex) of the cohort that the statistics are of; the version is named with it.

    Crash point: until the last rename the folder has another name, and the next attempt starts over.
    """
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    partial.mkdir(parents=True)
    save_backbone(model.featurizer.backbone, partial / "backbone.safetensors")
    scalings = model.featurizer.scalings
    constants = {f"{name}.{part}": getattr(s, part) for name, s in scalings.items() for part in ("centre", "factor")}
    weights = {pattern_name(pattern): head.weights_DK for pattern, head in model.heads.items()}
    for name, arrays in (
        ("constants", constants),
        ("statistics", model.statistics.arrays() | {"salt": np.frombuffer(model.salt, np.uint8)}),
        ("heads", weights),
    ):
        contiguous = {key: np.ascontiguousarray(array) for key, array in arrays.items()}
        write_durably(partial / f"{name}.safetensors", save(contiguous))
    digests = {name: file_digest(partial / name) for name in PARTS}
    about = _describe(model) | {"cohort": cohort_root, "files": digests}
    write_durably(partial / "model.json", canonical_json(about))
    partial.rename(folder)
    sync(folder.parent)
    return Saved(folder, digests | {"model.json": file_digest(folder / "model.json")})


def load_model(folder: Path) -> LatticeModel:
    """The model that `save_model` wrote, bit for bit.

    Raises:
        TrainingError: a file is missing, damaged, or not the one that ``model.json`` names.
    """
    about, arrays = _read_checked(folder, PARTS)
    statistics, weights = arrays["statistics.safetensors"], arrays["heads.safetensors"]
    task = about["task"]
    modalities = tuple(parse_modality(name) for name in task["label_derived_from"])
    return LatticeModel(
        task=Task(**(task | {"classes": tuple(task["classes"]), "label_derived_from": modalities})),
        featurizer=_featurizer(folder, about, arrays["constants.safetensors"]),
        statistics=Statistics.from_arrays(statistics),
        salt=statistics["salt"].tobytes(),
        heads={parse_pattern(name): Head(weights[name], **about["heads"][name]) for name in about["heads"]},
        policy=ReleasePolicy(**about["policy"]),
        provenance=about.get("provenance", {}),
    )


def load_featurizer(folder: Path) -> Featurizer:
    """The public map of a saved model alone; statistics and heads need not be there.

    Raises:
        TrainingError: as for `load_model`, of the files that are read.
    """
    about, arrays = _read_checked(folder, CONSTANTS)
    return _featurizer(folder, about, arrays["constants.safetensors"])


def _read_checked(folder: Path, parts: Collection[str]) -> tuple[dict[str, Any], dict[str, dict[str, NDArray[Any]]]]:
    """``model.json`` and the arrays of these parts, after their digests were compared; a backbone is not read here."""
    try:
        about: dict[str, Any] = json.loads((folder / "model.json").read_bytes())
        found = {name: file_digest(folder / name) for name in parts}
        damaged = sorted(name for name in parts if found[name] != about["files"].get(name))
        if about["format"] != FORMAT or damaged:
            raise TrainingError(
                f"The model in {folder} is not the one its model.json describes: {', '.join(damaged) or 'format'}.",
                remedy="restore the folder from a backup; its files are never changed after they are written",
            )
        return about, {name: _read(folder / name) for name in parts if name != "backbone.safetensors"}
    except (OSError, SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise TrainingError(
            f"The model in {folder} cannot be read ({error}).", remedy="restore the folder from a backup"
        ) from error


def _featurizer(folder: Path, about: Mapping[str, Any], constants: Mapping[str, NDArray[Any]]) -> Featurizer:
    layout = Layout.from_json(about["layout"])
    scalings = {group: Scaling(constants[f"{group}.centre"], constants[f"{group}.factor"]) for group in layout.groups}
    return Featurizer(load_backbone(folder / "backbone.safetensors"), layout, Grid(**about["grid"]), scalings)


def _describe(model: LatticeModel) -> dict[str, Any]:
    heads = {}
    for pattern, head in model.heads.items():
        public = asdict(head)
        del public["weights_DK"]
        heads[pattern_name(pattern)] = public
    task = asdict(model.task)
    task["label_derived_from"] = [Modality(m).value for m in model.task.label_derived_from]
    return {
        "format": FORMAT,
        "task": task | {"classes": list(model.task.classes)},
        "layout": model.layout.as_json(),
        "grid": asdict(model.featurizer.grid),
        "policy": asdict(model.policy),
        "provenance": dict(model.provenance),
        "heads": heads,
        "statistics": model.commitment,
        "environment": environment_digest(),
    }


def environment_digest() -> str:
    """SHA-256 (hex) over the interpreter, the kind of processor and the libraries whose arithmetic makes features."""
    versions = {name: metadata.version(name).partition("+")[0] for name in ("numpy", "scipy", "torch")}
    return json_digest({"python": platform.python_version(), "machine": platform.machine(), **versions})


def _read(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays copied out of the file's buffer: misaligned memory gives other last bits for equal numbers."""
    return {name: array.copy() for name, array in load_file(path).items()}
