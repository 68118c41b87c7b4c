"""Whether rows can be a cohort. Each check raises on the first thing that is wrong, and names the row it stands in.

It knows nothing of where rows come from: every importer ends here.
"""

import unicodedata
from collections.abc import Callable

import numpy as np

from mbd.cohort.cohort import EVERYONE, Cohort, Feature, Partition, Split
from mbd.cohort.modality import Modality
from mbd.errors import CohortError, RowError


def validate(cohort: Cohort) -> None:
    """All checks, from the whole to the parts: declarations, names, labels, features, and who may be used for what.

    Raises:
        CohortError: the cohort as a whole is wrong.
        RowError: one row is wrong; the first such row is named.
    """
    if not len(cohort):
        raise CohortError(f"Cohort '{cohort.name}' has no rows.", remedy="check the path and the filters of the import")
    for check in _CHECKS:
        check(cohort)


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


def _names(cohort: Cohort) -> None:
    first: dict[str, int] = {}
    for i, row in enumerate(cohort.rows):
        for name in (row.clip, row.subject):
            if not is_plain_name(name):
                raise RowError(
                    cohort.row_name(i),
                    f"{name!r} cannot name a clip or a subject.",
                    remedy="use printable text in Unicode form NFC without spaces around it; "
                    "a name that only looks like another could slip past a suppression",
                )
        if row.subject == EVERYONE:
            raise RowError(cohort.row_name(i), f"'{EVERYONE}' means everyone.", remedy="give the subject another name")
        if row.clip in first:
            raise RowError(
                cohort.row_name(i),
                f"the clip id stands already in row {first[row.clip]}.",
                remedy="give every clip its own id, and no clip twice",
            )
        first[row.clip] = i


def is_plain_name(name: str) -> bool:
    """Whether a clip or a subject can be called so: one text for each name that can be seen."""
    printable = bool(name) and name.isprintable() and name == name.strip()
    return printable and unicodedata.is_normalized("NFC", name)


def _labels(cohort: Cohort) -> None:
    task = cohort.task
    for i, row in enumerate(cohort.rows):
        if task.kind == "classification":
            if row.label not in task.classes:
                raise RowError(
                    cohort.row_name(i),
                    f"the label {row.label!r} is unknown.",
                    remedy=f"use one of {', '.join(task.classes)}",
                )
        elif not isinstance(row.label, float | int) or not task.low <= row.label <= task.high:
            raise RowError(
                cohort.row_name(i),
                f"the label {row.label!r} is not a number in [{task.low:g}, {task.high:g}].",
                remedy="correct the label, or declare the range that the labels have",
            )


def _features(cohort: Cohort) -> None:
    for modality in cohort.modalities:
        for i, feature in enumerate(cohort.features[modality]):
            if feature is not None:
                _feature(cohort, i, modality, feature)


def _feature(cohort: Cohort, i: int, modality: Modality, feature: Feature) -> None:
    channel = cohort.channels[modality]
    fits = feature.shape == (channel.dim,)
    if channel.kind == "sequence":
        fits = feature.ndim == 2 and len(feature) > 0 and feature.shape[1] == channel.dim
    if not fits:
        wanted = f"[{channel.dim}]" if channel.kind == "vector" else f"[frames, {channel.dim}] with frames > 0"
        raise RowError(
            cohort.row_name(i),
            f"{modality} has shape {list(feature.shape)}, not {wanted}.",
            remedy="run the same extractor on every clip, and leave the channel out where it gave nothing",
        )
    if feature.dtype != np.float32:
        raise RowError(cohort.row_name(i), f"{modality} is {feature.dtype}.", remedy="convert features to float32")
    if not np.isfinite(feature).all():
        at = np.argwhere(~np.isfinite(feature))[0]
        found = "NaN" if np.isnan(feature[tuple(at)]) else "infinity"
        raise RowError(
            cohort.row_name(i),
            f"{modality} holds {found} at {at.tolist()}.",
            remedy="repair the extractor, or leave the channel out of this row: absent is a state, not a number",
        )


def _presence(cohort: Cohort) -> None:
    for m, modality in enumerate(cohort.modalities):
        if not cohort.presence[:, m].any():
            raise CohortError(
                f"The {modality} channel is declared, but none of the {len(cohort)} rows has it "
                f"(the first is {cohort.row_name(0)}).",
                remedy="leave the channel out of the declaration, or give its features",
            )
    bare = np.flatnonzero(~cohort.presence.any(axis=1))
    if bare.size:
        raise RowError(cohort.row_name(int(bare[0])), "it has no modality at all.", remedy="leave such rows out")


def _one_place_a_subject(cohort: Cohort) -> None:
    first: dict[str, int] = {}
    for i, row in enumerate(cohort.rows):
        other = cohort.rows[first.setdefault(row.subject, i)]
        for here, there in ((row.split, other.split), (row.partition, other.partition)):
            if here != there:
                raise RowError(
                    cohort.row_name(i),
                    f"subject '{row.subject}' is in {here} here and in {there} in row {first[row.subject]}.",
                    remedy="give all clips of a subject one split and one partition",
                )


def _public_rows(cohort: Cohort) -> None:
    for i, row in enumerate(cohort.rows):
        if row.split is Split.VALID and row.partition is not Partition.PUBLIC:
            raise RowError(
                cohort.row_name(i),
                "it is a valid row, but revocable.",
                remedy="make valid rows public (a model is selected on them, and a selection cannot be withdrawn)",
            )
    if not any(row.split is Split.TRAIN and row.partition is Partition.PUBLIC for row in cohort.rows):
        raise CohortError(
            f"Cohort '{cohort.name}' has no public train rows.",
            remedy="make some subjects public: the backbone is trained on rows that nobody revokes",
        )


_CHECKS: tuple[Callable[[Cohort], None], ...] = (
    _declarations,
    _names,
    _labels,
    _features,
    _presence,
    _one_place_a_subject,
    _public_rows,
)
