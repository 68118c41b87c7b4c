"""A lattice model: public featurizer, exact statistics, released heads; how it predicts, and its files.

It knows no request and no guarantee. Its folder holds these files, written once and never changed:

    backbone.safetensors    weights
    constants.safetensors   centres and factors of features
    statistics.safetensors  G, c, n: exact integers, and the line's secrets (kept by the operator, never published)
    heads.safetensors       released weights
    tower-a.shard0.safetensors, ...   one for each tower, if the line has any: weights, centres and factors
    model.json              layout, grid, policy, task, recipe, the cohort's Merkle root, where everything comes from,
                            each head's sigma and context, digests of the others

What is a function of revocable rows without noise (a tower, a backbone that everybody shaped and its constants) has
random bytes beside it, so that its digest, which certificates name, confirms no guess at a row.
"""

import hmac
import json
import os
import platform
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from mbd.backbones.tower import load_tower, save_tower
from mbd.backbones.weights import load_backbone, save_backbone
from mbd.cohort.cohort import Cohort, Task
from mbd.cohort.modality import Modality, ModalitySet, parse_modality, parse_pattern, pattern_name
from mbd.durable import sync, write_durably
from mbd.errors import TrainingError
from mbd.hashing import canonical_json, file_digest, json_digest
from mbd.lattice.featurizer import Featurizer, Scaling
from mbd.lattice.layout import Layout, tower_modality
from mbd.lattice.provenance import LATTICE, Provenance
from mbd.lattice.release import Head, ReleasePolicy
from mbd.lattice.statistics import Grid, Statistics
from mbd.lattice.towers import Origin, Private, account_from_json, origin_from_json, origin_to_json, part_of, retired

FORMAT = "mbd-lattice-model/1"
PARTS = ("backbone.safetensors", "constants.safetensors", "statistics.safetensors", "heads.safetensors")
"""The files that every model has beside ``model.json``."""
CONSTANTS = PARTS[:2]
"""What the featurizer of a line with a public backbone and no towers is made of."""


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
        origins: the same of each tower, with what deleting from it takes.
        retired: accounts of private towers that people had left before they went, by name, the largest of each: earlier
            releases of the line had these towers, so the line's total keeps counting them.
        recipe: what the line's networks are trained by, as JSON.
        seed: of their training.
        shard_key: the line's secret that puts people into shards; empty where there are none.
    """

    task: Task
    featurizer: Featurizer
    statistics: Statistics
    salt: bytes = field(repr=False)
    heads: Mapping[ModalitySet, Head]
    policy: ReleasePolicy
    provenance: Mapping[str, str] = field(default_factory=lambda: dict(LATTICE))
    origins: Mapping[str, Origin] = field(default_factory=dict)
    retired: Mapping[str, Private] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    shard_key: bytes = field(default=b"", repr=False)

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
        for pattern in dict.fromkeys(patterns):
            if not pattern:
                continue
            rows = [i for i, mine in enumerate(patterns) if mine == pattern]
            phi_ND = self.featurizer.head_inputs(cohort, rows, pattern)
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
    public = model.provenance.get("backbone") == Provenance.PUBLIC
    backbone_salt = b"" if public else _salt_of(model, "backbone.safetensors")
    save_backbone(model.featurizer.backbone, partial / "backbone.safetensors", salt=backbone_salt)
    scalings, towers = model.featurizer.scalings, model.featurizer.towers
    constants = {
        f"{group}.{part}": getattr(scaling, part)
        for group, scaling in scalings.items()
        if group not in towers
        for part in ("centre", "factor")
    }
    weights = {pattern_name(pattern): head.weights_DK for pattern, head in model.heads.items()}
    secrets = {"salt": _bytes(model.salt), "shard_key": _bytes(model.shard_key)}
    constants_salt = {} if public else {"salt": _bytes(_salt_of(model, "constants.safetensors"))}
    for name, arrays in (
        ("constants", constants | constants_salt),
        ("statistics", model.statistics.arrays() | secrets),
        ("heads", weights),
    ):
        contiguous = {key: np.ascontiguousarray(array) for key, array in arrays.items()}
        write_durably(partial / f"{name}.safetensors", save(contiguous))
    for name, tower in towers.items():
        salt = _bytes(_salt_of(model, tower_file(name)))
        beside = {"salt": salt, "centre": scalings[name].centre, "factor": scalings[name].factor}
        tensors = {key: torch.from_numpy(np.array(array)) for key, array in beside.items()}
        save_tower(tower, partial / tower_file(name), beside=tensors)
    digests = {name: file_digest(partial / name) for name in (*PARTS, *map(tower_file, towers))}
    about = _describe(model) | {"cohort": cohort_root, "files": digests}
    write_durably(partial / "model.json", canonical_json(about))
    partial.rename(folder)
    sync(folder.parent)
    return Saved(folder, digests | {"model.json": file_digest(folder / "model.json")})


def copy_model(source: Path, folder: Path, *, cohort_root: str) -> Saved:
    """Copy a saved model into a new folder, as a version over the same rows under another manifest.

    Only ``model.json`` differs: it names the new root, and still the libraries that made the numbers.

    Crash point: as for `save_model`.
    """
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    partial.mkdir(parents=True)
    about = json.loads((source / "model.json").read_bytes())
    for name in about["files"]:
        write_durably(partial / name, (source / name).read_bytes())
    write_durably(partial / "model.json", canonical_json(about | {"cohort": cohort_root}))
    partial.rename(folder)
    sync(folder.parent)
    return Saved(folder, about["files"] | {"model.json": file_digest(folder / "model.json")})


def load_model(folder: Path, *, without: Collection[str] = ()) -> LatticeModel:
    """The model that `save_model` wrote, bit for bit.

    Args:
        folder: where it lies.
        without: towers to leave out, with their coordinates and the heads that used them; see `lost_towers`.

    Raises:
        TrainingError: a file is missing, damaged, or not the one that ``model.json`` names.
    """
    try:
        about: dict[str, Any] = json.loads((folder / "model.json").read_bytes())
        left_out = {tower_file(name) for name in without}
        damaged = [name for name in _damaged(folder, about) if name not in left_out]
        if about["format"] != FORMAT or damaged:
            towers_too = "; or, should only towers be lost, go on without them: `mbd towers retrain`"
            raise TrainingError(
                f"The model in {folder} is not the one its model.json describes: {', '.join(damaged) or 'format'}.",
                remedy="restore the folder from a backup; its files are never changed after they are written"
                + (towers_too if all(name.startswith("tower-") for name in damaged) and damaged else ""),
            )
        constants, statistics, weights = (_read(folder / name) for name in PARTS[1:])
        towers = {name: load_tower(folder / tower_file(name)) for name in about["towers"] if name not in without}
    except (OSError, SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise _unreadable(folder, error) from error
    whole = Layout.from_json(about["layout"])
    layout = whole.without_towers(without)
    blind = {tower_modality(name) for name in without}
    origins = {name: origin_from_json(origin) for name, origin in about["towers"].items()}
    patterns = [name for name in about["heads"] if not parse_pattern(name) & blind]
    scalings = _scalings(layout, constants)
    scalings |= {name: Scaling(b["centre"].numpy(), b["factor"].numpy()) for name, (_, b) in towers.items()}
    networks = {name: tower.double() for name, (tower, _) in towers.items()}
    backbone = load_backbone(folder / "backbone.safetensors")
    task = about["task"]
    modalities = tuple(parse_modality(name) for name in task["label_derived_from"])
    return LatticeModel(
        task=Task(**(task | {"classes": tuple(task["classes"]), "label_derived_from": modalities})),
        featurizer=Featurizer(backbone, layout, Grid(**about["grid"]), scalings, networks),
        statistics=Statistics.from_arrays(statistics).at(whole.kept_in(layout)),
        salt=statistics["salt"].tobytes(),
        heads={parse_pattern(name): Head(weights[name], **about["heads"][name]) for name in patterns},
        policy=ReleasePolicy(**about["policy"]),
        provenance={part: v for part, v in about.get("provenance", {}).items() if part not in map(part_of, without)},
        origins={name: origins[name] for name in towers},
        retired=retired({name: account_from_json(old) for name, old in about["retired"].items()}, origins, without),
        recipe=about["recipe"],
        seed=about["seed"],
        shard_key=statistics["shard_key"].tobytes(),
    )


def load_featurizer(folder: Path) -> Featurizer:
    """The featurizer of a line with a public backbone and no towers, from `CONSTANTS` and ``model.json`` alone.

    Raises:
        TrainingError: one of these is missing, damaged, or of another line.
    """
    try:
        about: dict[str, Any] = json.loads((folder / "model.json").read_bytes())
        damaged = sorted(set(_damaged(folder, about)) & set(CONSTANTS))
        if about["format"] != FORMAT or damaged or about["towers"]:
            raise TrainingError(
                f"The constants in {folder} are not those of a line without towers: {', '.join(damaged) or 'format'}.",
                remedy="fetch them again; of a line with towers, load the whole model",
            )
        layout, constants = Layout.from_json(about["layout"]), _read(folder / "constants.safetensors")
        backbone = load_backbone(folder / "backbone.safetensors")
        return Featurizer(backbone, layout, Grid(**about["grid"]), _scalings(layout, constants))
    except (OSError, SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise TrainingError(
            f"The constants in {folder} cannot be read ({error}).", remedy="fetch them again"
        ) from error


def _scalings(layout: Layout, constants: Mapping[str, NDArray[Any]]) -> dict[str, Scaling]:
    """Of all groups but the towers', which have their own files."""
    return {
        group: Scaling(constants[f"{group}.centre"], constants[f"{group}.factor"])
        for group in layout.groups
        if group not in layout.towers
    }


def lost_towers(folder: Path) -> tuple[str, ...]:
    """The towers whose files are not there, or not those that ``model.json`` names.

    Raises:
        TrainingError: ``model.json`` is missing or damaged.
    """
    try:
        about = json.loads((folder / "model.json").read_bytes())
        damaged = _damaged(folder, about)
        return tuple(name for name in about["towers"] if tower_file(name) in damaged)
    except (OSError, KeyError, json.JSONDecodeError) as error:
        raise _unreadable(folder, error) from error


def _unreadable(folder: Path, error: Exception) -> TrainingError:
    return TrainingError(f"The model in {folder} cannot be read ({error}).", remedy="restore the folder from a backup")


def _damaged(folder: Path, about: Mapping[str, Any]) -> list[str]:
    """The files that are not there or not those that ``model.json`` names, by name."""

    def digest(name: str) -> str | None:
        return file_digest(folder / name) if (folder / name).exists() else None

    found = {name: digest(name) for name in sorted({*PARTS, *about["files"]})}
    return [name for name, mine in found.items() if mine is None or mine != about["files"].get(name)]


def tower_file(name: str) -> str:
    """The file of a tower."""
    return f"tower-{name}.safetensors"


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
        "towers": {name: origin_to_json(origin) for name, origin in model.origins.items()},
        "retired": {name: origin_to_json(origin) for name, origin in model.retired.items()},
        "recipe": dict(model.recipe),
        "seed": model.seed,
        "heads": heads,
        "statistics": model.commitment,
        "environment": environment_digest(),
    }


def environment_digest() -> str:
    """SHA-256 (hex) over the interpreter, the kind of processor and the libraries whose arithmetic makes features."""
    versions = {name: metadata.version(name).partition("+")[0] for name in ("numpy", "scipy", "torch")}
    return json_digest({"python": platform.python_version(), "machine": platform.machine(), **versions})


def _salt_of(model: LatticeModel, file: str) -> bytes:
    """Random bytes of one file's own, so that who is given a network is not given the salt of the statistics."""
    return hmac.digest(model.salt, file.encode(), "sha256")


def _bytes(value: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(value, np.uint8)


def _read(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays copied out of the file's buffer: misaligned memory gives other last bits for equal numbers."""
    return {name: array.copy() for name, array in load_file(path).items()}
