"""What every mechanism returns. It knows no certificate: the workflow turns an outcome into a claim."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mbd.cohort.cohort import Pair
from mbd.cohort.modality import ModalitySet
from mbd.lattice.model import LatticeModel
from mbd.lattice.release import Released
from mbd.privacy.guarantee import Guarantee

HeadMechanism = Literal["lattice-newton", "lattice-refit", "lattice-drop", "tower-drop"]
"""What is done when the backbone stays: heads are released again in one way or the other, or not at all."""

EntangledMechanism = Literal["retrain", "noisy-fine-tuning", "surgical"]
"""What is done to a backbone that revocable rows shaped; statistics and heads are then made anew from D'."""

Mechanism = HeadMechanism | EntangledMechanism


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
        rows_touched: rows that lost a channel or left.
        released: how the updated heads were made; for the operator's eyes.
        towers: the towers that went.
        report: what became of a backbone that everybody shaped: of a retraining its transcript, of noisy fine-tuning
            its constants and account, of the surgical update what it measured. None where the backbone stayed.
    """

    model: LatticeModel
    mechanism: Mechanism
    guarantee: Guarantee
    updated: tuple[ModalitySet, ...]
    unchanged: tuple[ModalitySet, ...]
    dropped: tuple[ModalitySet, ...]
    rows_touched: int
    released: Released
    towers: tuple[str, ...] = ()
    report: Mapping[str, Any] | None = None
