"""Tensors with a JSON description in one safetensors file, which appears whole or not at all. No pickle anywhere.

It does not know what the tensors are for.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mbd.durable import write_durably
from mbd.errors import TrainingError


def write_tensors(path: Path, tensors: Mapping[str, Tensor], *, kind: str, description: Mapping[str, Any]) -> None:
    """Write or replace a file of this kind, whole."""
    metadata = {kind: json.dumps(description, sort_keys=True)}  # one entry: of several, the file's order would vary
    write_durably(path, save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata=metadata))


def read_tensors(path: Path, *, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the description that `write_tensors` wrote.

    Raises:
        TrainingError: the file is not there, is damaged, or is of another kind.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            # Copied out of the mapped file: there tensors are not aligned as torch aligns its own, and arithmetic on
            # the same numbers then ends in other last bits.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118  (no mapping)
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            f"{path} cannot be read as tensors ({error}).",
            remedy="give a file that training wrote; if it was damaged, delete it and train again",
        ) from error
    if kind not in metadata:
        raise TrainingError(
            f"{path} is a safetensors file, but not one of kind {kind}.",
            remedy="give a file that training wrote with this version of the program",
        )
    return tensors, json.loads(metadata[kind])
