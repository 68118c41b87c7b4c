"""Blobs under their SHA-256, on an fsspec filesystem: a local folder or an S3 bucket. It does not know what they hold.

A blob's address is its content's digest, so whoever holds an address from a certificate or a ``model.json`` can check
what the store returns, and the store checks it first. Blobs never change; they can be removed, since retired weights
must go. A bucket that keeps older versions would only hide what is removed, so it is refused (so, with it, are object
lock and replication, which need versions).
"""

import re
from pathlib import Path
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.fsspec import FsspecStore

from mbd.durable import sync, write_durably
from mbd.errors import StoreError
from mbd.hashing import sha256_hex

_ADDRESS = re.compile(r"[0-9a-f]{64}")
_NO_VERSION = {None, "null"}  # S3's word for what was written without versioning


class BlobStore:
    """Content-addressed blobs; see `open_store`.

    Args:
        filesystem: its ``pipe_file(..., mode="create")`` must be atomic, durable, and raise FileExistsError.
        root: the folder, or the bucket and prefix.
    """

    def __init__(self, filesystem: AbstractFileSystem, root: str) -> None:
        self._filesystem, self._root = filesystem, root

    def put(self, data: bytes) -> str:
        """Store bytes, whole and durably once this returns, and return their address. A blob that is there stays.

        Raises:
            StoreError: the place cannot be written, or the bucket keeps versions.
        """
        address = sha256_hex(data)
        try:
            self._filesystem.pipe_file(self._path(address), data, mode="create")
        except FileExistsError:
            pass  # the same address is the same content; `get` would notice a damaged one
        except (OSError, BaseError) as error:
            raise self._unusable(error) from error
        return address

    def get(self, address: str) -> bytes:
        """The bytes under an address.

        Raises:
            StoreError: nothing is there, or something that does not have this digest, or the place cannot be read.
        """
        try:
            data: bytes = self._filesystem.cat_file(self._path(address))
        except FileNotFoundError as error:
            raise StoreError(
                f"The store {self._root} has no blob {address}.",
                remedy="check the address; a retired model's blobs were removed for good",
            ) from error
        except (OSError, BaseError) as error:
            raise self._unusable(error) from error
        if sha256_hex(data) != address:
            raise StoreError(
                f"The blob {address} in {self._root} is damaged or was changed: its SHA-256 is another.",
                remedy="remove it from the store and put the original again",
            )
        return data

    def remove(self, address: str) -> None:
        """Delete a blob for good; one that is not there is no error.

        Raises:
            StoreError: the place cannot be written, or the bucket keeps versions by now, and nothing was removed.
        """
        try:
            self._filesystem.rm_file(self._path(address))
        except FileNotFoundError:
            pass
        except (OSError, BaseError) as error:
            raise self._unusable(error) from error

    def _path(self, address: str) -> str:
        if not _ADDRESS.fullmatch(address):
            raise StoreError(
                f"'{address[:80]}' is not the address of a blob.",
                remedy="give a SHA-256 as 64 lower-case hex digits, as `put` returned it",
            )
        return f"{self._root}/{address}"

    def _unusable(self, error: Exception) -> StoreError:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return StoreError(
            f"The store {self._root} cannot be used: {reason}", remedy="check its name, your rights and the connection"
        )


def open_store(url: str, **options: Any) -> BlobStore:
    """The blobs in a local folder, made if it is absent, or in ``s3://BUCKET/PREFIX``.

    Args:
        url: a path, or an S3 URL.
        options: for S3, those of `obstore.store.S3Store`; without any, the environment's AWS_ variables hold.

    Raises:
        StoreError: the place cannot be used, or is a bucket with versioning.
    """
    scheme, separator, place = url.partition("://")
    if separator and scheme != "s3":
        raise StoreError(f"There is no blob store for '{scheme}' URLs.", remedy="give a path, or s3://BUCKET/PREFIX")
    try:
        if not separator:
            folder = Path(url).absolute()
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return BlobStore(_DurableFolder(), str(folder))
        bucket = _Bucket(place.rstrip("/"), options)
        bucket.refuse_versions()
    except (OSError, BaseError) as error:
        reason = str(error).splitlines()[0]
        raise StoreError(
            f"The store {url} cannot be used: {reason}", remedy="check its name, your rights and the connection"
        ) from error
    return BlobStore(bucket, place.rstrip("/"))


class _DurableFolder(LocalFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Local files that are whole and on disk when a call returns; fsspec's own could be lost or torn by a crash."""

    cachable = False

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_options: Any) -> None:
        """Write a file; with ``create``, only where there is none."""
        if mode == "create" and Path(path).exists():
            raise FileExistsError(path)
        write_durably(Path(path), value)

    def rm_file(self, path: str) -> None:
        """Remove a file; after a crash it does not come back."""
        Path(path).unlink()
        sync(Path(path).parent)


class _Bucket(FsspecStore):
    """S3 without older versions, where ``create`` is a conditional put; obstore's own adapter ignores the mode."""

    cachable = False  # fsspec would keep the credentials

    def __init__(self, root: str, options: dict[str, Any]) -> None:
        super().__init__("s3", **options)
        self._root_path = root

    def refuse_versions(self) -> None:
        """Put an empty blob and see whether the bucket made a version of it: S3 tells whoever may write."""
        self.pipe_file(f"{self._root_path}/{sha256_hex(b'')}", b"", mode="overwrite")

    async def _pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_options: Any) -> None:
        bucket, key = self._split_path(path)
        store = self._construct_store(bucket)
        try:
            result = await store.put_async(key, value, mode="create" if mode == "create" else "overwrite")
        except AlreadyExistsError as error:
            raise FileExistsError(path) from error
        if result["version"] not in _NO_VERSION:
            raise StoreError(
                f"The bucket '{bucket}' keeps older versions: what is removed from it would stay in it.",
                remedy="use a bucket whose versioning was never enabled, and remove all versions from this one",
            )

    async def _rm_file(self, path: str, **_options: Any) -> None:
        await self._pipe_file(f"{self._root_path}/{sha256_hex(b'')}", b"")
        await super()._rm_file(path)
