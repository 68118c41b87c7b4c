"""Can a network still make up a withdrawn channel, and does what it makes up give the person away?

The attacker holds public people's rows, learns from them to read the network's own code of a channel as raw features,
lets the network generate the code of withdrawn channels from what is left of the same rows, and looks for each person
among the enrolled voices. All is held against a network that never saw the channels. It knows no certificate.
Legend: N rows, F raw features, D embedding width, S people.
"""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mbd.attacks.bounds import mean_interval
from mbd.attacks.report import Estimate, Report
from mbd.backbones.base import Backbone
from mbd.backbones.mbd import MissingByDesign
from mbd.cohort.batch import make_batch
from mbd.cohort.cohort import Cohort, Partition
from mbd.cohort.modality import Modality
from mbd.errors import AttackError

FloatArray = NDArray[np.float64]

_PENALTY = 1.0  # of the attacker's ridge, on standardised features


@dataclass(frozen=True)
class Reconstruction:
    """What a network gives away about a withdrawn channel.

    Attributes:
        error: mean squared error of the made-up channel over the spread of the true one: 1 is as good as the mean.
        identified: the share of people whose own enrolled channel is nearest to what was made up for them.
        rank: the mean rank of the right person, from 0 (always first) to 1 (always last); .5 is chance.
        planted: the mean cosine between what was made up and the person's planted trait, if any; else None.
        people: how many.
    """

    error: float
    identified: float
    rank: float
    planted: float | None
    people: int


def reconstruct(
    network: Backbone,
    cohort: Cohort,
    people: Collection[str],
    modality: Modality,
    *,
    traits: Mapping[str, FloatArray] | None = None,
) -> Reconstruction:
    """Attack one network.

    Args:
        network: after the deletion, or one that never saw the channels.
        cohort: D: public rows teach the attacker, withdrawn ones judge the attack; their other channels are read.
        people: whose channel was withdrawn.
        modality: the withdrawn channel.
        traits: the direction [F] that was planted in each person's channel.

    Raises:
        AttackError: the network generates nothing, or there are too few rows or people.
    """
    if not isinstance(network, MissingByDesign):
        raise AttackError(
            f"The network '{network.name}' generates no channels.",
            remedy="attack a network with generators; others have nothing that could make a channel up",
        )
    known = _having(cohort.where(partition=Partition.PUBLIC), [modality])
    others = frozenset(cohort.modalities) - {modality}
    mine = cohort.select([i for i, row in enumerate(cohort.rows) if row.subject in people])
    judged = _having(mine, [modality])
    judged = judged.select([i for i in range(len(judged)) if judged.present(i) & others])
    if len(known) < 10 or len(judged.subjects) < 2:
        raise AttackError(
            f"{len(known)} public rows and {len(judged.subjects)} people are too few for this attack.",
            remedy="use a cohort in which at least ten public rows and two of the people have the channel",
        )
    true_NF, known_NF = _raw(judged, modality), _raw(known, modality)
    centre_F, scale_F = known_NF.mean(axis=0), known_NF.std(axis=0)
    scale_F[scale_F < 1e-9] = 1.0
    code_ND = _codes(network, known, modality)
    middle_D = code_ND.mean(axis=0)
    bare_ND = code_ND - middle_D
    gram_DD = bare_ND.T @ bare_ND + _PENALTY * np.eye(bare_ND.shape[1])
    read_DF = np.linalg.solve(gram_DD, bare_ND.T @ ((known_NF - centre_F) / scale_F))
    made_NF = (_generated(network, judged.restrict(others), modality) - middle_D) @ read_DF
    wanted_NF = (true_NF - centre_F) / scale_F

    rows = [list(judged.rows_of[subject]) for subject in judged.subjects]
    made_SF = np.stack([made_NF[at].mean(axis=0) for at in rows])
    enrolled_SF = np.stack([wanted_NF[at].mean(axis=0) for at in rows])
    # what all made-up channels have in common tells nobody apart
    likeness_SS = _cosines(made_SF - made_SF.mean(axis=0), enrolled_SF - enrolled_SF.mean(axis=0))
    right_S = np.diag(likeness_SS)
    better_S = (likeness_SS > right_S[:, None]).sum(axis=1)
    planted = None
    if traits is not None:
        directions_SF = np.stack([traits[subject] / scale_F for subject in judged.subjects])
        planted = float(np.diag(_cosines(made_SF - made_SF.mean(axis=0), directions_SF)).mean())
    return Reconstruction(
        error=float(np.square(made_NF - wanted_NF).sum() / np.square(wanted_NF - wanted_NF.mean(axis=0)).sum()),
        identified=float((better_S == 0).mean()),
        rank=float(better_S.mean() / (len(rows) - 1)),
        planted=planted,
        people=len(rows),
    )


def compare_reconstructions(
    unlearned: list[Reconstruction], never: list[Reconstruction], *, target: str, seed: int, confidence: float = 0.95
) -> Report:
    """Networks after deletion against networks that never saw the channels, in pairs of one world each.

    The verdict is ``held`` when neither is better in the unlearned ones beyond the interval over worlds: the rank
    of the right person, nor the likeness to planted traits.

    Raises:
        AttackError: fewer than three pairs.
    """
    if len(unlearned) != len(never) or len(never) < 3:
        raise AttackError(
            f"{len(unlearned)} and {len(never)} networks are too few to compare.", remedy="give at least three pairs"
        )
    started = time.process_time()
    gains = {
        "rank of the right person, gained over never-exposed": [
            b.rank - a.rank for a, b in zip(unlearned, never, strict=True)
        ],
        "error of the made-up channel, below never-exposed": [
            b.error - a.error for a, b in zip(unlearned, never, strict=True)
        ],
    }
    planted = [(a.planted, b.planted) for a, b in zip(unlearned, never, strict=True)]
    if all(a is not None and b is not None for a, b in planted):
        gains["likeness to the planted trait, over never-exposed"] = [(a or 0.0) - (b or 0.0) for a, b in planted]
    estimates = tuple(
        Estimate(name, float(np.mean(gain_W)), *mean_interval(np.asarray(gain_W), confidence), confidence)
        for name, gain_W in gains.items()
    )
    tells = any(e.low is not None and e.low > 0 for e in estimates)
    return Report(
        attack="reconstruction",
        target=target,
        question="Can the network make up the withdrawn channel, or the person, better than one that never saw it?",
        verdict="broken" if tells else "held",
        estimates=estimates,
        claim=0.0,
        trials=len(never),
        seed=seed,
        seconds=time.process_time() - started,
        details={
            "people": unlearned[0].people,
            "identified": [one.identified for one in unlearned],
            "identified_by_never_exposed": [one.identified for one in never],
        },
    )


def _having(rows: Cohort, channels: list[Modality]) -> Cohort:
    return rows.select([i for i in range(len(rows)) if rows.present(i).issuperset(channels)])


def _raw(rows: Cohort, modality: Modality) -> FloatArray:
    """The channel itself [N, F]; of a sequence its frames' mean."""
    return np.stack([np.atleast_2d(rows.feature(i, modality)).mean(axis=0) for i in range(len(rows))]).astype(float)


def _codes(network: MissingByDesign, rows: Cohort, modality: Modality) -> FloatArray:
    """X^m [N, D] of rows that have the channel."""
    network.eval()
    with torch.no_grad():
        return np.asarray(network(make_batch(rows, range(len(rows)))).per_modality[modality].double().numpy())


def _generated(network: MissingByDesign, rows: Cohort, modality: Modality) -> FloatArray:
    """X_hat^m [N, D] from the other channels alone."""
    network.eval()
    with torch.no_grad():
        encoded = network(make_batch(rows, range(len(rows)))).per_modality
        return np.asarray(network.generate(modality, encoded).double().numpy())


def _cosines(one_SF: FloatArray, two_SF: FloatArray) -> FloatArray:
    lengths = np.linalg.norm(one_SF, axis=1)[:, None] * np.linalg.norm(two_SF, axis=1)[None]
    return np.asarray(one_SF @ two_SF.T / np.maximum(lengths, 1e-300))
