"""A unimodal tower trained by DP-SGD on revocable rows, with the person as the unit. It knows no head and no deletion.

One step: every subject is in it with probability q, independently; each one gives the gradient of the mean loss over
all of that person's rows, clipped to the norm C; N(0, (sigma C)^2) is added to the sum; and the step divides by q times
a public number of subjects, never by how many came. Leaving out a person changes the sum by at most C. Claim and proof:
docs/mechanisms/private_towers.md; what it costs: `mbd.privacy.accounting`. Legend: S subjects, P parameters.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor, nn

from mbd.backbones.tower import Tower
from mbd.backbones.weights import weights_digest
from mbd.cohort.batch import Batch, make_batch
from mbd.cohort.cohort import Cohort, Partition, Split
from mbd.errors import ExactnessError, TrainingError
from mbd.hashing import arrays_digest, canonical_json, json_digest, sha256_hex
from mbd.privacy.accounting import ACCOUNTANT
from mbd.privacy.noise import ALGORITHM, NoiseSource
from mbd.ranks import ALONE, Ranks, together
from mbd.training.accountants import agreed_epsilon
from mbd.training.data import data_digest
from mbd.training.loop import versions
from mbd.training.randomness import own_randomness
from mbd.training.tower import HeadedTower, only_channel, train_headed
from mbd.training.tower_recipe import PrivateRecipe

FORMAT = "mbd-private-tower-transcript/1"
UNIT = "subject: gradient of the mean loss over all rows of the subject, clipped"

FloatArray = NDArray[np.float64]

_GRID_BITS_BELOW_NOISE = 28


@dataclass(frozen=True)
class PrivateTranscript:
    """The record of a private run that certificates name by digest.

    It may be published: nothing in it depends on a revocable row except through the released weights. So it holds no
    number of people, no training loss, no digest of rows and no secret.

    Attributes:
        recipe: the recipe as JSON; recipe_digest is over it.
        purpose: the occasion that the noise was bound to.
        seed: of the public start.
        versions: of the libraries whose arithmetic made the weights.
        start_digest: of the weights that the private steps began with, a function of public rows.
        unit: what was sampled and clipped.
        accountant: its name.
        epsilon: at the recipe's delta, for one subject.
        noise: the algorithm of Poisson draws and noise, and the commitment to its secret.
        weights_digest: of the released tower.
    """

    recipe: Mapping[str, Any]
    recipe_digest: str
    purpose: str
    seed: int
    versions: Mapping[str, str]
    start_digest: str
    unit: str
    accountant: str
    epsilon: float
    noise: Mapping[str, str]
    weights_digest: str

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {"format": FORMAT, **asdict(self)}

    def to_bytes(self) -> bytes:
        """Canonical JSON (RFC 8785): the bytes to store."""
        return canonical_json(self.to_json())

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of `to_bytes`."""
        return sha256_hex(self.to_bytes())


@dataclass(frozen=True)
class PrivateTower:
    """Tower in evaluation mode, and how it came to be. Both may be published."""

    tower: Tower
    transcript: PrivateTranscript


def train_private_tower(
    recipe: PrivateRecipe, cohort: Cohort, *, noise: NoiseSource, purpose: str, seed: int
) -> PrivateTower:
    """Start on the public training rows, go on by DP-SGD on the revocable training rows, release the last weights.

    The same recipe, rows, seed, purpose, secret, library versions and kind of processor give the same bits, by one
    process or by several: within an initialised `torch.distributed` group (torchrun) all its processes must make the
    same call, and share the drawn subjects of each step. The sums that they send each other carry no noise.

    Args:
        recipe: public.
        cohort: only the one channel and the labels of its public and revocable training rows are read.
        noise: the committed stream; Poisson draws and noise come from it alone.
        purpose: names the occasion (model line, version, tower), so that no two releases share randomness.
        seed: of the public start.

    Raises:
        TrainingError: no public row has the channel, or a gradient is not finite.
        PrivacyError: no epsilon can be stated for these constants, or two accountants differ about it.
        RanksError: another process of the group stopped, or has another recipe, cohort, secret or purpose.
    """
    with together() as ranks:
        public = cohort.where(partition=Partition.PUBLIC, split=Split.TRAIN)
        rows = only_channel(cohort.where(partition=Partition.REVOCABLE, split=Split.TRAIN), recipe.start.modality)
        epsilon = agreed_epsilon(recipe.run, recipe.delta)  # refuses before anything is trained
        headed = train_headed(recipe.start, public, seed, public=public)
        start_digest = weights_digest(headed)
        occasion = {
            "purpose": purpose,
            "recipe": recipe.digest,
            "start": start_digest,
            "rows": data_digest(rows),
            "versions": versions(),
        }
        ranks.agree({name: json_digest(value) for name, value in {**occasion, "secret": noise.commitment}.items()})
        with own_randomness(recipe.start.threads):
            bound = canonical_json(occasion)
            take_private_steps(recipe, headed, by_subject(rows), noise=noise, occasion=bound, ranks=ranks)
        released = weights_digest(headed.tower)
        ranks.agree({"released weights": released})
    transcript = PrivateTranscript(
        recipe=recipe.to_json(),
        recipe_digest=recipe.digest,
        purpose=purpose,
        seed=seed,
        versions=versions(),
        start_digest=start_digest,
        unit=UNIT,
        accountant=ACCOUNTANT,
        epsilon=epsilon,
        noise={"algorithm": ALGORITHM, "commitment": noise.commitment},
        weights_digest=released,
    )
    return PrivateTower(headed.tower, transcript)


def by_subject(rows: Cohort) -> list[Batch]:
    """All rows of each subject as one batch, padded to that subject's own longest sequence and no other's."""
    indices: dict[str, list[int]] = {}
    for i, row in enumerate(rows.rows):
        indices.setdefault(row.subject, []).append(i)
    return [make_batch(rows, own) for own in indices.values()]


def take_private_steps(
    recipe: PrivateRecipe,
    headed: HeadedTower,
    subjects: Sequence[Batch],
    *,
    noise: NoiseSource,
    occasion: bytes,
    ranks: Ranks = ALONE,
) -> None:
    """The DP-SGD steps, in place. An empty draw takes its noisy step like any other.

    Args:
        recipe: rate, noise, steps, clipping, learning rate.
        headed: left in evaluation mode.
        subjects: one batch a person.
        noise: the committed stream.
        occasion: binds the stream to everything that shapes this run, its rows included.
        ranks: who shares the drawn subjects. Sums of grid points do not round, so the bits are those of one process.

    Raises:
        TrainingError: the network holds something that carries rows' values besides gradients, or a gradient is not
            finite.
        ExactnessError: so many subjects on so fine a grid could round.
    """
    refuse_row_statistics(headed)
    _require_exact_sums(recipe, len(subjects))
    headed.eval()
    buffers = {name: buffer.clone() for name, buffer in headed.named_buffers()}
    parameters = list(headed.parameters())
    velocity_P = np.zeros(sum(parameter.numel() for parameter in parameters))
    for step in range(recipe.steps):
        drawn_S = poisson_draw(recipe.rate, len(subjects), noise=noise, context=_context(occasion, step, "draw"))
        drawn = [subject for subject, is_in in zip(subjects, drawn_S, strict=True) if is_in]
        mine_P = clipped_sum(recipe, headed, drawn[ranks.rank :: ranks.count], size=len(velocity_P))
        sum_P = ranks.sum(torch.from_numpy(mine_P)).numpy()
        noisy_P = sum_P + _noise_for(recipe, sum_P, noise=noise, occasion=occasion, step=step)
        # From here on everything is post-processing.
        velocity_P = recipe.momentum * velocity_P + noisy_P / (recipe.rate * recipe.subjects)
        _move(parameters, -recipe.learning_rate * velocity_P)
    if any(not torch.equal(buffer, buffers[name]) for name, buffer in headed.named_buffers()):
        raise TrainingError(
            "A buffer of the network changed during private steps: it holds values of rows without any noise.",
            remedy="use layers without running statistics",
        )


def refuse_row_statistics(network: nn.Module) -> None:
    """Fail on layers that mix rows or remember them: batch and instance normalisation of every kind.

    Raises:
        TrainingError: names them.
    """
    kinds = (nn.modules.batchnorm._NormBase,)  # noqa: SLF001  (the one base class of them all)
    if found := [name for name, module in network.named_modules() if isinstance(module, kinds)]:
        raise TrainingError(
            f"A private tower cannot have layers that mix rows or remember them: {', '.join(found)}.",
            remedy="use LayerNorm or GroupNorm, whose statistics are those of one row",
        )


def poisson_draw(rate: float, count: int, *, noise: NoiseSource, context: bytes) -> NDArray[np.bool_]:
    """Which of so many subjects are in a step, each with probability ``rate``, independently.

    A standard normal number lies below its quantile of ``rate`` with just that probability.
    """
    return np.asarray(noise.standard_normal(context, count) < ndtri(rate))


def subject_gradient(headed: HeadedTower, rows: Batch) -> FloatArray:
    """The gradient [P] of one person's mean loss. Nobody else's rows are in the computation, not even as padding."""
    gradients: Sequence[Tensor] = torch.autograd.grad(headed.loss(rows), list(headed.parameters()))
    return np.concatenate([gradient.reshape(-1).numpy().astype(np.float64) for gradient in gradients])


def clipped_sum(recipe: PrivateRecipe, headed: HeadedTower, drawn: Sequence[Batch], *, size: int) -> FloatArray:
    """The sum [P] of the drawn subjects' gradients, each of norm at most C, exact to the last bit.

    Each clipped gradient is rounded towards zero onto the grid of the noise: no coordinate grows, so neither does the
    norm, and the sum of grid points is exact in any order. Removing a subject thus removes one vector of norm at most C
    and changes nothing else, in float64 as on paper.

    Raises:
        TrainingError: a gradient is not finite.
    """
    grid = _grid(recipe)
    total_P = np.zeros(size)
    for rows in drawn:
        gradient_P = subject_gradient(headed, rows)
        norm = float(np.linalg.norm(gradient_P))
        if not math.isfinite(norm):
            raise TrainingError(
                "A private training step met a gradient that is not finite.",
                remedy="lower the learning rate, or look for labels far outside of the declared range",
            )
        share = min(1.0, recipe.clip / norm * (1 - 2.0**-40)) if norm else 1.0  # the norm itself is rounded
        total_P += np.trunc(share * gradient_P / grid) * grid
    return total_P


def _noise_for(
    recipe: PrivateRecipe, sum_P: FloatArray, *, noise: NoiseSource, occasion: bytes, step: int
) -> FloatArray:
    """N(0, (sigma C)^2) on the grid. The context holds the sum's digest: two different sums never share a stream."""
    context = _context(occasion, step, arrays_digest({"sum": sum_P}))
    grid = _grid(recipe)
    drawn_P = noise.standard_normal(context, len(sum_P))
    return np.asarray(np.rint(recipe.noise_multiplier * recipe.clip * drawn_P / grid) * grid)


def _grid(recipe: PrivateRecipe) -> float:
    """A power of two, 2^-28 of the noise or a little less."""
    noise = recipe.noise_multiplier * recipe.clip
    return float(2.0 ** (math.floor(math.log2(noise)) - _GRID_BITS_BELOW_NOISE))


def _require_exact_sums(recipe: PrivateRecipe, count: int) -> None:
    if count * recipe.clip >= 2.0**52 * _grid(recipe):  # noise has less than 2^33 steps: sum and noise stay under 2^53
        raise ExactnessError(
            f"Sums of {count} subjects' gradients on the grid of so little noise could round.",
            remedy="raise the noise multiplier",
        )


def _context(occasion: bytes, step: int, what: str) -> bytes:
    return canonical_json(["mbd private step", sha256_hex(occasion), step, what])


def _move(parameters: Sequence[nn.Parameter], change_P: FloatArray) -> None:
    start = 0
    with torch.no_grad():
        for parameter in parameters:
            piece = change_P[start : start + parameter.numel()]
            parameter.add_(torch.from_numpy(piece).reshape(parameter.shape).to(parameter.dtype))
            start += parameter.numel()
