"""Train again without the withdrawn channels: the reference that every other mechanism is held against.

It is handed D' alone, so it cannot read what was withdrawn. It knows no certificate.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mbd.backbones.base import Backbone
from mbd.cohort.cohort import Cohort, Partition
from mbd.privacy.guarantee import Exact
from mbd.training.loop import OnProgress, train
from mbd.training.recipe import Recipe
from mbd.training.transcript import Transcript

RETRAIN_EQUALITY = "all tensors of the network: those of the same recipe and seed trained on D' from the start by one process, bit for bit"
SELECTION_EQUALITY = "the choice of the epoch: a function of D', by its public validation rows"


class Retrained(NamedTuple):
    """What training on D' gives.

    Attributes:
        backbone: in evaluation mode.
        guarantee: exact.
        report: the recipe, how many rows, the chosen epoch and its loss on public validation rows.
        transcript: of the run, for the operator; its digests carry no salt and are not for publication.
    """

    backbone: Backbone
    guarantee: Exact
    report: Mapping[str, Any]
    transcript: Transcript


def retrain(
    recipe: Recipe,
    cohort_after: Cohort,
    *,
    seed: int,
    on_progress: OnProgress | None = None,
    checkpoint_dir: Path | None = None,
    resume: bool = True,
) -> Retrained:
    """Train an entangled backbone on D', all training rows of it, as its line's first version was trained on D.

    Args:
        recipe: the line's own.
        cohort_after: D'.
        seed: the line's own; it must not have been chosen by looking at the withdrawn channels.
        on_progress: told about each epoch.
        checkpoint_dir: where a killed run goes on from; a checkpoint of the run on D is refused there.
        resume: whether a checkpoint found there is used or discarded.

    Raises:
        TrainingError: as `train` says.
    """
    trained = train(
        recipe,
        cohort_after,
        seed=seed,
        partitions=tuple(Partition),
        on_progress=on_progress,
        checkpoint_dir=checkpoint_dir,
        resume=resume,
    )
    transcript = trained.transcript
    report = {
        "mechanism": "retrain",
        "recipe": transcript.recipe_digest,
        "seed": seed,
        "rows": dict(transcript.rows),
        "chosen_epoch": transcript.chosen_epoch,
        "public_validation_loss": transcript.curve[transcript.chosen_epoch].score,
    }
    return Retrained(trained.backbone, Exact((RETRAIN_EQUALITY, SELECTION_EQUALITY)), report, transcript)
