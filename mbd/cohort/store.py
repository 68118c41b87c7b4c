"""Blobs under their SHA-256, on an fsspec filesystem: a local folder or an S3 bucket. It does not know what they hold.

A blob's address is its content's digest, so whoever holds an address from a certificate or a ``model.json`` can check
what the store returns, and the store checks it first. Blobs never change; they can be removed, since retired weights
must go (see `mbd.cohort.place` on buckets that keep versions).
"""

import re
from pathlib import Path
from typing import Any

from mbd.cohort.place import Place, open_place, unusable
from mbd.errors import StoreError
from mbd.hashing import sha256_hex

ADDRESS = re.compile(r"[0-9a-f]{64}")
"""A SHA-256 in hex."""


class BlobStore:
    """Content-addressed blobs in a place; see `open_store`."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def put(self, data: bytes) -> str:
        """Store bytes, whole and durably once this returns, and return their address. A blob that is there stays.

        Raises:
            StoreError: the place cannot be written, or the bucket keeps versions.
        """
        address = sha256_hex(data)
        try:
            self._place.create(address, data)
        except FileExistsError:
            pass  # the same address is the same content; `get` would notice a damaged one
        except OSError as error:
            raise unusable(self._place, error) from error
        return address

    def get(self, address: str) -> bytes:
        """The bytes under an address.

        Raises:
            StoreError: nothing is there, or something that does not have this digest, or the place cannot be read.
        """
        try:
            data = self._place.read(_checked(address))
        except FileNotFoundError as error:
            raise StoreError(
                f"The store {self._place} has no blob {address}.",
                remedy="check the address and that the store is there; a retired model's blobs were removed for good",
            ) from error
        except OSError as error:
            raise unusable(self._place, error) from error
        if sha256_hex(data) != address:
            raise StoreError(
                f"The blob {address} in {self._place} is damaged or was changed: its SHA-256 is another.",
                remedy="remove it from the store and put the original again",
            )
        return data

    def remove(self, address: str) -> None:
        """Delete a blob for good; one that is not there is no error.

        Raises:
            StoreError: the place cannot be written, or the bucket keeps versions by now, and nothing was removed.
        """
        try:
            self._place.remove(_checked(address))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise unusable(self._place, error) from error


def open_store(url: str | Path, *, writable: bool = True, **options: Any) -> BlobStore:
    """The blobs in a local folder, made if it is absent, or in ``s3://BUCKET/PREFIX``.

    Args:
        url: a path, or an S3 URL.
        writable: False for who only reads, and may have no right to write.
        options: see `open_place`.

    Raises:
        StoreError: the place cannot be used, or is a bucket with versioning that would be written to.
    """
    return BlobStore(open_place(url, writable=writable, **options))


def _checked(address: str) -> str:
    if not ADDRESS.fullmatch(address):
        raise StoreError(
            f"'{address[:80]}' is not the address of a blob.",
            remedy="give a SHA-256 as 64 lower-case hex digits, as `put` returned it",
        )
    return address
