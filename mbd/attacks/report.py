"""What every attack is given, and what it returns: what it tried, what it found, how sure it is. It attacks nothing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

OnProgress = Callable[[float, str], None]
"""Told the finished fraction, and what comes next in a few words."""


@dataclass(frozen=True)
class Effort:
    """How hard to try.

    Attributes:
        releases: of each arm of a distinguishing audit.
        worlds: of attacks that compare models of several worlds.
        seed: of everything random.
    """

    releases: int = 20_000
    worlds: int = 8
    seed: int = 0


Verdict = Literal["held", "broken", "measured"]
"""Whether a claim held, was broken, or whether there was no claim to break: then numbers alone are given."""


@dataclass(frozen=True)
class Estimate:
    """A measured number with its interval.

    Attributes:
        name: what was measured, for people.
        value: the point estimate.
        low, high: the interval at ``confidence``; None where a side does not exist (a lower bound has no upper end).
        confidence: of the interval; None for a number that was counted and has none.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    confidence: float | None = None


@dataclass(frozen=True)
class Report:
    """One attack on one target.

    Attributes:
        attack: its name, as on the command line.
        target: what was attacked, for people.
        question: what a success would have meant, in a sentence.
        verdict: see `Verdict`.
        estimates: the numbers, the one that decides first.
        claim: what the target claims, in the unit of the first estimate; None where it claims nothing.
        trials: how many independent releases, models, subjects or places it looked at.
        seed: everything random follows from it.
        seconds: of processor time that it cost.
        details: whatever else is worth knowing, as plain JSON.
    """

    attack: str
    target: str
    question: str
    verdict: Verdict
    estimates: tuple[Estimate, ...]
    claim: float | None
    trials: int
    seed: int
    seconds: float
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self) | {"estimates": [asdict(estimate) for estimate in self.estimates]}


def broken(reports: Sequence[Report]) -> list[Report]:
    """Those that broke a claim."""
    return [report for report in reports if report.verdict == "broken"]
