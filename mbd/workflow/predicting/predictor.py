"""Answers questions with the live versions, and refuses what was withdrawn at the moment of the answer. It loads torch.

It knows no HTTP, and neither keeps nor logs anything of a clip.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from threading import Event, Lock
from typing import Any

import numpy as np
from sqlalchemy.exc import DBAPIError

from mbd.backbones.base import ChannelShape
from mbd.cohort.cohort import Channel, Cohort, Feature, Pair, Partition, Row, Split
from mbd.cohort.modality import Modality
from mbd.derivation import closure
from mbd.errors import PredictionError, RecordsError, TrainingError
from mbd.lattice.model import LatticeModel
from mbd.records import derivations, models, suppression
from mbd.records.database import begin_snapshot
from mbd.records.models import ModelVersion
from mbd.telemetry.logs import logger
from mbd.workflow.evaluation import Channel as How
from mbd.workflow.evaluation import RowPrediction, predict_rows
from mbd.workflow.live import load_live_model
from mbd.workflow.office import Office, refuse_rollback
from mbd.workflow.predicting.exchange import Answer, Clip, ClipAnswer, Features, Question

_ROUND_SECONDS = 1
_NOTHING_LEFT = "every channel that was sent is withdrawn"
_log = logger("mbd.predicting")


@dataclass(frozen=True)
class _Standing:
    """What the records say about a question, in one snapshot.

    Attributes:
        live: the version that answers.
        withdrawn: channels that may not be read, of the people in question, with what falls with them in this line.
    """

    live: ModelVersion
    withdrawn: frozenset[Pair]


class Predictor:
    """The live models of a deployment, in memory as long as they are live. Threads may share it."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._models: dict[str, tuple[ModelVersion, LatticeModel]] = {}
        self._loading = Lock()

    def refresh(self) -> None:
        """Let go of versions that are not live any more, and load those that are.

        A version that cannot be loaded is logged; whoever asks for it is told so then.

        Raises:
            RecordsError: the database cannot be reached, or is an old backup.
        """
        with begin_snapshot(self._office.engine) as connection:
            refuse_rollback(self._office, connection)
            live = models.live_versions(connection)
        with self._loading:
            self._models = {line: kept for line, kept in self._models.items() if kept[0] in live}
        for version in live:
            try:
                self._model(version)
            except (TrainingError, OSError) as error:  # perhaps the next one is live by now
                _log.warning("a model cannot be loaded", error=error)

    def keep_fresh(self, stopping: Event) -> None:
        """`refresh` every second until told to stop. A database that is away is asked again in the next one."""
        while not stopping.wait(_ROUND_SECONDS):
            try:
                self.refresh()
            except (RecordsError, DBAPIError) as error:
                _log.warning("the database is away", error=error)

    def answer(self, question: Question) -> Answer:
        """What the live version says of the clips.

        An answer counts only if version and withdrawals are the same before and after it was made: none comes from a
        version or a channel that was given up meanwhile, however long loading took.

        Raises:
            PredictionError: there is no such line, or the clips do not fit it.
            TrainingError, OSError: the live version's files are damaged.
            RecordsError: the database cannot be reached, or is an old backup.
        """
        standing = self._look(question)
        while True:
            try:
                made: Answer | Exception = self._answer(question, standing)
            except (TrainingError, OSError) as error:  # perhaps it has retired, and its files are gone
                made = error
            before, standing = standing, self._look(question)
            if before != standing:
                continue
            if isinstance(made, Exception):
                raise made
            return made

    def _look(self, question: Question) -> _Standing:
        people = {clip.subject: self._office.identities.subject_key(clip.subject) for clip in question.clips}
        with begin_snapshot(self._office.engine) as connection:
            refuse_rollback(self._office, connection)
            live = models.live(connection, question.line)
            if live is None:
                raise PredictionError(
                    "There is no model line of that name, or no version of it is in service.",
                    remedy="use a line of `GET /v1/models` that has one",
                )
            listed = suppression.suppressions(connection, of=people.values())
            follows = derivations.of_cohort(connection, live.cohort)
        withdrawn = {
            (subject, modality)
            for subject, key in people.items()
            for modality in Modality
            if listed.covers(suppression.Channel(key, modality.value))
        }
        falls_with = {Modality(m): tuple(map(Modality, sources)) for m, sources in follows.items()}
        return _Standing(live, closure(withdrawn, falls_with))

    def _model(self, live: ModelVersion) -> LatticeModel:
        with self._loading:
            kept = self._models.get(live.line)
            if kept is None or kept[0] != live:
                kept = self._models[live.line] = (live, load_live_model(self._office, live))
            return kept[1]

    def _answer(self, question: Question, standing: _Standing) -> Answer:
        model = self._model(standing.live)
        rows = predict_rows(model, _cohort(model, question.clips), lambda *pair: pair in standing.withdrawn)
        return Answer(
            line=standing.live.line,
            version=standing.live.version,
            guarantee_class=standing.live.guarantee_class,
            clips=[_clip_answer(row) for row in rows],
        )


def _clip_answer(row: RowPrediction) -> ClipAnswer:
    def come_by(how: How) -> list[Any]:
        return [modality for modality, found in row.channels.items() if found is how]

    return ClipAnswer(
        prediction=row.output,
        why_not=_NOTHING_LEFT if row.output is None else None,
        used=come_by(How.PRESENT),
        refused=come_by(How.SUPPRESSED),
        reconstructed=come_by(How.RECONSTRUCTED),
    )


def _cohort(model: LatticeModel, clips: Collection[Clip]) -> Cohort:
    """The clips as rows that the model reads. They have no label, so the one they are given neither counts nor falls.

    Raises:
        PredictionError: a clip does not fit the model.
    """
    shapes = model.featurizer.backbone.interface.channels
    task = model.task
    label = 0.0 if task.kind == "regression" else task.classes[0]
    columns: dict[Modality, list[Feature | None]] = {modality: [] for modality in shapes}
    for n, clip in enumerate(clips):
        sent = {Modality(name): value for name, value in clip.channels if value is not None}
        for modality in sent.keys() - shapes.keys():
            raise PredictionError(
                f"Clip {n}: the line has no {modality}.", remedy=f"send only {', '.join(m.value for m in shapes)}"
            )
        for modality, shape in shapes.items():
            columns[modality].append(_feature(n, modality, shape, sent[modality]) if modality in sent else None)
    return Cohort(
        name="question",
        description="",
        synthetic=False,
        task=replace(task, label_policy="keeps"),
        channels={
            m: Channel(m, "sequence" if shape.sequence else "vector", shape.dim, extractor="")
            for m, shape in shapes.items()
        },
        rows=tuple(Row(str(n), clip.subject, label, Partition.REVOCABLE, Split.TEST) for n, clip in enumerate(clips)),
        features={modality: tuple(column) for modality, column in columns.items()},
    )


def _feature(n: int, modality: Modality, shape: ChannelShape, sent: Features) -> Feature:
    wanted = f"frames of {shape.dim} numbers each" if shape.sequence else f"one list of {shape.dim} numbers"
    remedy = f"send {wanted}, from the extractor of the line's cohort (`mbd data describe` names it)"
    if isinstance(sent[0], list) != shape.sequence:
        form = "a vector" if shape.sequence else "a sequence"
        raise PredictionError(f"Clip {n}: {modality} is {form}.", remedy=remedy)
    widths = {len(each) if isinstance(each, list) else len(sent) for each in sent} - {shape.dim}
    if widths:
        raise PredictionError(f"Clip {n}: {modality} has {min(widths)} numbers, not {shape.dim}.", remedy=remedy)
    with np.errstate(over="ignore"):
        feature = np.array(sent, dtype=np.float32)
    if not np.isfinite(feature).all():
        raise PredictionError(f"Clip {n}: {modality} has a number that no float32 holds.", remedy=remedy)
    return feature
