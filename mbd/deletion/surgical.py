"""The surgical update of the Missing-by-Design paper (arXiv 2602.16144, Algorithm 1): always empirical, never proved.

It changes or zeroes a few numbers of the network, those whose change moves the reconstruction of the withdrawn modality
and costs little. Why no epsilon can be given: numbers outside the mask stay functions of the withdrawn rows; the mask
itself was chosen by looking at them; zeroing draws nothing at random; no bound ties the result to a network that never
saw the rows; and noise from a published seed can be subtracted. It knows no certificate.

Symbols: w_q numbers of the network, s_q saliency, L_q importance, chi_q leverage, eta_s and eta_L thresholds, r ratio.

What differs from the paper:

- What ``x_q`` and ``S`` are in ``chi_q = min(x_q^2 / S, 0.99)`` is our reading: x is the mean gradient of L_re over the
  calibration rows, and ``S = 1 + sum_q x_q^2``. Then ``1 - chi_q`` is the diagonal of the inverse of I + x x^T
  (Sherman and Morrison 1950), and L_q the saliency of Optimal Brain Surgeon (Hassibi and Stork 1993) for that Hessian.
- The thresholds and the ratio are not published: the defaults are ours.
- The paper deletes a modality for everyone; here also for single subjects. The calibration rows are training rows that
  lose the modality, those that keep another one, from which it could be reconstructed.
- L_re is the network's own: in the encoder's space, against the encoding as it was before the update.
- The paper zeroes when its epsilon is at most 1 and draws a Gaussian otherwise, which we add to the candidates. Here
  the line says which of the two, and the noise's scale: an epsilon would claim something.
- Several modalities withdrawn together are treated one after the other.

``corrected`` repairs what can be repaired, and still proves nothing: the noise is always there and comes from the
secret stream, and P^m, G_m, DE_m and B_m of the withdrawn modality become zero: nobody's can be synthesised any more.
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mbd.backbones.base import Backbone
from mbd.backbones.mbd import MissingByDesign
from mbd.backbones.weights import weights_digest
from mbd.cohort.batch import make_batch
from mbd.cohort.cohort import Cohort, Pair, Partition
from mbd.cohort.modality import Modality, in_order
from mbd.errors import DeletionError
from mbd.hashing import canonical_json
from mbd.privacy.guarantee import Empirical
from mbd.privacy.noise import NoiseSource
from mbd.training.data import training_rows

FloatArray = NDArray[np.float64]

LARGEST_LEVERAGE = 0.99
_BATCH = 256


@dataclass(frozen=True)
class Surgical:
    """Public constants of the update.

    Attributes:
        least_saliency: eta_s; a candidate's s_q is at least this.
        largest_importance: eta_L; a candidate's L_q is at most this.
        ratio: r; at most floor(r |W|) numbers are candidates, those of least importance.
        calibration_rows: at most this many rows that lose the modality measure saliency.
        update: what happens to candidates: they become ``zero`` (the paper's way for a small epsilon), or noise is
            added to them.
        noise_scale: the standard deviation of that ``noise``.
        published_seed: of the paper's noise; anybody can subtract it. Not used when corrected.
        corrected: noise always, from the secret stream, and nothing left that could synthesise the modality.
    """

    least_saliency: float = 1e-4
    largest_importance: float = 1e-2
    ratio: float = 0.05
    calibration_rows: int = 64
    update: Literal["zero", "noise"] = "zero"
    noise_scale: float = 0.1
    published_seed: int = 0
    corrected: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.ratio <= 1 or self.calibration_rows < 1 or not self.noise_scale > 0:
            raise DeletionError(
                "The surgical update needs a ratio in (0, 1], a calibration row and a positive noise scale.",
                remedy="correct the line's options",
            )


class Operated(NamedTuple):
    """A network after the surgical update.

    Attributes:
        backbone: in evaluation mode; a copy, the one before is untouched.
        guarantee: empirical; its report is ``report``.
        report: what was done, and how well the withdrawn modality is reconstructed on the withdrawn rows, before and
            after. No epsilon.
    """

    backbone: Backbone
    guarantee: Empirical
    report: Mapping[str, Any]


def operate(
    backbone: Backbone,
    cohort: Cohort,
    pairs: frozenset[Pair],
    *,
    noise: NoiseSource,
    purpose: str,
    options: Surgical | None = None,
) -> Operated:
    """Apply Algorithm 1 for every modality that the pairs withdraw from training rows.

    Args:
        backbone: an MBD network, the live version.
        cohort: D. Unlike the other mechanisms this one has to look at what is withdrawn.
        pairs: what is withdrawn.
        noise: the committed stream; used when corrected.
        purpose: names request, model line and version to come; binds the noise to them.
        options: the line's constants.

    Raises:
        DeletionError: the network is not an MBD network, or no training row loses a modality and keeps another.
    """
    options = options or Surgical()
    if not isinstance(backbone, MissingByDesign):
        raise DeletionError(
            f"The surgical update is defined by the MBD network's generators; '{backbone.name}' has none.",
            remedy="retrain, or use noisy fine-tuning",
        )
    lost = _lost(cohort, pairs)
    after = copy.deepcopy(backbone).eval()
    modalities = {}
    for modality, rows in lost.items():
        candidates = _operate_once(after, rows, modality, noise=noise, purpose=purpose, options=options)
        removed = _remove(after, after.synthesis(modality)) if options.corrected else ()
        modalities[modality.value] = {"candidates": candidates, "removed": list(removed), "rows": len(rows)}
    before = copy.deepcopy(backbone).eval()
    for modality, rows in lost.items():
        modalities[modality.value] |= {
            **_measured("reconstruction_before", _row_errors(before, before, rows, modality)),
            **_measured("reconstruction_after", _row_errors(after, before, rows, modality)),
        }
    report = {
        "mechanism": "surgical",
        "variant": "corrected" if options.corrected else "published",
        "proved": "nothing",
        "statistic": "mean squared error of the reconstruction of the withdrawn modality on withdrawn training rows",
        **asdict(options),
        "coordinates": sum(p.numel() for p in after.parameters()),
        "modalities": modalities,
    }
    return Operated(after, Empirical(report), report)


def leverage(x_Q: FloatArray) -> FloatArray:
    """chi_q = min(x_q^2 / S, 0.99) with S = 1 + sum_q x_q^2, for each of Q numbers."""
    squared_Q = np.square(x_Q)
    return np.asarray(np.minimum(squared_Q / (1 + squared_Q.sum()), LARGEST_LEVERAGE))


def importance(w_Q: FloatArray, chi_Q: FloatArray) -> FloatArray:
    """L_q = w_q^2 / (2 (1 - chi_q))."""
    return np.asarray(np.square(w_Q) / (2 * (1 - chi_Q)))


def select(saliency_Q: FloatArray, importance_Q: FloatArray, options: Surgical) -> NDArray[np.intp]:
    """The candidates: s_q >= eta_s and L_q <= eta_L, in ascending L_q (ties by position), at most floor(r Q)."""
    fits_Q = (saliency_Q >= options.least_saliency) & (importance_Q <= options.largest_importance)
    (fitting,) = np.nonzero(fits_Q)
    ascending = fitting[np.argsort(importance_Q[fitting], kind="stable")]
    return ascending[: int(options.ratio * len(saliency_Q))]


def _lost(cohort: Cohort, pairs: frozenset[Pair]) -> dict[Modality, Cohort]:
    """For each withdrawn modality the training rows that lose it and have another one, as they are in D."""
    rows = training_rows(cohort, tuple(Partition))
    kept = {row.clip: after.present(i) for after in (rows.without(pairs),) for i, row in enumerate(after.rows)}
    lost = {}
    for modality in in_order(m for _, m in cohort.closure(pairs)):
        losing = [
            i
            for i, row in enumerate(rows.rows)
            if modality in rows.present(i)
            and modality not in kept.get(row.clip, frozenset())
            and len(rows.present(i)) > 1
        ]
        if losing:
            lost[modality] = rows.select(losing)
    if not lost:
        raise DeletionError(
            "No training row loses a modality and has another one from which it could be reconstructed.",
            remedy="retrain: the surgical update has nothing to measure",
        )
    return lost


def _operate_once(
    backbone: MissingByDesign,
    rows: Cohort,
    modality: Modality,
    *,
    noise: NoiseSource,
    purpose: str,
    options: Surgical,
) -> int:
    """Algorithm 1 for one modality, in place; how many candidates there were."""
    parameters = list(backbone.parameters())
    calibration = rows.select(range(min(len(rows), options.calibration_rows)))
    gradient_NQ = _gradients(backbone, calibration, modality)
    w_Q = _flat(parameters)
    importance_Q = importance(w_Q, leverage(gradient_NQ.mean(axis=0)))
    candidates = select(np.abs(gradient_NQ).mean(axis=0), importance_Q, options)

    if options.corrected:
        context = {
            "mechanism": "surgical",
            "purpose": purpose,
            "modality": modality.value,
            "start": weights_digest(backbone),
            "candidates": candidates.tolist(),
            "options": asdict(options),
        }
        w_Q[candidates] += options.noise_scale * noise.standard_normal(canonical_json(context), len(candidates))
    elif options.update == "noise":
        published = np.random.default_rng(options.published_seed).standard_normal(len(candidates))
        w_Q[candidates] += options.noise_scale * published
    else:
        w_Q[candidates] = 0.0
    parts = torch.split(torch.from_numpy(w_Q), [p.numel() for p in parameters])
    with torch.no_grad():
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.copy_(part.view_as(parameter))
    return len(candidates)


def _gradients(backbone: MissingByDesign, rows: Cohort, modality: Modality) -> FloatArray:
    """dL_re^(m)(i) / dw_q, float64 [N,Q]: one row at a time."""
    parameters = list(backbone.parameters())
    gradients = []
    for i in range(len(rows)):
        error_1 = _errors(backbone, backbone, rows.select([i]), modality)
        row = torch.autograd.grad(error_1.sum(), parameters, allow_unused=True, materialize_grads=True)
        gradients.append(_flat(row))
    return np.stack(gradients)


def _row_errors(generating: MissingByDesign, encoding: MissingByDesign, rows: Cohort, modality: Modality) -> FloatArray:
    """`_errors` of all rows, float64 [N]."""
    errors = []
    with torch.no_grad():
        for start in range(0, len(rows), _BATCH):
            part = rows.select(range(start, min(start + _BATCH, len(rows))))
            errors.append(_errors(generating, encoding, part, modality).numpy().astype(np.float64))
    return np.concatenate(errors)


def _measured(name: str, error_N: FloatArray) -> dict[str, Any]:
    """A mean, and its 95 % interval over rows by their normal approximation; of a single row the mean alone."""
    mean = float(error_N.mean())
    half = 1.96 * float(error_N.std(ddof=1)) / math.sqrt(len(error_N)) if len(error_N) > 1 else 0.0
    return {name: mean, f"{name}_interval": [mean - half, mean + half]}


def _errors(generating: MissingByDesign, encoding: MissingByDesign, rows: Cohort, modality: Modality) -> Tensor:
    """L_re^(m) of each row [B]: what one network generates from the other channels, against what another encodes."""
    batch = make_batch(rows, range(len(rows)))
    generated_BD = generating.generate(modality, generating(batch).per_modality)
    target_BD = encoding(batch).per_modality[modality].detach()
    return torch.square(generated_BD - target_BD).mean(dim=1)


def _remove(backbone: MissingByDesign, names: tuple[str, ...]) -> tuple[str, ...]:
    """Set these parameters to zero; their names."""
    with torch.no_grad():
        for name in names:
            backbone.get_parameter(name).zero_()
    return names


def _flat(tensors: list[torch.nn.Parameter] | tuple[Tensor, ...]) -> FloatArray:
    """All numbers of these tensors, float64 [Q]."""
    return np.asarray(torch.cat([t.detach().to(torch.float64).flatten() for t in tensors]).numpy(), dtype=np.float64)
