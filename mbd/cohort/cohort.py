"""Rows of people, and what a withdrawal does to them (docs/guarantees.md). It knows no file, torch or model.

Shapes: n rows, M channels of the cohort, K outputs of the task, F numbers in a vector, T frames in a sequence.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mbd.cohort.modality import Modality, ModalitySet, in_order, subsets
from mbd.derivation import closure
from mbd.errors import CohortError, NothingToDeleteError, RowError, UnknownSubjectError

EVERYONE = "*"
"""The subject of a revocation that withdraws a modality for all revocable subjects."""

Pair = tuple[str, Modality]
"""A subject (or `EVERYONE`) and a modality."""

Feature = NDArray[np.float32]
"""A vector [F] or a sequence [T, F]."""

_NUMBERED = re.compile(r"(?P<recording>.*?)(?P<number>[0-9]+)", re.DOTALL)


class Partition(StrEnum):
    """Whether the people of a row may still withdraw it."""

    PUBLIC = "public"
    REVOCABLE = "revocable"


class Split(StrEnum):
    """What a row may be used for."""

    TRAIN = "train"
    VALID = "valid"
    TEST = "test"


@dataclass(frozen=True)
class Channel:
    """One modality as this cohort stores it.

    Attributes:
        dim: F, the numbers in a vector or in one frame.
        extractor: what made the features, in words for a person.
        derived_from: the modalities that it was computed from, for example audio for a transcript.
        consent: ``own`` for a channel that is not derived; a derived channel with ``follows`` falls with the channels
            it derives from, and one with ``independent`` is, by the cohort's policy, consented to by itself.
    """

    modality: Modality
    kind: Literal["vector", "sequence"]
    dim: int
    extractor: str
    derived_from: tuple[Modality, ...] = ()
    consent: Literal["own", "follows", "independent"] = "own"


@dataclass(frozen=True)
class Task:
    """What is predicted.

    Attributes:
        low, high: the range of every target column: of the score, or 0 and 1 for one-hot classes.
        classes: their names in column order; empty for regression.
        label_derived_from: the modalities that annotators saw or heard.
        label_policy: whether a label ``keeps`` or ``falls`` (its row leaves) when such a modality is withdrawn.
    """

    kind: Literal["regression", "classification"]
    low: float = 0.0
    high: float = 1.0
    classes: tuple[str, ...] = ()
    label_derived_from: tuple[Modality, ...] = ()
    label_policy: Literal["keeps", "falls"] = "keeps"

    @property
    def outputs(self) -> int:
        """K: 1 for a score, else the number of classes."""
        return 1 if self.kind == "regression" else len(self.classes)


@dataclass(frozen=True)
class Row:
    """One clip: whose it is, its label (a score or a class name), and what it may be used for."""

    clip: str
    subject: str
    label: float | str
    partition: Partition
    split: Split


@dataclass(frozen=True, eq=False)
class Cohort:
    """People's clips, channel by channel. A value: nothing here changes it, and its arrays are not to be written to.

    Attributes:
        synthetic: made by a program, of no person.
        channels: the declared channels; a row may lack any of them.
        features: for each channel, one float32 array a row, or None where the channel is absent.
    """

    name: str
    description: str
    synthetic: bool
    task: Task
    channels: Mapping[Modality, Channel]
    rows: tuple[Row, ...]
    features: Mapping[Modality, tuple[Feature | None, ...]]

    def __post_init__(self) -> None:
        lengths = {len(self.features.get(modality, ())) for modality in self.channels}
        if set(self.features) != set(self.channels) or not lengths <= {len(self.rows)}:
            raise CohortError(
                f"Cohort '{self.name}': the channels and the features do not match its {len(self.rows)} rows.",
                remedy="give every declared channel one entry a row, None where the channel is absent",
            )

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def head(self) -> "Cohort":
        """The cohort without its rows; see `mbd.cohort.piecewise`."""
        return self.select([])

    def pieces(self) -> Iterator["Cohort"]:
        """All of it, which is in memory anyway; see `mbd.cohort.piecewise`."""
        yield self

    @cached_property
    def modalities(self) -> tuple[Modality, ...]:
        """The modalities that have a channel, in order."""
        return in_order(self.channels)

    @property
    def patterns(self) -> tuple[ModalitySet, ...]:
        """The availability patterns of this cohort, small ones first."""
        return subsets(self.modalities)

    @cached_property
    def subjects(self) -> tuple[str, ...]:
        """Every subject once, as first seen."""
        return tuple(self.rows_of)

    @cached_property
    def rows_of(self) -> Mapping[str, tuple[int, ...]]:
        """The rows of every subject, subjects as first seen. Made in one pass over the rows, once a cohort."""
        rows: dict[str, list[int]] = {}
        for i, row in enumerate(self.rows):
            rows.setdefault(row.subject, []).append(i)
        return {subject: tuple(mine) for subject, mine in rows.items()}

    @cached_property
    def before(self) -> tuple[int | None, ...]:
        """For each row the one before it in the same recording, or None for the first.

        Clips of one subject are of one recording when their ids differ in their last number alone, which is their order
        (``video_3`` comes after ``video_2``, or after ``video_1`` where 2 is missing).
        """
        recordings: dict[tuple[str, str], list[tuple[int, int]]] = {}
        for i, row in enumerate(self.rows):
            numbered = _NUMBERED.fullmatch(row.clip)
            if numbered:
                recordings.setdefault((row.subject, numbered["recording"]), []).append((int(numbered["number"]), i))
        before: list[int | None] = [None] * len(self)
        for clips in recordings.values():
            for (_, earlier), (_, i) in pairwise(sorted(clips)):
                before[i] = earlier
        return tuple(before)

    def row_name(self, i: int) -> str:
        """What names row ``i`` to its owner: ``row 17 (clip 'abc_3')``."""
        return f"row {i} (clip '{self.rows[i].clip}')"

    def present(self, i: int) -> ModalitySet:
        """The modalities that row ``i`` has."""
        return frozenset(m for m in self.modalities if self.features[m][i] is not None)

    @cached_property
    def presence(self) -> NDArray[np.bool_]:
        """Which row has which channel: [n, M], columns as in `modalities`."""
        columns = [[feature is not None for feature in self.features[m]] for m in self.modalities]
        return np.array(columns, dtype=np.bool_).reshape(len(columns), len(self)).T

    def feature(self, i: int, modality: Modality) -> Feature:
        """The features of one channel of row ``i``: [F] or [T, F].

        Raises:
            RowError: the row does not have the channel.
        """
        feature = self.features[modality][i] if modality in self.features else None
        if feature is None:
            raise RowError(self.row_name(i), f"it has no {modality}.", remedy="ask `present` first")
        return feature

    @cached_property
    def targets(self) -> NDArray[np.float64]:
        """[n, K]: the score, or a one-hot row for a class."""
        if self.task.kind == "regression":
            return np.array([float(row.label) for row in self.rows], dtype=np.float64).reshape(-1, 1)
        column = {name: k for k, name in enumerate(self.task.classes)}
        targets = np.zeros((len(self), self.task.outputs))
        for i, row in enumerate(self.rows):
            targets[i, column[str(row.label)]] = 1.0
        return targets

    def select(self, indices: Sequence[int] | NDArray[np.integer]) -> "Cohort":
        """The rows at these indices, in the order given."""
        chosen = [int(i) for i in indices]
        return replace(
            self,
            rows=tuple(self.rows[i] for i in chosen),
            features={m: tuple(column[i] for i in chosen) for m, column in self.features.items()},
        )

    def of_subjects(self, subjects: Iterable[str]) -> "Cohort":
        """All rows of these people, in order; no other row is looked at. A name that nobody bears adds none."""
        return self.select(sorted(i for subject in frozenset(subjects) for i in self.rows_of.get(subject, ())))

    def where(
        self,
        partition: Partition | None = None,
        split: Split | None = None,
        subject: str | None = None,
    ) -> "Cohort":
        """The rows that match all that is given, in order."""
        return self.select(
            [
                i
                for i, row in enumerate(self.rows)
                if (partition is None or row.partition == partition)
                and (split is None or row.split == split)
                and (subject is None or row.subject == subject)
            ]
        )

    def restrict(self, pattern: Collection[Modality]) -> "Cohort":
        """Only these channels; rows that have none of them are dropped."""
        kept = [m for m in self.modalities if m in pattern]
        narrow = replace(
            self,
            channels={m: self.channels[m] for m in kept},
            features={m: self.features[m] for m in kept},
        )
        return narrow.select([i for i in range(len(self)) if narrow.present(i)])

    @property
    def follows(self) -> dict[Modality, tuple[Modality, ...]]:
        """Of each channel, those that it falls with: what it derives from, unless it is consented to by itself."""
        return {m: channel.derived_from if channel.consent == "follows" else () for m, channel in self.channels.items()}

    def closure(self, pairs: Iterable[Pair]) -> frozenset[Pair]:
        """The pairs and every pair that falls with them: channels that ``follow`` what they derive from."""
        return closure(pairs, self.follows)

    def revoke(self, pairs: Iterable[Pair]) -> "Cohort":
        """D -> D' for a request: `without`, after checking that each pair names somebody and something.

        Raises:
            UnknownSubjectError: a pair names nobody in the revocable partition.
            NothingToDeleteError: a pair changes no row of its subject.
        """
        request = frozenset(pairs)
        revocable = {row.subject for row in self.rows if row.partition is Partition.REVOCABLE}
        for subject, modality in sorted(request):
            if subject != EVERYONE and subject not in revocable:
                raise self._unknown(subject)
            if not self._touches(subject, modality):
                who = "The revocable partition" if subject == EVERYONE else f"Subject '{subject}'"
                raise NothingToDeleteError(
                    f"{who} has no {modality}, nor anything that falls with it, in cohort '{self.name}'.",
                    remedy="see `mbd data describe` for what is there; an earlier revocation may have removed it",
                )
        return self.without(request)

    def without(self, pairs: Iterable[Pair], partitions: Collection[Partition] = (Partition.REVOCABLE,)) -> "Cohort":
        """D -> D' as a total map: idempotent, and blind to order and to pairs that name nothing.

        In rows of these partitions the closure's channels become absent. A label that was made from a fallen modality
        and whose policy is ``falls`` takes its row along, whether or not the row still stores that channel: the
        annotator had it. A row left with no modality is dropped.
        """
        fallen: dict[str, frozenset[Modality]] = {}
        for subject, modality in self.closure(pairs):
            fallen[subject] = fallen.get(subject, frozenset()) | {modality}
        everyones = fallen.get(EVERYONE, frozenset())
        lost = [
            everyones | fallen.get(row.subject, everyones) if row.partition in partitions else frozenset()
            for row in self.rows
        ]
        bare = replace(
            self,
            features={
                m: tuple(None if m in lost[i] else feature for i, feature in enumerate(column))
                for m, column in self.features.items()
            },
        )
        return bare.select(
            [i for i in range(len(self)) if bare.present(i) and not (lost[i] and self.label_falls(lost[i]))]
        )

    def label_falls(self, lost: Collection[Modality]) -> bool:
        """Whether a row that loses these modalities loses its label, and so leaves, by the cohort's policy."""
        return self.task.label_policy == "falls" and not set(lost).isdisjoint(self.task.label_derived_from)

    def _touches(self, subject: str, modality: Modality) -> bool:
        """Whether revoking this one pair would change a row."""
        lost = {m for _, m in self.closure([(subject, modality)])}
        return any(
            row.partition is Partition.REVOCABLE
            and subject in (row.subject, EVERYONE)
            and (self.label_falls(lost) or not lost.isdisjoint(self.present(i)))
            for i, row in enumerate(self.rows)
        )

    def _unknown(self, subject: str) -> UnknownSubjectError:
        if subject in self.subjects:
            return UnknownSubjectError(
                f"Subject '{subject}' is in the public partition of cohort '{self.name}', which nobody can revoke.",
                remedy="if that is wrong, import the cohort again with this subject in the revocable partition",
            )
        return UnknownSubjectError(
            f"Cohort '{self.name}' has no revocable subject '{subject}'.",
            remedy="check the spelling against `mbd data describe`; an earlier revocation may have removed every row",
        )
