"""The list of clips: a CSV file with a header, one row a clip.

    clip, subject, outlet, published, media                      always: names, a date (2026-11-27), a path
    label, partition, split                                      for a cohort, as in `mbd.cohort.importers.table`
    transcript, aspects, scene                                   what is true, to score the stages by

Paths are as seen from the manifest's folder. ``aspects`` are entries like ``economy:negative``, with semicolons
between them, or the word ``none`` where it is true that no aspect is spoken of. Of a clip that shows several people,
each has a row. It reads no media.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from mbd.clips.stages import Opinion, Sentiment
from mbd.cohort.cohort import EVERYONE
from mbd.cohort.importers.files import read_csv
from mbd.errors import CohortError, RowError
from mbd.naming import is_plain_name

COLUMNS = ("clip", "subject", "outlet", "published", "media")
PLACES = ("label", "partition", "split")

_NO_ASPECT = "none"


@dataclass(frozen=True)
class Clip:
    """One clip, and what its row says of it.

    Attributes:
        place: the columns `PLACES`, or empty.
        transcript, opinions, scene: what is true; None where nobody has said so.
    """

    clip: str
    subject: str
    outlet: str
    published: date
    media: Path
    place: Mapping[str, str]
    transcript: str | None
    opinions: tuple[Opinion, ...] | None
    scene: str | None


def read_manifest(path: Path) -> tuple[Clip, ...]:
    """All clips.

    Raises:
        CohortError: the file is missing, damaged, empty, or lacks a column.
        RowError: a row is wrong; it is named.
    """
    records = read_csv(path, COLUMNS)
    clips = tuple(_clip(path, i, record) for i, record in enumerate(records))
    if not clips:
        raise CohortError(f"{path} lists no clips.", remedy="give it one row a clip")
    seen: set[str] = set()
    for i, clip in enumerate(clips):
        if clip.clip in seen:
            raise RowError(_where(i, clip.clip), "the clip stands in the list twice.", remedy="name every clip once")
        seen.add(clip.clip)
    return clips


def _clip(path: Path, i: int, record: Mapping[str, str | None]) -> Clip:
    where = _where(i, record["clip"])
    empty = [column for column in COLUMNS if not record[column]]
    if empty:
        raise RowError(where, f"{', '.join(empty)} is empty.", remedy="fill it in, or leave the row out")
    told = {column: str(record[column]) for column in COLUMNS}
    for column in ("clip", "subject", "outlet"):
        if not is_plain_name(told[column]) or told[column] == EVERYONE:
            raise RowError(
                where,
                f"{told[column]!r} cannot name {'an' if column == 'outlet' else 'a'} {column}.",
                remedy=f"use printable text in Unicode form NFC without spaces around it, and not '{EVERYONE}'; "
                "a name that only looks like another could slip past a withdrawal",
            )
    try:
        published = date.fromisoformat(told["published"])
    except ValueError:
        raise RowError(where, f"'{told['published']}' is no date.", remedy="write it like 2026-11-27") from None
    place = {column: value for column in PLACES if (value := record.get(column))}
    return Clip(
        clip=told["clip"],
        subject=told["subject"],
        outlet=told["outlet"],
        published=published,
        media=path.parent / told["media"],
        place=place if len(place) == len(PLACES) else {},
        transcript=record.get("transcript") or None,
        opinions=_opinions(where, record.get("aspects")),
        scene=record.get("scene") or None,
    )


def _opinions(where: str, said: str | None) -> tuple[Opinion, ...] | None:
    if not said:
        return None
    if said.strip() == _NO_ASPECT:
        return ()
    pairs = [part.strip().rpartition(":") for part in said.split(";") if part.strip()]
    remedy = f"write aspect:sentiment, of {', '.join(Sentiment)}, each aspect once; or '{_NO_ASPECT}'"
    try:
        found = tuple(Opinion(aspect.strip(), Sentiment(sentiment.strip())) for aspect, _, sentiment in pairs)
    except ValueError as error:
        raise RowError(where, f"in its aspects, {error}.", remedy=remedy) from None
    names = [opinion.aspect for opinion in found]
    if not found or not all(map(is_plain_name, names)) or len(set(names)) < len(names):
        raise RowError(where, f"its aspects {said!r} name none, or one twice.", remedy=remedy)
    return found


def _where(i: int, clip: str | None) -> str:
    return f"row {i} (clip '{clip}')"
