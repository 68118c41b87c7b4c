"""MMSA feature files (``.pkl`` of MOSI, MOSEI, SIMS) as cohorts, through the restricted unpickler.

Layout: train, valid and test, each with id (``video$_$clip``; the video is the subject), text [n, T, 768], audio and
vision [n, T, F], all zero-padded, regression_labels [n], and perhaps text_bert [n, 3, T] and audio_ and vision_lengths.
It knows nothing of models.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mbd.cohort.cohort import Channel, Cohort, Feature, Partition, Row, Split, Task
from mbd.cohort.importers.partition import draw
from mbd.cohort.importers.unpickler import read_pickle
from mbd.cohort.modality import Modality
from mbd.cohort.validation import validate
from mbd.errors import CohortError

_SEPARATOR = "$_$"

_EXTRACTORS = {
    Modality.TEXT: "MMSA file: sequence of word embeddings of the transcript",
    Modality.AUDIO: "MMSA file: acoustic frames",
    Modality.VISION: "MMSA file: facial frames",
}


def mmsa(
    path: Path,
    *,
    public_subjects: int,
    seed: int = 0,
    name: str | None = None,
    score: float = 3.0,
    non_finite_as_zero: bool = False,
) -> Cohort:
    """A cohort of sequences, by the file's own split.

    Valid videos are public, and so are ``public_subjects`` of the train videos, drawn by ``seed``.

    Args:
        path: the pickle.
        public_subjects: how many train videos are public.
        seed: draws them.
        name: of the cohort; the file's stem by default.
        score: labels lie in [-score, score]: 3 for MOSI and MOSEI, 1 for SIMS.
        non_finite_as_zero: COVAREP writes -inf into silent frames of MOSI and MOSEI; read it as 0.

    Raises:
        UnsafePickleError: the file holds anything but plain arrays.
        CohortError: it is not laid out as above, or its rows are no cohort (SIMS has clips of one video in several
            splits: import it as a table with a split of your own).
    """
    parts = _parts(read_pickle(path), path)
    features: dict[Modality, list[Feature | None]] = {m: [] for m in Modality}
    found: list[tuple[str, str, float, Split]] = []
    for split, part in parts.items():
        try:
            ids = [str(clip) for clip in part["id"]]
            labels = np.asarray(part["regression_labels"], dtype=np.float64).reshape(len(ids))
            found += [(clip, clip.split(_SEPARATOR)[0], float(y), split) for clip, y in zip(ids, labels, strict=True)]
            for m in Modality:
                features[m] += _sequences(part, m, len(ids), non_finite_as_zero)
        except (KeyError, TypeError, ValueError) as error:
            raise _not_mmsa(path, f"its {split} part has {type(error).__name__}: {error}") from error
    public = draw((subject for _, subject, _, split in found if split is Split.TRAIN), public_subjects, seed)
    cohort = Cohort(
        name=name or path.stem,
        description=f"Imported from an MMSA file; {public_subjects} public train videos (seed {seed}). The text is a "
        "transcript of the voice and, by this cohort's policy, consented to independently. Annotators saw and heard "
        "the whole clip; labels keep.",
        synthetic=False,
        task=Task("regression", low=-score, high=score, label_derived_from=tuple(Modality)),
        channels={m: _channel(m, features[m]) for m in Modality},
        rows=tuple(Row(clip, who, y, _place(who, split, public), split) for clip, who, y, split in found),
        features={m: tuple(column) for m, column in features.items()},
    )
    validate(cohort)
    return cohort


def _parts(content: Any, path: Path) -> dict[Split, Mapping[str, Any]]:
    if not isinstance(content, dict):
        raise _not_mmsa(path, f"it holds a {type(content).__name__}")
    parts = {split: content.get(split.value) for split in Split}
    missing = [str(split) for split, part in parts.items() if not isinstance(part, dict)]
    if missing:
        raise _not_mmsa(path, f"it has no {' and no '.join(missing)} part")
    return {split: part for split, part in parts.items() if isinstance(part, dict)}


def _not_mmsa(path: Path, what: str) -> CohortError:
    return CohortError(
        f"{path.name} is not an MMSA feature file: {what}.",
        remedy="use a file with train, valid and test, or import a plain table with arrays",
    )


def _place(subject: str, split: Split, public: frozenset[str]) -> Partition:
    is_public = split is Split.VALID or (split is Split.TRAIN and subject in public)
    return Partition.PUBLIC if is_public else Partition.REVOCABLE


def _channel(modality: Modality, column: list[Feature | None]) -> Channel:
    dim = next((feature.shape[-1] for feature in column if feature is not None), 0)
    text = modality is Modality.TEXT
    return Channel(
        modality,
        "sequence",
        dim,
        _EXTRACTORS[modality],
        derived_from=(Modality.AUDIO,) if text else (),
        consent="independent" if text else "own",
    )


def _sequences(part: Mapping[str, Any], m: Modality, rows: int, non_finite_as_zero: bool) -> list[Feature | None]:
    """One sequence a row without its padding; a row whose frames are all zero has no such channel."""
    padded = np.asarray(part[m.value], dtype=np.float32)
    if padded.ndim != 3 or len(padded) != rows:
        raise ValueError(f"{m} of shape {list(padded.shape)} for {rows} clips")
    if non_finite_as_zero:
        padded = np.nan_to_num(padded, nan=0.0, posinf=0.0, neginf=0.0)
    lengths = _lengths(part, m, padded)
    return [padded[i, :length] if length > 0 and padded[i, :length].any() else None for i, length in enumerate(lengths)]


def _lengths(part: Mapping[str, Any], m: Modality, padded: np.ndarray) -> list[int]:
    """Frames a row: as recorded, or for text by the tokenizer's mask, or up to the last frame that is not zero."""
    if f"{m}_lengths" in part:
        lengths = [int(length) for length in part[f"{m}_lengths"]]
    elif m is Modality.TEXT and "text_bert" in part:
        mask = np.asarray(part["text_bert"])[:, 1]
        lengths = [int(length) for length in mask.sum(axis=1)]
    else:
        lengths = [1 + int(np.flatnonzero(frames.any(axis=1)).max(initial=-1)) for frames in padded]
    if len(lengths) != len(padded) or any(not 0 <= length <= padded.shape[1] for length in lengths):
        raise ValueError(f"lengths of {m} that do not fit {list(padded.shape)}")
    return lengths
