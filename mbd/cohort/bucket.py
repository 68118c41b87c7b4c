"""S3 as an fsspec filesystem without older versions. It knows neither blobs nor cohorts. It needs the extra ``store``.

obstore's own adapter ignores ``mode="create"`` and lets its own exceptions through; here they are OSErrors.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fsspec.spec import AbstractBufferedFile
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.fsspec import FsspecStore

from mbd.errors import StoreError
from mbd.hashing import sha256_hex

_NO_VERSION = {None, "null"}  # S3's word for what was written without versioning
_AHEAD = 4 * 2**20  # bytes that are read at least
_PART = 8 * 2**20  # bytes that are sent in one request


class Bucket(FsspecStore):
    """Buckets in which ``create`` is a conditional put, and whose removed files are gone.

    Args:
        root: bucket and prefix, under which an empty file may be written to see whether the bucket keeps versions.
        options: those of `obstore.store.S3Store`.
    """

    cachable = False  # fsspec would keep the credentials

    def __init__(self, root: str, options: dict[str, Any]) -> None:
        super().__init__("s3", **options)
        self._probe = f"{root}/{sha256_hex(b'')}"

    def refuse_versions(self) -> None:
        """Put an empty blob and see whether the bucket made a version of it: S3 tells whoever may write.

        Raises:
            StoreError: it did.
        """
        self.pipe_file(self._probe, b"", mode="overwrite")

    def put_file(self, lpath: str, rpath: str, **_options: Any) -> None:
        """Send a local file in parts; nobody sees it before it is whole."""
        bucket, key = self._split_path(rpath)
        with _as_os_errors(rpath):
            result = self._construct_store(bucket).put(key, Path(lpath), chunk_size=_PART, max_concurrency=2)
        _refuse(bucket, result["version"])

    async def _pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_options: Any) -> None:
        bucket, key = self._split_path(path)
        with _as_os_errors(path):
            store = self._construct_store(bucket)
            result = await store.put_async(key, value, mode="create" if mode == "create" else "overwrite")
        _refuse(bucket, result["version"])

    async def _cat_file(self, path: str, start: int | None = None, end: int | None = None, **_options: Any) -> bytes:
        with _as_os_errors(path):
            return await super()._cat_file(path, start=start, end=end)

    async def _info(self, path: str, **_options: Any) -> dict[str, Any]:
        # obstore's own lists the bucket where there is no such object, which needs another right
        bucket, key = self._split_path(path)
        with _as_os_errors(path):
            head = await self._construct_store(bucket).head_async(key)
        return {**head, "name": path, "type": "file"}

    async def _rm_file(self, path: str, **_options: Any) -> None:
        try:
            await self._pipe_file(self._probe, b"")
        except FileNotFoundError as error:  # without the bucket nobody can say what became of the file
            raise OSError(f"there is no bucket for {path}") from error
        with _as_os_errors(path):
            await super()._rm_file(path)

    # obstore's own reader would go past `_cat_file`, and so past the translation of errors
    def _open(self, path: str, mode: str = "rb", *_positional: Any, **_options: Any) -> Any:
        return AbstractBufferedFile(self, path, mode, block_size=_AHEAD, cache_type="readahead")


@contextmanager
def _as_os_errors(path: str) -> Iterator[None]:
    try:
        yield
    except AlreadyExistsError as error:
        raise FileExistsError(path) from error
    except BaseError as error:
        raise OSError(str(error).splitlines()[0]) from error


def _refuse(bucket: str, version: str | None) -> None:
    if version not in _NO_VERSION:
        raise StoreError(
            f"The bucket '{bucket}' keeps older versions: what is removed from it would stay in it.",
            remedy="use a bucket whose versioning was never enabled, and remove all versions from this one",
        )
