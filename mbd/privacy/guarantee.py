"""The three classes of guarantee, and nothing between. A mechanism returns one; no caller chooses it.

Source: docs/guarantees.md, "Three classes".
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from mbd.privacy.gaussian import compose


@dataclass(frozen=True)
class Exact:
    """Every released tensor is a function of D' and public constants, or never saw the revoked channels.

    Attributes:
        equalities: what equals what, in words that an auditor can check.
    """

    name: ClassVar = "exact"
    equalities: tuple[str, ...]


@dataclass(frozen=True)
class Certified:
    """Indistinguishable from the comparator's release, in both directions, with the trade-off of mu-GDP.

    Attributes:
        mu: of everything that this deletion released.
        assumptions: what the bound rests on, by name.
    """

    name: ClassVar = "certified"
    mu: float
    assumptions: tuple[str, ...]


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
        return Certified(compose(part.mu for part in certified), tuple(assumptions))
    equalities = dict.fromkeys(text for part in parts if isinstance(part, Exact) for text in part.equalities)
    return Exact(tuple(equalities))
