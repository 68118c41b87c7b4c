"""A folder on an fsspec filesystem: on this machine, or in an S3 bucket. It does not know what its files hold.

Files are read by ranges, so nobody has to hold a whole one; a `tag` says whether a file is still the one that it was.
A bucket that keeps older versions would only hide what is removed, so nothing is written to one (so, with it, are
object lock and replication refused, which need versions).
"""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from mbd.durable import sync, write_durably
from mbd.errors import SettingsError, StoreError


@dataclass(frozen=True)
class Place:
    """A folder; see `open_place`. It can be pickled, and so carries the options that it was opened with.

    Every method raises OSError where the filesystem fails; FileNotFoundError where there is no such file or bucket.

    Attributes:
        filesystem: its ``pipe_file(..., mode="create")`` must be atomic, durable, and raise FileExistsError.
        root: the folder, or the bucket and prefix.
    """

    filesystem: AbstractFileSystem
    root: str

    def __str__(self) -> str:
        return self.root

    def open(self, name: str) -> IO[bytes]:
        """A file that can be read and sought in; memory holds a few MB of it."""
        file: IO[bytes] = self.filesystem.open(self._path(name), "rb")
        return file

    def read(self, name: str, start: int | None = None, stop: int | None = None) -> bytes:
        """The bytes in a range, or all of them. Fewer where the file ends before."""
        data: bytes = (
            b""
            if start is not None and start == stop
            else self.filesystem.cat_file(self._path(name), start=start, end=stop)
        )
        return data

    def tag(self, name: str) -> str:
        """Another one for another file: a local file's inode, size and times, an object's ETag, size and time."""
        tag: str = self.filesystem.ukey(self._path(name))
        return tag

    def create(self, name: str, data: bytes) -> None:
        """Make a file, whole and durable once this returns, or raise FileExistsError."""
        self.filesystem.pipe_file(self._path(name), data, mode="create")

    def upload(self, name: str, source: Path) -> None:
        """Make or replace a file with the content of a local one, whole once this returns; memory stays flat."""
        self.filesystem.put_file(str(source), self._path(name))

    def remove(self, name: str) -> None:
        """Delete a file for good, or raise FileNotFoundError; a bucket may have none and say nothing."""
        self.filesystem.rm_file(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}"


def open_place(where: str | Path, *, writable: bool = False, **options: Any) -> Place:
    """A local folder, or what lies under ``s3://BUCKET/PREFIX``.

    Args:
        where: a path, or an S3 URL.
        writable: make a local folder that is absent, for its owner alone; see that a bucket keeps no versions, for
            which an empty file is written.
        options: for S3, those of `obstore.store.S3Store`; without any, the environment's AWS_ variables hold.

    Raises:
        StoreError: the place cannot be used, or it is to be written to and is a bucket with versioning.
        SettingsError: what speaks S3 is not installed.
    """
    scheme, separator, rest = str(where).partition("://")
    if separator and scheme != "s3":
        raise StoreError(f"There is no store for '{scheme}' URLs.", remedy="give a path, or s3://BUCKET/PREFIX")
    try:
        if not separator:
            folder = Path(where).absolute()
            if writable:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return Place(_DurableFolder(), str(folder))
        root = rest.rstrip("/")
        bucket = _bucket_module().Bucket(root, options)
        if writable:
            bucket.refuse_versions()
    except OSError as error:
        raise unusable(where, error) from error
    return Place(bucket, root)


def unusable(where: object, error: Exception) -> StoreError:
    """The words for a place that fails."""
    return StoreError(
        f"The store {where} cannot be used: {reason(error)}", remedy="check its name, your rights and the connection"
    )


def reason(error: Exception) -> str:
    """The first line of what a filesystem says; S3 adds whole pages."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _bucket_module() -> Any:
    try:
        return import_module("mbd.cohort.bucket")
    except ImportError as error:
        raise SettingsError(
            "What speaks S3 is not installed.", remedy="install the extra: pip install 'missing-by-design[store]'"
        ) from error


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
