"""Where a tower's numbers come from: whose rows shaped it, and how. It trains nothing and predicts nothing.

Source: docs/guarantees.md, Claims 8 and 9.
"""

import hmac
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, TypeAlias

from mbd.backbones.tower import Tower
from mbd.errors import TrainingError
from mbd.lattice.provenance import Provenance
from mbd.privacy.accounting import Run

SHARD_KEY_BYTES = 32
_DOMAIN = b"mbd shard v1\0"


@dataclass(frozen=True)
class Sharded:
    """A tower that one shard of the revocable people trained.

    Attributes:
        shard: which of the ``shards``.
    """

    shard: int
    shards: int

    @property
    def provenance(self) -> Provenance:
        """Sharded."""
        return Provenance.SHARDED

    def concerns(self, subject: str, key: bytes) -> bool:
        """Whether a person's rows trained it."""
        return shard_of(subject, self.shards, key) == self.shard


@dataclass(frozen=True)
class Private:
    """A tower that all revocable people trained under subject-level differential privacy.

    Attributes:
        run: what the accountant has to know.
        departed: how many people have withdrawn the channel, or rows that have it, since the tower was trained.
    """

    run: Run
    departed: int = 0

    @property
    def provenance(self) -> Provenance:
        """Private."""
        return Provenance.PRIVATE

    def concerns(self, subject: str, key: bytes) -> bool:
        """Everybody's rows may have trained it."""
        return True


Origin: TypeAlias = Sharded | Private


class Trained(NamedTuple):
    """A tower and where it comes from."""

    tower: Tower
    origin: Origin


def shard_of(subject: str, shards: int, key: bytes) -> int:
    """A person's shard: a keyed hash of the name, so that it says nothing about the person and never changes.

    Args:
        subject: the name.
        shards: how many there are; far fewer than 2^64, so that the bias of the remainder does not matter.
        key: the model line's own secret.
    """
    return int.from_bytes(hmac.digest(key, _DOMAIN + subject.encode(), "sha256")[:8], "big") % shards


def part_of(name: str) -> str:
    """What a model's provenance calls a tower."""
    return f"tower {name}"


def origin_to_json(origin: Origin) -> dict[str, Any]:
    """As plain JSON."""
    return {"provenance": origin.provenance.value, **asdict(origin)}


def origin_from_json(value: dict[str, Any]) -> Origin:
    """The inverse of `origin_to_json`.

    Raises:
        TrainingError: it is neither kind.
    """
    fields = {name: field for name, field in value.items() if name != "provenance"}
    match value["provenance"]:
        case Provenance.SHARDED:
            return Sharded(**fields)
        case Provenance.PRIVATE:
            return Private(Run(**fields["run"]), fields["departed"])
    raise TrainingError(
        f"A tower of this model is '{value['provenance']}', which no tower is.",
        remedy="restore model.json from a backup",
    )
