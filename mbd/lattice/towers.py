"""Where a tower's numbers come from: whose rows shaped it, and how. It trains nothing and predicts nothing.

Source: docs/guarantees.md, Claims 8 and 9.
"""

import hmac
from collections.abc import Collection, Mapping
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


def retired(before: Mapping[str, Private], origins: Mapping[str, Origin], gone: Collection[str]) -> dict[str, Private]:
    """The accounts that go on after these towers went: of each name the one that most people had left.

    A person leaves a tower once, so no two towers of one name count for anybody.
    """
    after = dict(before)
    for name in gone:
        origin = origins.get(name)
        if isinstance(origin, Private) and origin.departed > (after[name].departed if name in after else 0):
            after[name] = origin
    return after


def account_from_json(value: dict[str, Any]) -> Private:
    """A private tower's account from plain JSON.

    Raises:
        TrainingError: it is another kind of tower's.
    """
    origin = origin_from_json(value)
    if not isinstance(origin, Private):
        raise TrainingError("Only private towers have accounts.", remedy="restore model.json from a backup")
    return origin


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
