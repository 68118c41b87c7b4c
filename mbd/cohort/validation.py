"""Whether rows can be a cohort. Each check raises on the first thing that is wrong, and names the row it stands in.

It knows nothing of where rows come from: every importer ends here.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from mbd.cohort.cohort import EVERYONE, Cohort, Feature, Partition, Row, Split
from mbd.cohort.modality import Modality
from mbd.cohort.piecewise import PiecewiseCohort
from mbd.errors import CohortError, RowError
from mbd.naming import is_plain_name


@dataclass
class _Seen:
    """What the rows before a piece have shown.

    Attributes:
        rows: how many.
        clips: the row of each clip id.
        people: the first row of each subject, with its number.
        present: the modalities that some row has.
        public_train: whether there was a public train row.
    """

    rows: int = 0
    clips: dict[str, int] = field(default_factory=dict)
    people: dict[str, tuple[int, Row]] = field(default_factory=dict)
    present: set[Modality] = field(default_factory=set)
    public_train: bool = False

    def name(self, piece: Cohort, i: int) -> str:
        """What names row ``i`` of the next piece to its owner: by its number in the whole cohort."""
        return f"row {self.rows + i} (clip '{piece.rows[i].clip}')"


def validate(cohort: PiecewiseCohort) -> None:
    """All checks: of the declarations, of every piece (names, labels, features, places), and of the whole.

    Memory holds a piece, and of the rows before it their names.

    Raises:
        CohortError: the cohort as a whole is wrong.
        RowError: one row is wrong; the first piece with such a row names one.
    """
    _declarations(cohort.head)
    seen = _Seen()
    for piece in cohort.pieces():
        for check in _CHECKS:
            check(piece, seen)
        seen.rows += len(piece)
    _whole(cohort.head, seen)


def _declarations(cohort: Cohort) -> None:
    task = cohort.task
    if task.kind == "classification" and (len(set(task.classes)) != len(task.classes) or len(task.classes) < 2):
        raise CohortError(
            f"The classes are {list(task.classes)}.", remedy="declare at least two classes, each name once"
        )
    if not (np.isfinite(task.low) and np.isfinite(task.high) and task.low < task.high):
        raise CohortError(
            f"Labels from {task.low:g} to {task.high:g} are no range.", remedy="declare finite low < high"
        )
    if not cohort.channels:
        raise CohortError(
            f"Cohort '{cohort.name}' declares no channel.", remedy="give features for at least one modality"
        )
    for modality, channel in cohort.channels.items():
        if channel.modality != modality or channel.dim < 1 or modality in channel.derived_from:
            raise CohortError(
                f"The declaration of the {modality} channel contradicts itself: {channel}.",
                remedy="a channel has its own modality, at least one number, and is not derived from itself",
            )
        if (channel.consent == "own") != (not channel.derived_from):
            raise CohortError(
                f"The {modality} channel is derived from {[str(m) for m in channel.derived_from]} "
                f"with consent '{channel.consent}'.",
                remedy="a channel derived from another says 'follows' or 'independent'; any other says 'own'",
            )


def _names(cohort: Cohort, seen: _Seen) -> None:
    for i, row in enumerate(cohort.rows):
        for name in (row.clip, row.subject):
            if not is_plain_name(name):
                raise RowError(
                    seen.name(cohort, i),
                    f"{name!r} cannot name a clip or a subject.",
                    remedy="use printable text in Unicode form NFC without spaces around it; "
                    "a name that only looks like another could slip past a suppression",
                )
        if row.subject == EVERYONE:
            raise RowError(
                seen.name(cohort, i), f"'{EVERYONE}' means everyone.", remedy="give the subject another name"
            )
        if row.clip in seen.clips:
            raise RowError(
                seen.name(cohort, i),
                f"the clip id stands already in row {seen.clips[row.clip]}.",
                remedy="give every clip its own id, and no clip twice",
            )
        seen.clips[row.clip] = seen.rows + i


def _labels(cohort: Cohort, seen: _Seen) -> None:
    task = cohort.task
    for i, row in enumerate(cohort.rows):
        if task.kind == "classification":
            if row.label not in task.classes:
                raise RowError(
                    seen.name(cohort, i),
                    f"the label {row.label!r} is unknown.",
                    remedy=f"use one of {', '.join(task.classes)}",
                )
        elif not isinstance(row.label, float | int) or not task.low <= row.label <= task.high:
            raise RowError(
                seen.name(cohort, i),
                f"the label {row.label!r} is not a number in [{task.low:g}, {task.high:g}].",
                remedy="correct the label, or declare the range that the labels have",
            )


def _features(cohort: Cohort, seen: _Seen) -> None:
    for modality in cohort.modalities:
        for i, feature in enumerate(cohort.features[modality]):
            if feature is not None:
                _feature(cohort, i, modality, feature, seen)


def _feature(cohort: Cohort, i: int, modality: Modality, feature: Feature, seen: _Seen) -> None:
    channel = cohort.channels[modality]
    fits = feature.shape == (channel.dim,)
    if channel.kind == "sequence":
        fits = feature.ndim == 2 and len(feature) > 0 and feature.shape[1] == channel.dim
    if not fits:
        wanted = f"[{channel.dim}]" if channel.kind == "vector" else f"[frames, {channel.dim}] with frames > 0"
        raise RowError(
            seen.name(cohort, i),
            f"{modality} has shape {list(feature.shape)}, not {wanted}.",
            remedy="run the same extractor on every clip, and leave the channel out where it gave nothing",
        )
    if feature.dtype != np.float32:
        raise RowError(seen.name(cohort, i), f"{modality} is {feature.dtype}.", remedy="convert features to float32")
    if not np.isfinite(feature).all():
        at = np.argwhere(~np.isfinite(feature))[0]
        found = "NaN" if np.isnan(feature[tuple(at)]) else "infinity"
        raise RowError(
            seen.name(cohort, i),
            f"{modality} holds {found} at {at.tolist()}.",
            remedy="repair the extractor, or leave the channel out of this row: absent is a state, not a number",
        )


def _presence(cohort: Cohort, seen: _Seen) -> None:
    seen.present |= {modality for m, modality in enumerate(cohort.modalities) if cohort.presence[:, m].any()}
    bare = np.flatnonzero(~cohort.presence.any(axis=1))
    if bare.size:
        raise RowError(seen.name(cohort, int(bare[0])), "it has no modality at all.", remedy="leave such rows out")


def _places(cohort: Cohort, seen: _Seen) -> None:
    for i, row in enumerate(cohort.rows):
        first, other = seen.people.setdefault(row.subject, (seen.rows + i, row))
        for here, there in ((row.split, other.split), (row.partition, other.partition)):
            if here != there:
                raise RowError(
                    seen.name(cohort, i),
                    f"subject '{row.subject}' is in {here} here and in {there} in row {first}.",
                    remedy="give all clips of a subject one split and one partition",
                )
        if row.split is Split.VALID and row.partition is not Partition.PUBLIC:
            raise RowError(
                seen.name(cohort, i),
                "it is a valid row, but revocable.",
                remedy="make valid rows public (a model is selected on them, and a selection cannot be withdrawn)",
            )
        seen.public_train |= row.split is Split.TRAIN and row.partition is Partition.PUBLIC


def _whole(head: Cohort, seen: _Seen) -> None:
    if not seen.rows:
        raise CohortError(f"Cohort '{head.name}' has no rows.", remedy="check the path and the filters of the import")
    for modality in head.modalities:
        if modality not in seen.present:
            raise CohortError(
                f"The {modality} channel is declared, but none of the {seen.rows} rows has it.",
                remedy="leave the channel out of the declaration, or give its features",
            )
    if not seen.public_train:
        raise CohortError(
            f"Cohort '{head.name}' has no public train rows.",
            remedy="make some subjects public: the backbone is trained on rows that nobody revokes",
        )


_CHECKS: tuple[Callable[[Cohort, _Seen], None], ...] = (_names, _labels, _features, _presence, _places)
