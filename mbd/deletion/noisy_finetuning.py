"""Noisy fine-tuning on D' of a network that saw withdrawn channels: certified, for any architecture and any loss.

The weights are clipped into a ball, then every step on D' adds a Gaussian to every number that is not public. What is
left of the start drowns. It reads D' and the network alone, never D; it knows no certificate.
Source: Koloskova et al. (ICML 2025), lambda = 0. Claim, proof and what differs: docs/mechanisms/noisy_finetuning.md.
"""

import copy
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mbd.backbones.base import Backbone
from mbd.backbones.standardiser import Standardiser
from mbd.backbones.weights import weights_digest
from mbd.cohort.batch import make_batch
from mbd.cohort.cohort import Cohort, Partition
from mbd.errors import DeletionError, UtilityError
from mbd.hashing import canonical_json, json_digest
from mbd.privacy.gaussian import mu_of
from mbd.privacy.guarantee import Certified
from mbd.privacy.noise import NoiseSource
from mbd.privacy.noisy_iterations import Chain, clip, iterate
from mbd.training.data import data_digest, public_rows, training_rows
from mbd.training.loop import validation_losses
from mbd.training.masking import as_columns, draw_patterns

ASSUMPTIONS = (
    "The noise secret stays secret: the Gaussian is ChaCha20 output under it, taken as random.",
    "Each noise number, from 129 random bits in float64, is taken as a Gaussian rounded to a grid 2^-28 of sigma.",
    "Batches, masks and dropout come from a public seed; it and all options were fixed without the withdrawn channels.",
    "Only the last iterate left the process: other iterates, gradients, noise and the weights before were destroyed.",
)
PUBLIC_ASSUMPTION = "Tensors and the centre that the model line declares public were made from public rows alone."
_STANDARDISER = "standardiser."

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class NoisyFineTuning:
    """Public constants of a model line, fixed before any request.

    Attributes:
        epsilon, delta: what one deletion is calibrated to.
        start_bound: C0. The weights' distance from the centre is shortened to this; the noise is proportional to it.
        gradient_bound: C1. Each step's gradient over its batch is shortened to this norm.
        rate: gamma, of the noisy steps.
        steps: T, how many steps carry noise.
        finishing_steps: further steps on D' without noise, after the last noisy one: post-processing.
        finishing_rate: of those; they are clipped to C1 too.
        batch_size: rows a step, drawn from the training rows of D'.
        largest_loss: a model whose mean task loss over availability patterns on the public validation rows is above
            this is not released. With standardised labels and squared loss, 1 is about what the mean label reaches.
    """

    epsilon: float = 8.0
    delta: float = 1e-9
    start_bound: float = 0.06
    gradient_bound: float = 1.0
    rate: float = 0.001
    steps: int = 1
    finishing_steps: int = 400
    finishing_rate: float = 0.1
    batch_size: int = 64
    largest_loss: float = 1.0

    def __post_init__(self) -> None:
        if (
            self.finishing_steps < 0
            or self.batch_size < 1
            or not self.finishing_rate > 0
            or self.largest_loss == math.inf
        ):
            raise DeletionError(
                "Noisy fine-tuning needs a row a batch, a positive rate, a finite limit and no negative steps.",
                remedy="correct the line's options",
            )

    def chain(self, coordinates: int) -> Chain:
        """The account of the noisy steps for a network with so many numbers to move."""
        return Chain(self.start_bound, self.gradient_bound, self.rate, self.steps, coordinates)


class FineTuned(NamedTuple):
    """A network after noisy fine-tuning.

    Attributes:
        backbone: in evaluation mode; a copy, the one before is untouched.
        guarantee: certified.
        report: public constants, and figures of the released network on public rows. Nothing in it knows the network
            before, or an iterate: those carry no noise.
    """

    backbone: Backbone
    guarantee: Certified
    report: Mapping[str, Any]


def fine_tune(
    backbone: Backbone,
    cohort_after: Cohort,
    *,
    noise: NoiseSource,
    purpose: str,
    seed: int,
    public: Collection[str] = (),
    centre: Backbone | None = None,
    options: NoisyFineTuning | None = None,
) -> FineTuned:
    """Drown what a network knows of withdrawn channels, and teach it D'.

    Every parameter moves and carries noise, except those declared public. The constants of the standardiser are fitted
    again to D'. There is no way to leave an entangled tensor as it was.

    Args:
        backbone: the live version.
        cohort_after: D'.
        noise: the committed stream.
        purpose: names request, model line and version to come; binds the noise to them. One purpose is one attempt:
            asking again gives the same release, or the same refusal.
        seed: public; of batches, masks and dropout.
        public: names of tensors that were made from public rows alone ("small adapters": everything but the adapters).
        centre: a network of the same shape that nobody can revoke, such as the line's initial weights: where the ball
            of the start lies. None is the origin.
        options: the line's constants.

    Raises:
        UtilityError: the result is worse on public rows than the limit.
        DeletionError: a name is not a tensor of the network, a tensor has no class, nothing is left to move, or
            the centre is another kind of network.
        PrivacyError: the options cannot be calibrated.
        TrainingError: D' has no rows to train or select on.
    """
    options = options or NoisyFineTuning()
    _, selection = public_rows(cohort_after)
    rows = training_rows(cohort_after, tuple(Partition))
    after = copy.deepcopy(backbone)
    moving = _moving(after, public)
    centre_D = _centre(after, centre, public)
    _refit_standardiser(after, rows, public)

    chain = options.chain(sum(p.numel() for p in moving))
    mu = mu_of(options.epsilon, options.delta)
    sigma = chain.sigma_for(mu)
    context = {
        "mechanism": "noisy-fine-tuning",
        "purpose": purpose,
        "start": weights_digest(backbone),
        "rows": data_digest(rows),
        "options": asdict(options),
        "public": sorted(public),
        "centre": weights_digest(centre) if centre is not None else None,
        "seed": seed,
        "sigma": sigma,
    }

    def draw(step: int) -> FloatArray:
        return noise.standard_normal(canonical_json({**context, "step": step}), chain.coordinates)

    descent = _Descent(after, moving, centre_D, rows, batch_size=options.batch_size, seed=seed)
    with torch.random.fork_rng(devices=[]):
        x_D = iterate(chain, sigma, descent.read(), descent.gradient, draw)
        for step in range(options.steps, options.steps + options.finishing_steps):
            x_D = x_D - options.finishing_rate * clip(descent.gradient(x_D, step), options.gradient_bound)
        descent.write(x_D)

    loss = float(np.mean(list(validation_losses(after, selection).values())))
    if not loss <= options.largest_loss:
        raise UtilityError(  # without the loss: it is a number of the noisy weights
            f"After noisy fine-tuning the loss on public validation rows is above the line's limit of "
            f"{options.largest_loss:.3g}: the noise took more than the model can spare. No model was released.",
            remedy="set MBD_ENTANGLED=retrain, which is exact",
            mu=mu,
        )
    assumptions = (*ASSUMPTIONS, PUBLIC_ASSUMPTION) if public or centre is not None else ASSUMPTIONS
    report = {
        "mechanism": "noisy-fine-tuning",
        **asdict(options),
        "coordinates": chain.coordinates,
        "mu": mu,
        "sigma": sigma,
        "public_validation_loss": loss,
    }
    return FineTuned(after.eval(), Certified(mu, assumptions), report)


class _Descent:
    """The moving numbers of a network, as one vector from the centre, and their gradient on a step's batch of D'."""

    def __init__(
        self,
        backbone: Backbone,
        moving: Sequence[nn.Parameter],
        centre_D: FloatArray,
        rows: Cohort,
        *,
        batch_size: int,
        seed: int,
    ) -> None:
        self.backbone, self.moving, self.centre_D, self.rows = backbone, moving, centre_D, rows
        self.batch_size, self.seed = batch_size, seed
        self.patterns_NM = as_columns(rows.patterns)

    def read(self) -> FloatArray:
        """The vector, float64 [D]."""
        flat = [p.detach().to(torch.float64).flatten() for p in self.moving]
        return np.asarray(torch.cat(flat).numpy(), dtype=np.float64) - self.centre_D

    def write(self, x_D: FloatArray) -> None:
        """Put the vector into the network, in the network's own precision."""
        parts = torch.split(torch.from_numpy(self.centre_D + x_D), [p.numel() for p in self.moving])
        with torch.no_grad():
            for parameter, part in zip(self.moving, parts, strict=True):
                parameter.copy_(part.view_as(parameter))

    def gradient(self, x_D: FloatArray, step: int) -> FloatArray:
        """Of the training loss at ``x_D``, float64 [D]: a function of x_D, D', the seed and the step, nothing else."""
        self.write(x_D)
        self.backbone.train()
        torch.manual_seed(int(json_digest(["mbd noisy fine-tuning", self.seed, step])[:16], 16) >> 1)
        whole = make_batch(self.rows, torch.randint(len(self.rows), (self.batch_size,)).tolist())
        batch = whole.mask(draw_patterns(whole.present, self.patterns_NM))
        loss: Tensor = torch.stack(list(self.backbone.losses(self.backbone(batch), batch).values())).sum()
        gradients = torch.autograd.grad(loss, self.moving, allow_unused=True, materialize_grads=True)
        flat = [gradient.to(torch.float64).flatten() for gradient in gradients]
        return np.asarray(torch.cat(flat).numpy(), dtype=np.float64)


def _moving(backbone: Backbone, public: Collection[str]) -> list[nn.Parameter]:
    """Every parameter that is not public.

    Raises:
        DeletionError: a public name is unknown, a tensor is of no class, or nothing is left.
    """
    state = set(backbone.state_dict())
    parameters = dict(backbone.named_parameters())
    if unknown := sorted(set(public) - state):
        raise DeletionError(
            f"The network has no tensors {', '.join(unknown)}, which were declared public.",
            remedy="declare tensors by their names in the network's state",
        )
    unclassed = [n for n in sorted(state - set(parameters) - set(public)) if not n.startswith(_STANDARDISER)]
    if unclassed:
        raise DeletionError(
            f"Nothing is known about what {', '.join(unclassed)} remember: they are neither parameters nor public.",
            remedy="retrain, which is exact; or declare them public if they were made from public rows alone",
        )
    moving = [parameter for name, parameter in parameters.items() if name not in public]
    if not moving:
        raise DeletionError(
            "Every parameter of the network is declared public, so there is nothing to fine-tune.",
            remedy="treat the model line's backbone as public: no deletion touches it",
        )
    return moving


def _centre(backbone: Backbone, centre: Backbone | None, public: Collection[str]) -> FloatArray:
    """The centre's numbers in place of the network's moving ones, float64 [D]; zeros without a centre.

    Raises:
        DeletionError: they do not correspond.
    """
    here, there = (
        {name: p for name, p in network.named_parameters() if name not in public}
        for network in (backbone, centre if centre is not None else backbone)
    )
    if {name: p.shape for name, p in here.items()} != {name: p.shape for name, p in there.items()}:
        raise DeletionError(
            "The centre has other parameters than the network.",
            remedy="give a network of the same recipe and channels, or none",
        )
    flat = torch.cat([p.detach().to(torch.float64).flatten() for p in there.values()])
    return np.asarray((flat if centre is not None else torch.zeros_like(flat)).numpy(), dtype=np.float64)


def _refit_standardiser(backbone: Backbone, rows: Cohort, public: Collection[str]) -> None:
    """Constants from D' in place of those from D. A channel that nobody has any more gets the identity."""
    dims = {modality: shape.dim for modality, shape in backbone.interface.channels.items()}
    fresh = Standardiser(dims, backbone.interface.outputs)
    fresh.fit(rows)
    for name, constants in fresh.state_dict().items():
        if _STANDARDISER + name not in public:
            backbone.standardiser.get_buffer(name).copy_(constants)
