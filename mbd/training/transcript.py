"""The record of a training run that certificates name by digest. It holds no person, no clip and no clock."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mbd.hashing import canonical_json, sha256_hex

FORMAT = "mbd-training-transcript/1"

_IMPLIED = {"ranks": 1, "device": "cpu"}
"""What a transcript that does not say otherwise means, as all were before there was a choice."""


@dataclass(frozen=True)
class Epoch:
    """One point of the curve.

    Attributes:
        losses: the mean over steps of each weighted loss term.
        validation: the task loss on the public validation rows, for each availability pattern by its short name.
        score: the mean of ``validation``; the lowest score chooses the weights.
    """

    losses: Mapping[str, float]
    validation: Mapping[str, float]
    score: float


@dataclass(frozen=True)
class Transcript:
    """What was run, on what, with what result.

    Attributes:
        recipe: the recipe as JSON; recipe_digest is over it.
        data_digest: over features, labels and presence of the rows used, in order, without their names.
        manifest_root: Merkle root of the cohort's manifest (hex), or None for a run outside of any.
        seed: of initial weights, order, masks and dropout.
        versions: of the libraries whose arithmetic made the weights.
        rows: how many rows trained and selected, and how many of those that trained were ``revocable``, if any; no
            other row was read. With revocable rows the backbone is entangled, and digests in here, which have no salt,
            would confirm a guess at a row that is withdrawn later: such a transcript is not for publication.
        curve: one entry an epoch.
        chosen_epoch: index into ``curve`` of the weights kept.
        weights_digest: of those weights.
        ranks: how many processes shared each batch; they draw other masks of dropout, and add in another order.
        device: the kind it was trained on.
    """

    recipe: Mapping[str, Any]
    recipe_digest: str
    data_digest: str
    manifest_root: str | None
    seed: int
    versions: Mapping[str, str]
    rows: Mapping[str, int]
    curve: tuple[Epoch, ...]
    chosen_epoch: int
    weights_digest: str
    ranks: int = 1
    device: str = "cpu"

    def to_json(self) -> dict[str, Any]:
        """As plain JSON; without ``ranks`` or ``device`` where they are one process and the CPU."""
        value = {"format": FORMAT, **asdict(self), "curve": [asdict(epoch) for epoch in self.curve]}
        return {name: found for name, found in value.items() if (name, found) not in _IMPLIED.items()}

    def to_bytes(self) -> bytes:
        """Canonical JSON (RFC 8785): the bytes to store."""
        return canonical_json(self.to_json())

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of `to_bytes`."""
        return sha256_hex(self.to_bytes())
