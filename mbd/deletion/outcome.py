"""What every mechanism returns. It knows no certificate: the workflow turns an outcome into a claim."""

from dataclasses import dataclass
from typing import Literal

from mbd.cohort.cohort import Pair
from mbd.cohort.modality import ModalitySet
from mbd.lattice.model import LatticeModel
from mbd.lattice.release import Released
from mbd.privacy.guarantee import Guarantee

Mechanism = Literal["lattice-newton", "lattice-refit", "lattice-drop"]


@dataclass(frozen=True)
class Revocation:
    """What is withdrawn.

    Attributes:
        pairs: (subject or EVERYONE, modality), each once.
        digest: SHA-256 (hex) of the request as it was recorded; binds the noise to it.
    """

    pairs: frozenset[Pair]
    digest: str


@dataclass(frozen=True)
class Outcome:
    """A deletion, done.

    Attributes:
        model: the version to go live.
        mechanism: what produced it.
        guarantee: as the mechanism proves it; no caller chooses it.
        updated: heads that were solved and released again.
        unchanged: heads whose statistics, and so whose weights, are the same bits as before.
        dropped: heads that no longer exist.
        rows_touched: rows whose features were taken out of the statistics.
        released: how the updated heads were made; for the operator's eyes.
    """

    model: LatticeModel
    mechanism: Mechanism
    guarantee: Guarantee
    updated: tuple[ModalitySet, ...]
    unchanged: tuple[ModalitySet, ...]
    dropped: tuple[ModalitySet, ...]
    rows_touched: int
    released: Released
