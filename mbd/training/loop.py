"""The one training loop, for every backbone of the zoo. It knows no network by name and no lattice.

Same recipe, rows, seed, number of processes, library versions and kind of processor give the same weights bit for bit,
also across a kill: the random numbers of an epoch come from the seed and its index alone. (A GPU's kernels may add in
any order: no such promise is made there.) The caller's generator is left as it was.
"""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mbd.backbones.base import Backbone, Interface
from mbd.backbones.weights import weights_digest
from mbd.backbones.zoo import build, known
from mbd.cohort.batch import make_batch
from mbd.cohort.cohort import Cohort, Partition
from mbd.cohort.modality import pattern_name
from mbd.errors import TrainingError
from mbd.hashing import json_digest
from mbd.ranks import ALONE, Ranks, together
from mbd.training.checkpoint import CheckpointFile, Progress, State
from mbd.training.data import data_digest, public_rows, training_rows
from mbd.training.distributed import loss_gradients
from mbd.training.masking import as_columns, draw_patterns
from mbd.training.randomness import Device, derived_seed, own_randomness, require_device
from mbd.training.recipe import Recipe
from mbd.training.transcript import Epoch, Transcript

OnProgress = Callable[[int, int, Mapping[str, float]], None]
"""Called after each epoch with (epochs done, epochs at most, the epoch's numbers)."""

OnStep = Callable[[Backbone], None]
"""Shown the network after each step's gradients are there, before they are clipped; it changes nothing."""

_VALIDATION_ROWS = 256


@dataclass(frozen=True)
class Trained:
    """Backbone in evaluation mode with the chosen epoch's weights, and how they came to be."""

    backbone: Backbone
    transcript: Transcript


def train(
    recipe: Recipe,
    cohort: Cohort,
    *,
    seed: int,
    partitions: Collection[Partition] = (Partition.PUBLIC,),
    manifest_root: str | None = None,
    on_progress: OnProgress | None = None,
    on_step: OnStep | None = None,
    checkpoint_dir: Path | None = None,
    resume: bool = True,
    device: Device = "cpu",
) -> Trained:
    """Train on the cohort's public training rows and keep the epoch that is best on its public validation rows.

    Within an initialised `torch.distributed` group (torchrun) all its processes must make the same call: they share
    each batch's rows and end with the same weights. The loss stays that of the whole batch, so without dropout these
    are the weights of one process up to rounding; with it, other masks are drawn.

    Args:
        recipe: what to train, and how.
        cohort: may hold revocable and test rows; they are never read, unless ``partitions`` names them.
        seed: of everything random.
        partitions: whose training rows shape weights and constants. A backbone that was trained on revocable rows is
            entangled. The epoch is chosen on public rows, whatever is named here.
        manifest_root: Merkle root of the cohort's manifest (hex), for the transcript.
        on_progress: told about each epoch, in the first process.
        on_step: shown each step, in every process; not the steps before a checkpoint from which the run goes on.
        checkpoint_dir: where to keep one checkpoint file, so that a killed run can go on; it is removed at the end. All
            processes read it, the first one writes it.
        resume: whether a checkpoint found there is used (it must be of this very run) or discarded.
        device: where the network trains; a GPU is for a single process. What is returned is on the CPU.

    Raises:
        TrainingError: no public rows, an unknown backbone, another run's checkpoint, losses that are not finite, or no
            such device.
        RanksError: another process of the group stopped, or is at other work.
    """
    with together() as ranks:
        require_device(device, ranks.count)
        _, selection = public_rows(cohort)
        training = training_rows(cohort, partitions)
        digest = data_digest(training, selection, context=known(recipe.backbone).reads_context)
        where = {"ranks": str(ranks.count), "device": device}
        identity = {"recipe": recipe.digest, "data": digest, "seed": str(seed), **versions(), **where}
        checkpoint = CheckpointFile(checkpoint_dir, identity) if checkpoint_dir else None
        if checkpoint and ranks.first and not resume:
            checkpoint.remove()
        with own_randomness(recipe.threads, device):
            torch.manual_seed(derived_seed(seed, "initial weights"))
            backbone = build(recipe.backbone, Interface.of(cohort), recipe.options)
            backbone.standardiser.fit(training)
            start = weights_digest(backbone)
            run = _Run(
                recipe, seed, backbone.to(device), training, selection, ranks=ranks, device=device, on_step=on_step
            )
            if checkpoint and resume and (progress := checkpoint.read()):
                run.restore(progress)
            begun = json_digest([vars(epoch) for epoch in run.curve])
            ranks.agree({**identity, "initial weights": start, "checkpoint": begun})
            run.to_the_end(checkpoint, on_progress)
        backbone.cpu().load_state_dict(run.best)
        weights = weights_digest(backbone)
        ranks.agree({"final weights": weights})
        if checkpoint and ranks.first:
            checkpoint.remove()

    transcript = Transcript(
        recipe=recipe.to_json(),
        recipe_digest=recipe.digest,
        data_digest=digest,
        manifest_root=manifest_root,
        seed=seed,
        versions=versions(),
        rows=_row_counts(training, selection),
        curve=tuple(run.curve),
        chosen_epoch=run.best_epoch,
        weights_digest=weights,
        ranks=ranks.count,
        device=device,
    )
    return Trained(backbone.eval(), transcript)


class _Run:
    """The state of a run between two epochs."""

    def __init__(
        self,
        recipe: Recipe,
        seed: int,
        backbone: Backbone,
        training: Cohort,
        validation: Cohort,
        *,
        ranks: Ranks,
        device: Device,
        on_step: OnStep | None,
    ) -> None:
        self.recipe, self.seed, self.backbone = recipe, seed, backbone
        self.training, self.validation = training, validation
        self.ranks, self.device, self.on_step = ranks, device, on_step
        groups = backbone.parameter_groups()
        self.optimiser = torch.optim.AdamW(
            [{"params": list(group.parameters)} for group in groups], weight_decay=recipe.weight_decay
        )
        self.rates = [recipe.learning_rate if group.learning_rate is None else group.learning_rate for group in groups]
        self.curve: list[Epoch] = []
        self.best: State = {}
        self.best_epoch = -1

    def to_the_end(self, checkpoint: CheckpointFile | None, on_progress: OnProgress | None) -> None:
        """All epochs that are due. The first process alone writes the checkpoint and tells how far it is."""
        while self.goes_on:
            epoch = self.epoch()
            if checkpoint and self.ranks.first:
                checkpoint.write(self.progress())
            if on_progress and self.ranks.first:
                on_progress(len(self.curve), self.recipe.epochs, {**epoch.losses, "validation": epoch.score})

    @property
    def goes_on(self) -> bool:
        """Whether another epoch is due."""
        done = len(self.curve)
        return done < self.recipe.epochs and done - 1 - self.best_epoch < self.recipe.patience

    def epoch(self) -> Epoch:
        """One pass over the training rows and one look at the validation rows."""
        index = len(self.curve)
        torch.manual_seed(derived_seed(self.seed, index))
        cosine = 0.5 * (1 + math.cos(math.pi * index / self.recipe.epochs))
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * cosine
        self.backbone.begin_epoch(index, self.recipe.epochs)
        losses = self._optimise()
        validation = validation_losses(self.backbone, self.validation, ranks=self.ranks, device=self.device)
        epoch = Epoch(losses=losses, validation=validation, score=float(np.mean(list(validation.values()))))
        if not math.isfinite(epoch.score):
            raise TrainingError(
                f"Training diverged: the validation loss of epoch {index} is {epoch.score}.",
                remedy="lower the recipe's learning rate, or look for extreme feature values in the rows",
            )
        self.curve.append(epoch)
        if self.best_epoch < 0 or self._rank(index) < self._rank(self.best_epoch):
            self.best_epoch = index
            self.best = {name: tensor.clone() for name, tensor in self.backbone.state_dict().items()}
        return epoch

    def _rank(self, index: int) -> tuple[int, float]:
        """Which of two epochs is the better one: of the later stage, and then of the smaller validation loss."""
        return -self.backbone.stage(index, self.recipe.epochs), self.curve[index].score

    def _optimise(self) -> dict[str, float]:
        """One pass over the training rows in random order; the mean of each loss term."""
        self.backbone.train()
        patterns_NM = as_columns(self.training.patterns)
        totals: dict[str, float] = {}
        order = torch.randperm(len(self.training)).tolist()
        for start in range(0, len(order), self.recipe.batch_size):
            indices = order[start : start + self.recipe.batch_size]
            whole = make_batch(self.training, indices, context=self.backbone.reads_context)
            batch = whole.mask(draw_patterns(whole.present, patterns_NM)).to(self.device)
            step = f"epoch {len(self.curve)}, row {start}"
            terms = loss_gradients(self.backbone, batch, self.ranks, seed=self.seed, step=step)
            if self.on_step:
                self.on_step(self.backbone)
            torch.nn.utils.clip_grad_norm_(self.backbone.parameters(), self.recipe.gradient_norm)
            self.optimiser.step()
            self.optimiser.zero_grad()
            for name, term in terms.items():
                totals[name] = totals.get(name, 0.0) + term * len(indices)
        return {name: total / len(order) for name, total in totals.items()}

    def progress(self) -> Progress:
        """What a checkpoint has to hold."""
        return Progress(
            weights=self.backbone.state_dict(),
            best=self.best,
            optimiser=_named_state(self.optimiser),
            best_epoch=self.best_epoch,
            curve=[vars(epoch) for epoch in self.curve],
        )

    def restore(self, progress: Progress) -> None:
        """The inverse of `progress`."""
        self.backbone.load_state_dict(progress.weights)
        _restore_state(self.optimiser, progress.optimiser)
        self.best, self.best_epoch = progress.best, progress.best_epoch
        self.curve = [Epoch(**epoch) for epoch in progress.curve]


def _row_counts(training: Cohort, selection: Cohort) -> dict[str, int]:
    """How many rows trained and selected; ``revocable`` is there only when some of those that trained were."""
    revocable = sum(row.partition is Partition.REVOCABLE for row in training.rows)
    counts = {"train": len(training), "valid": len(selection)}
    return {**counts, "revocable": revocable} if revocable else counts


def _named_state(optimiser: torch.optim.Optimizer) -> State:
    """An optimiser's tensors by parameter number and name: safetensors knows no nesting."""
    state = optimiser.state_dict()["state"]
    return {f"{number}.{name}": tensor for number, moments in state.items() for name, tensor in moments.items()}


def _restore_state(optimiser: torch.optim.Optimizer, named: State) -> None:
    """The inverse of `_named_state`."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in named.items():
        number, name = key.split(".", 1)
        state.setdefault(int(number), {})[name] = tensor
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})


def validation_losses(
    backbone: Backbone, rows: Cohort, *, ranks: Ranks = ALONE, device: Device = "cpu"
) -> dict[str, float]:
    """The task loss for each availability pattern, over the rows that have all its channels, masked to them.

    Ranks take turns with pieces of rows. Each piece's sum is one rank's number plus zeros: the bits are those of one.
    """
    backbone.eval()
    having = {pattern: [i for i in range(len(rows)) if pattern <= rows.present(i)] for pattern in rows.patterns}
    pieces = [
        (pattern, indices[start : start + _VALIDATION_ROWS])
        for pattern, indices in having.items()
        for start in range(0, len(indices), _VALIDATION_ROWS)
    ]
    sums = torch.zeros(len(pieces), dtype=torch.float64)
    for number in range(ranks.rank, len(pieces), ranks.count):
        pattern, indices = pieces[number]
        whole = make_batch(rows, indices, context=backbone.reads_context)
        batch = whole.mask(as_columns([pattern])).to(device)
        with torch.no_grad():
            task: Tensor = backbone.losses(backbone(batch), batch)["task"]
        sums[number] = task.item() * len(indices)
    totals = dict.fromkeys((pattern for pattern, indices in having.items() if indices), 0.0)
    for (pattern, _), total in zip(pieces, ranks.sum(sums).tolist(), strict=True):
        totals[pattern] += total
    return {pattern_name(pattern): total / len(having[pattern]) for pattern, total in totals.items()}


def versions() -> dict[str, str]:
    """The libraries whose arithmetic makes the weights."""
    return {"torch": str(torch.__version__), "numpy": np.__version__}
