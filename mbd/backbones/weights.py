"""Weights on disk, with everything that is needed to rebuild their backbone beside them.

It does not know which weights are good, or who may use them.
"""

import dataclasses
from pathlib import Path

import torch
from torch import nn

from mbd.backbones.base import Backbone, Interface
from mbd.backbones.tensorfile import read_tensors, write_tensors
from mbd.backbones.zoo import build
from mbd.errors import TrainingError
from mbd.hashing import arrays_digest

KIND = "mbd-backbone/1"
_SALT = "salt"


def weights_digest(network: nn.Module) -> str:
    """SHA-256 (hex) over all parameters and buffers, standardisation included, bit for bit."""
    return arrays_digest({name: tensor.numpy() for name, tensor in network.state_dict().items()})


def save_backbone(backbone: Backbone, path: Path, *, salt: bytes = b"") -> str:
    """Write a backbone, whole or not at all, and return its `weights_digest`.

    Args:
        backbone: what to write.
        path: where.
        salt: random bytes to write beside the weights of a backbone that saw revocable rows: without them the file's
            digest, which certificates name, would confirm a guess at those rows.
    """
    description = {
        "name": backbone.name,
        "interface": backbone.interface.to_json(),
        "options": dataclasses.asdict(backbone.options),
    }
    beside = {_SALT: torch.frombuffer(bytearray(salt), dtype=torch.uint8)} if salt else {}
    write_tensors(path, {**backbone.state_dict(), **beside}, kind=KIND, description=description)
    return weights_digest(backbone)


def load_backbone(path: Path) -> Backbone:
    """The backbone that `save_backbone` wrote, bit for bit, in evaluation mode.

    Raises:
        TrainingError: the file is not there, is not such a file, or does not fit the backbone that it names.
    """
    state, description = read_tensors(path, kind=KIND)
    state.pop(_SALT, None)
    with torch.random.fork_rng(devices=[]):  # the initial weights are overwritten: draw them at nobody's expense
        backbone = build(description["name"], Interface.from_json(description["interface"]), description["options"])
    try:
        backbone.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise TrainingError(
            f"{path} does not hold the parameters of the backbone '{backbone.name}' that it names.",
            remedy="use the program version that wrote it, or train again",
        ) from error
    return backbone.eval()
