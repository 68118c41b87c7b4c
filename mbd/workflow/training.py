"""Train a model line: backbone on public rows, exact statistics, released heads, and the first entries of its lineage.

A killed run goes on where it was when the same command is given again. Nothing is registered before all of it is done.
"""

import re
import secrets
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from mbd.cohort import folder
from mbd.cohort.cohort import Partition
from mbd.cohort.manifest import KEY_BYTES
from mbd.cohort.modality import Modality
from mbd.cohort.piecewise import Changed, PiecewiseCohort
from mbd.cohort.suppression import drop_suppressed, refuse_suppressed
from mbd.cohort.validation import validate
from mbd.deletion.entangled import fine_tuning_options, surgical_options
from mbd.deletion.towers import train_towers
from mbd.errors import CohortError, SettingsError
from mbd.lattice.fit import Line, fit_lattice, training_rows
from mbd.lattice.model import LatticeModel, Saved, save_model
from mbd.lattice.release import ReleasePolicy
from mbd.lattice.towers import SHARD_KEY_BYTES
from mbd.records import models
from mbd.records.database import begin_locked, begin_snapshot
from mbd.records.models import ModelVersion, VersionState
from mbd.records.suppression import Channel
from mbd.training.processes import train_by
from mbd.training.randomness import Device, require_device
from mbd.training.recipe import Recipe
from mbd.training.transcript import Transcript
from mbd.workflow.claim import Provenance
from mbd.workflow.log import commit_to_noise
from mbd.workflow.registration import register_line
from mbd.workflow.system import System
from mbd.workflow.transcripts import keep_transcript

_LINE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

OnTraining = Callable[[str, float, str], None]
"""Told the stage, its finished fraction, and a few words about it."""


@dataclass(frozen=True)
class TrainedLine:
    """A model line's first version.

    Attributes:
        version: as registered.
        saved: its files.
        model: itself.
        transcript: of the backbone's training.
        made: what names the record of it in certificates.
    """

    version: ModelVersion
    saved: Saved
    model: LatticeModel
    transcript: Transcript
    made: Provenance


def train_line(
    system: System,
    cohort: PiecewiseCohort,
    recipe: Recipe,
    *,
    line: str,
    seed: int,
    drop_channels: bool = False,
    candidate: bool = False,
    processes: int = 1,
    device: Device = "cpu",
    on_progress: OnTraining = lambda stage, done, about: None,
) -> TrainedLine:
    """Train and register version 1 of a new line.

    Memory holds the rows that networks are trained on (public ones, and all for a recipe whose backbone or towers see
    revocable people); of the others one piece at a time, and what names them.

    Args:
        system: the deployment.
        cohort: rows in memory or in an opened folder; a copy of them becomes the line's own.
        recipe: how to train the backbone.
        line: the new line's name.
        seed: of everything random in the training.
        drop_channels: make suppressed channels absent instead of refusing them.
        candidate: leave it out of service until it is promoted.
        processes: how many share the training of the backbone.
        device: where the backbone trains.
        on_progress: told how far it is.

    Raises:
        SettingsError: the line exists, or its name cannot be a folder's.
        DeletionError: the recipe's constants of a mechanism are not such constants.
        CohortError: the rows are not valid, or somebody is public here and revocable in another line, or the reverse.
        ChannelSuppressedError: the cohort holds a channel that its person withdrew.
        TrainingError: the training cannot go on, or there is no such device.
        RanksError: a training process ended before its time; the same call goes on from the last epoch.
    """
    _check_name(line)
    require_device(device, processes)
    for options_of in (fine_tuning_options, surgical_options):
        options_of(recipe)  # a wrong table is refused now, and not when somebody withdraws
    validate(cohort)
    with system.exclusive():
        with begin_snapshot(system.engine) as connection:
            if models.versions(connection, line):
                raise SettingsError(
                    f"The model line '{line}' exists already.", remedy="choose another name with --line"
                )
            others = models.in_states(connection, VersionState.LIVE, VersionState.CANDIDATE)
        _refuse_misplaced(system, cohort, others)
        suppressed = system.suppressed()
        if drop_channels:
            cohort = Changed(cohort, partial(drop_suppressed, suppressed=suppressed))
        refuse_suppressed(cohort, suppressed)
        commit_to_noise(system)
        shutil.rmtree(system.version_folder(line, 1), ignore_errors=True)
        manifest = folder.write(cohort, system.cohort_folder(line, 1), key=secrets.token_bytes(KEY_BYTES))
        own = folder.open_pieces(system.cohort_folder(line, 1))
        learning = own.where(None if recipe.sees_revocable else Partition.PUBLIC)
        checkpoints = (system.revocable_training if recipe.trains_on == "everyone" else system.home / "training") / line
        trained = train_by(
            processes,
            recipe,
            learning,
            stored=system.cohort_folder(line, 1),
            device=device,
            seed=seed,
            manifest_root=manifest.root,
            checkpoint_dir=checkpoints,
            on_progress=lambda epoch, epochs, numbers: on_progress(
                "backbone", epoch / epochs, f"validation loss {numbers['validation']:.3f}"
            ),
        )
        on_progress("backbone", 1.0, f"epoch {trained.transcript.chosen_epoch + 1} is the best on validation")
        made = keep_transcript(system, line, 1, trained.transcript)
        shard_key = secrets.token_bytes(SHARD_KEY_BYTES) if recipe.sharded else b""
        towers = train_towers(
            recipe,
            learning,
            recipe.tower_names,
            seed=seed,
            shard_key=shard_key,
            noise=system.keyring.noise,
            purpose=f"{line}/1",
            on_progress=lambda done, name: on_progress("towers", done, name),
        )
        settings = system.settings
        policy = ReleasePolicy(
            tau=settings.tau,
            epsilon=settings.epsilon,
            delta=settings.delta,
            budget_epsilon=settings.budget_epsilon,
            exact_rows=settings.exact_rows,
            loss=recipe.heads,
        )
        model = fit_lattice(
            trained.backbone,
            own,
            policy=policy,
            indicator_penalty=settings.indicator_penalty,
            noise=system.keyring.noise,
            purpose=f"{line}/1/training",
            salt=secrets.token_bytes(KEY_BYTES),
            line=Line(
                entangled=recipe.trains_on == "everyone",
                towers=towers,
                recipe=recipe.to_json(),
                seed=seed,
                shard_key=shard_key,
            ),
            on_progress=lambda done: on_progress("heads", done, "penalties on public rows"),
        )
        saved = save_model(model, system.model_folder(line, 1), cohort_root=manifest.root)
        exposure = exposure_of(system, own)
        with begin_locked(system.engine) as connection:
            version = register_line(
                connection,
                line=line,
                name=own.head.name,
                manifest=manifest,
                model=model,
                saved=saved,
                made=made,
                public_digest=trained.transcript.data_digest,
                exposure=exposure,
                public_exposure=exposure_of(system, learning.where(partition=Partition.PUBLIC)),
                follows={m.value: [each.value for each in sources] for m, sources in own.head.follows.items()},
                candidate=candidate,
                now=system.clock(),
            )
        shutil.rmtree(checkpoints, ignore_errors=True)
        return TrainedLine(version, saved, model, trained.transcript, made)


def exposure_of(system: System, cohort: PiecewiseCohort) -> Mapping[Channel, int]:
    """How many training rows of each person hold each channel; people as subject keys."""
    counts = Counter[tuple[str, Modality]]()
    for rows in map(training_rows, cohort.pieces()):
        counts.update((row.subject, modality) for i, row in enumerate(rows.rows) for modality in rows.present(i))
    return {Channel(system.identities.subject_key(s), m.value): count for (s, m), count in counts.items()}


def _check_name(line: str) -> None:
    if not _LINE_NAME.fullmatch(line):
        raise SettingsError(
            f"'{line}' cannot name a model line.",
            remedy="use up to 64 letters, digits, dots, dashes and underscores, beginning with a letter or a digit",
        )


def _refuse_misplaced(system: System, cohort: PiecewiseCohort, others: Iterable[ModelVersion]) -> None:
    """A person is public everywhere or nowhere, and not who has withdrawn a channel: a backbone cannot forget them.

    Raises:
        CohortError: somebody is public here and revocable in a live line, or the reverse, or public and withdrew.
    """
    name, here = cohort.head.name, _people(cohort)
    for other in others:
        there = _people(folder.open_pieces(system.cohort_folder(other.line, other.version)))
        if clash := sum(there.get(person, partition) != partition for person, partition in here.items()):
            raise CohortError(
                f"{clash} people are public in '{name}' and revocable in model line '{other.line}', or the reverse.",
                remedy="import the cohort again with the same people public: what they withdraw must leave every line",
            )
    withdrew = system.withdrew_anything()
    if clash := sum(partition is Partition.PUBLIC and withdrew(person) for person, partition in here.items()):
        raise CohortError(
            f"{clash} public people of '{name}' have withdrawn a channel before.",
            remedy="import the cohort again with them in the revocable partition, or without them",
        )


def _people(cohort: PiecewiseCohort) -> dict[str, Partition]:
    """Where each person stands: in one partition, as `validate` has seen to."""
    return {row.subject: row.partition for piece in cohort.pieces() for row in piece.rows}
