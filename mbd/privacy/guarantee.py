"""The three classes of guarantee, and nothing between. A mechanism returns one; no caller chooses it.

Source: docs/guarantees.md, "Three classes".
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from mbd.privacy.accounting import Run, joint_epsilon
from mbd.privacy.gaussian import compose, epsilon_of


@dataclass(frozen=True)
class Exact:
    """Every released tensor is a function of D' and public constants, or never saw the revoked channels.

    Attributes:
        equalities: what equals what, in words that an auditor can check.
    """

    name: ClassVar = "exact"
    equalities: tuple[str, ...]


@dataclass(frozen=True)
class Departed:
    """A tower that was trained with differential privacy, and that people have left since.

    Attributes:
        tower: its name.
        run: how it was trained.
        subjects: how many people left.
    """

    tower: str
    run: Run
    subjects: int


@dataclass(frozen=True)
class Certified:
    """Indistinguishable from the comparator's release, in both directions: mu-GDP, and private towers beside it.

    Attributes:
        mu: of all Gaussian releases of this deletion; 0 where all of them are exact.
        assumptions: what the bound rests on, by name.
        departed: private towers that still remember people who left, by what their accountant allows.
    """

    name: ClassVar = "certified"
    mu: float
    assumptions: tuple[str, ...]
    departed: tuple[Departed, ...] = ()


@dataclass(frozen=True)
class Empirical:
    """Nothing is proved; an attack was run. There is no epsilon here, by design.

    Attributes:
        report: the attack, its statistic and its interval.
    """

    name: ClassVar = "empirical"
    report: Mapping[str, Any]


Guarantee = Exact | Certified | Empirical


def weakest(guarantees: Iterable[Guarantee]) -> Guarantee:
    """The class of a whole whose parts have these classes.

    Raises:
        ValueError: there are no parts; a model without a class gets no certificate.
    """
    parts = list(guarantees)
    if not parts:
        raise ValueError("a model without a single classified tensor has no guarantee")
    reports = [part.report for part in parts if isinstance(part, Empirical)]
    if reports:
        return Empirical(reports[0] if len(reports) == 1 else {"parts": [dict(report) for report in reports]})
    certified = [part for part in parts if isinstance(part, Certified)]
    if certified:
        assumptions = dict.fromkeys(name for part in certified for name in part.assumptions)
        departed = dict.fromkeys(tower for part in certified for tower in part.departed)
        return Certified(compose(part.mu for part in certified), tuple(assumptions), tuple(departed))
    equalities = dict.fromkeys(text for part in parts if isinstance(part, Exact) for text in part.equalities)
    return Exact(tuple(equalities))


def epsilon_at(delta: float, mus: Iterable[float], departed: Sequence[Departed] = ()) -> float:
    """The epsilon at ``delta`` of Gaussian releases with these mu together, and of towers that people left.

    Raises:
        PrivacyError: no finite epsilon holds at this delta.
    """
    mu = compose(mus)
    if not departed:
        return epsilon_of(mu, delta)
    return joint_epsilon([(tower.run, tower.subjects) for tower in departed], delta, mu=mu)
