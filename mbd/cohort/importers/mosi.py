"""CMU-MOSI (Zadeh et al. 2016) as cohorts: opinion clips of one speaker a video, sentiment in [-3, 3].

Reads a folder with ``mosi.csv`` and ``mosi_features.npz`` (frozen text and voice features; vision is truly missing), or
the word-aligned sequences of the 229 valid clips. It refuses features that were fitted to the labels: a subject's
label would live on in everybody's features. It knows nothing of models.
"""

from pathlib import Path

import numpy as np

from mbd.cohort.cohort import Channel, Cohort, Partition, Row, Split, Task
from mbd.cohort.importers.files import read_csv, read_npz, require
from mbd.cohort.importers.partition import draw
from mbd.cohort.modality import Modality
from mbd.cohort.validation import validate
from mbd.errors import CohortError, RowError

WORDLEVEL_FOLDS = 5

_Record = dict[str, str | None]

_SUPERVISED = {"text_cnn100", "video_cnn100"}

_TASK = Task("regression", low=-3.0, high=3.0, label_derived_from=tuple(Modality))

_TEXT = Channel(
    Modality.TEXT,
    "vector",
    388,
    extractor="frozen MiniLM sentence embedding (384) and VADER lexicon scores (4) of the human transcript",
    derived_from=(Modality.AUDIO,),
    consent="independent",
)

_TRANSCRIPT = (
    "The text is a human transcript of the voice and, by this cohort's policy, consented to independently: it stays "
    "when the voice is withdrawn. Annotators saw and heard the whole clip; labels keep."
)

_STANDARDISED = (
    "FACET and COVAREP were published standardised over all ten videos: every row carries a trace of that mean and "
    "scale, which no deletion removes."
)


def mosi(path: Path, *, public_subjects: int = 20, seed: int = 0) -> Cohort:
    """All 2,199 clips of 93 videos with text (388) and voice (73), by the official split.

    Valid videos are public, and so are ``public_subjects`` of the 52 train videos, drawn by ``seed``; the other train
    videos and the test videos are revocable.

    Args:
        path: the folder, or its features file.
        public_subjects: how many train videos are public.
        seed: draws them.

    Raises:
        CohortError: files are missing or contradict each other, or the features were fitted to labels.
    """
    records, arrays = _open(path)
    if [record["id"] for record in records] != arrays["id"].tolist():
        raise CohortError("mosi.csv and the features list different clips.", remedy="take both from one release")
    train = (str(record["video_id"]) for record in records if record["split_official"] == Split.TRAIN)
    public = draw(train, public_subjects, seed)
    rows = []
    for i, record in enumerate(records):
        split = _split(i, record)
        is_public = split is Split.VALID or (split is Split.TRAIN and record["video_id"] in public)
        rows.append(_row(i, record, Partition.PUBLIC if is_public else Partition.REVOCABLE, split))
    text = np.concatenate([arrays["text_minilm384"], arrays["text_vader4"]], axis=1, dtype=np.float32)
    cohort = Cohort(
        name="mosi",
        description=f"CMU-MOSI, official split, {public_subjects} public train videos (seed {seed}). {_TRANSCRIPT}",
        synthetic=False,
        task=_TASK,
        channels={
            Modality.TEXT: _TEXT,
            Modality.AUDIO: Channel(Modality.AUDIO, "vector", 73, extractor="COVAREP, mean over the utterance"),
        },
        rows=tuple(rows),
        features={Modality.TEXT: tuple(text), Modality.AUDIO: tuple(arrays["audio_covarep73"])},
    )
    validate(cohort)
    return cohort


def mosi_wordlevel(path: Path, *, seed: int = 0, fold: int = 0) -> Cohort:
    """The 229 official valid clips with word-aligned voice (74) and face (47) sequences, and text vectors.

    Its 10 videos are dealt by ``seed``: 3 public train, 1 public valid, 4 revocable train, 2 revocable test. The next
    fold deals them two places further: the test videos of the five folds are disjoint and cover all ten.

    Raises:
        CohortError: as for `mosi`, or there is no such fold.
    """
    if not 0 <= fold < WORDLEVEL_FOLDS:
        raise CohortError(f"There is no fold {fold}.", remedy=f"count {WORDLEVEL_FOLDS} folds from 0")
    records, arrays = _open(path)
    folder = path if path.is_dir() else path.parent
    words = read_npz(folder / "mosi_valid229_wordlevel.npz", ("id", "offsets", "facet47", "covarep74"))
    by_clip = {record["id"]: record for record in records}
    position = {clip: i for i, clip in enumerate(arrays["id"].tolist())}
    clips = [_official_id(clip) for clip in words["id"].tolist()]
    if not set(clips) <= position.keys() & by_clip.keys():
        raise CohortError("The word-level clips are not all in mosi.csv.", remedy="take both from one release")
    rows = _deal([by_clip[clip] for clip in clips], seed, fold)
    of_clip = [position[clip] for clip in clips]
    text = np.concatenate([arrays["text_minilm384"][of_clip], arrays["text_vader4"][of_clip]], axis=1, dtype=np.float32)
    cuts = words["offsets"][1:-1]
    cohort = Cohort(
        name="mosi-wordlevel",
        description=f"The 229 official valid clips of CMU-MOSI, word by word; 10 videos dealt by seed {seed} "
        f"(fold {fold}). "
        f"{_TRANSCRIPT} {_STANDARDISED}",
        synthetic=False,
        task=_TASK,
        channels={
            Modality.TEXT: _TEXT,
            Modality.AUDIO: Channel(Modality.AUDIO, "sequence", 74, extractor="COVAREP, mean over each word"),
            Modality.VISION: Channel(Modality.VISION, "sequence", 47, extractor="FACET, mean over each word"),
        },
        rows=rows,
        features={
            Modality.TEXT: tuple(text),
            Modality.AUDIO: tuple(np.split(words["covarep74"], cuts)),
            Modality.VISION: tuple(np.split(words["facet47"], cuts)),
        },
    )
    validate(cohort)
    return cohort


def _deal(records: list[_Record], seed: int, fold: int) -> tuple[Row, ...]:
    videos = sorted({str(record["video_id"]) for record in records})
    order = np.roll(np.random.default_rng(seed).permutation(len(videos)), 2 * fold)
    dealt = [videos[i] for i in order]
    places = [(Partition.PUBLIC, Split.TRAIN)] * 3 + [(Partition.PUBLIC, Split.VALID)]
    places += [(Partition.REVOCABLE, Split.TRAIN)] * (len(dealt) - 6) + [(Partition.REVOCABLE, Split.TEST)] * 2
    place = dict(zip(dealt, places, strict=True))
    return tuple(_row(i, record, *place[str(record["video_id"])]) for i, record in enumerate(records))


def _split(i: int, record: _Record) -> Split:
    try:
        return Split(str(record["split_official"]))
    except ValueError as error:
        raise _wrong(i, record, error) from None


def _row(i: int, record: _Record, partition: Partition, split: Split) -> Row:
    try:
        score = float(str(record["sentiment"]))
    except ValueError as error:
        raise _wrong(i, record, error) from None
    return Row(str(record["id"]), str(record["video_id"]), score, partition, split)


def _wrong(i: int, record: _Record, error: ValueError) -> RowError:
    return RowError(f"row {i} (clip '{record['id']}')", f"{error}.", remedy="take mosi.csv from its release")


def _official_id(word_level: str) -> str:
    """``video[clip - 1]`` as ``video_clip``."""
    video, _, clip = word_level.removesuffix("]").rpartition("[")
    return f"{video}_{int(clip) + 1}" if clip.isdecimal() else word_level


def _open(path: Path) -> tuple[list[_Record], dict[str, np.ndarray]]:
    """The rows of mosi.csv, and the arrays of the features file beside it."""
    file = path / "mosi_features.npz" if path.is_dir() else path
    arrays = read_npz(file)
    if "DO_NOT_UNLEARN_ON" in file.name or not _SUPERVISED.isdisjoint(arrays):
        raise CohortError(
            f"The features in {file.name} were fitted to the labels of train subjects: those labels would survive "
            "in everybody's features, and no deletion could reach them.",
            remedy="import the folder with its frozen features instead (mosi_features.npz)",
        )
    require(file, ("id", "text_minilm384", "text_vader4", "audio_covarep73"), arrays)
    return read_csv(file.parent / "mosi.csv", ("id", "video_id", "sentiment", "split_official")), arrays
