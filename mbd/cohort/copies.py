"""Copies of a cohort folder in a bucket, for workers that share no disk. It does not know who was suppressed.

A copy holds what the folder holds: names and features in clear, and the key of the Merkle manifest. No deletion reaches
it: whoever withdraws a channel is in it until it is removed. So it goes only where removing is for good, to a bucket
that keeps no versions, and the one who made it removes it.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

from mbd.cohort.folder import FEATURES, MANIFEST, ROWS, Pieces, open_pieces
from mbd.cohort.place import Place, open_place, unusable
from mbd.errors import StoreError


def copy_folder(source: Path, url: str, **options: Any) -> Pieces:
    """Copy a cohort folder to ``s3://BUCKET/PREFIX``, read it back, and return the copy, opened.

    Memory stays flat. Two copies to one prefix at a time would damage each other, and be refused as damaged.

    Crash point: ``manifest.json`` goes last, and without it there is no cohort folder; `remove_copy` clears up what is
    there. Parts of a file whose sending was cut off stay in the bucket, unseen, until its rule for incomplete multipart
    uploads takes them: such a rule is needed.

    Args:
        source: the folder.
        url: where to; nothing is replaced.
        options: for S3, see `open_place`.

    Raises:
        CohortError: the folder is damaged, or the copy does not have its digests.
        StoreError: there is a cohort folder already, the place cannot be used, or the bucket keeps versions.
    """
    original = open_pieces(source)
    target = _bucket(url, options)
    try:
        with suppress(FileNotFoundError):
            target.tag(MANIFEST)
            raise _taken(url)
        for name in (FEATURES, ROWS):
            target.upload(name, source / name)
        target.create(MANIFEST, original.place.read(MANIFEST))
    except FileExistsError as error:
        raise _taken(url) from error
    except OSError as error:
        raise unusable(url, error) from error
    return open_pieces(url, **options)


def remove_copy(url: str, **options: Any) -> None:
    """Remove a cohort folder, or what is there of one, from a bucket for good.

    Crash point: ``manifest.json`` goes first, and then there is no cohort folder; the rest goes when this is given
    again.

    Raises:
        StoreError: the place cannot be used, or the bucket keeps versions by now.
    """
    target = _bucket(url, options)
    try:
        for name in (MANIFEST, ROWS, FEATURES):
            with suppress(FileNotFoundError):
                target.remove(name)
    except OSError as error:
        raise unusable(url, error) from error


def _bucket(url: str, options: dict[str, Any]) -> Place:
    if "://" not in url:
        raise StoreError(
            f"'{url}' is no bucket.", remedy="give s3://BUCKET/PREFIX; a folder on a disk is copied by cp -r"
        )
    return open_place(url, writable=True, **options)


def _taken(url: str) -> StoreError:
    return StoreError(
        f"There is a cohort folder at {url} already.", remedy="choose another prefix, or `mbd data remove` it first"
    )
