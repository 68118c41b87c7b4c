"""A model version's public files as content-addressed blobs. It does not know what a version was made for.

``model.json`` names its files by digest, and a digest is an address; so the digest of ``model.json``, which is the one
that certificates name, is the address of the version. The statistics are never sent: they are the operator's secret,
and whoever featurizes or predicts does not need them. What revocable rows shaped, a tower or an entangled
backbone, has to go with its version, and no deletion reaches a store: such a version is refused.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

from mbd.cohort.store import ADDRESS, BlobStore, open_store
from mbd.durable import sync, write_durably
from mbd.errors import StoreError, TrainingError
from mbd.hashing import sha256_hex
from mbd.lattice.featurizer import Featurizer
from mbd.lattice.model import CONSTANTS, FORMAT, PARTS, load_featurizer, load_model
from mbd.lattice.provenance import Provenance

STATISTICS = "statistics.safetensors"
PUBLIC = tuple(name for name in PARTS if name != STATISTICS)


def push_model(folder: Path, store: BlobStore) -> str:
    """Put a saved model's public files into a store and return the version's address.

    Crash point: ``model.json`` goes last, so that whoever finds it finds the others; without it they are waste.

    Raises:
        TrainingError: a file is missing, or not the one that ``model.json`` names, or the version has towers or an
            entangled backbone; nothing of it is in the store.
        StoreError: the store cannot be written.
    """
    about = _read(folder, "model.json")
    named = _named(about, folder)
    described = json.loads(about)
    if described["towers"] or described["provenance"].get("backbone") != Provenance.PUBLIC:
        raise TrainingError(
            f"The model in {folder} has networks that revocable rows shaped, and no deletion reaches a store.",
            remedy="keep it where it is; only versions with a public backbone and no towers go into a store",
        )
    files = {name: _read(folder, name) for name in PUBLIC}
    if wrong := sorted(name for name, data in files.items() if sha256_hex(data) != named[name]):
        raise TrainingError(
            f"The model in {folder} is not the one its model.json describes: {', '.join(wrong)}.",
            remedy="restore the folder from a backup; its files are never changed after they are written",
        )
    for data in files.values():
        store.put(data)
    return store.put(about)


def fetch_model(address: str, store: BlobStore, folder: Path, *, parts: Collection[str] = PUBLIC) -> None:
    """Write a version's files into a new folder, which appears whole or not at all.

    Args:
        address: as `push_model` returned it.
        store: where it is.
        folder: must not exist.
        parts: which files beside ``model.json``; `CONSTANTS` are enough for a featurizer.

    Raises:
        StoreError: a blob is missing or damaged, or the address is that of something else.
    """
    about = store.get(address)
    named = _named(about, address)
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    partial.mkdir(mode=0o700, parents=True)
    try:
        for name in parts:
            write_durably(partial / name, store.get(named[name]))
        write_durably(partial / "model.json", about)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    sync(folder.parent)


def remove_model(address: str, store: BlobStore, *, live: Collection[str] = ()) -> None:
    """Delete a retired version's files for good, but for those that a live version in the same store shares.

    Crash point: ``model.json`` goes last, so that an interrupted removal can be given again.

    Args:
        address: of the retired version; one that is not there is an error, for its files could then be anywhere.
        store: where it is.
        live: addresses of the versions that stay: versions of a line share their backbone.

    Raises:
        StoreError: a version is missing or damaged, or the place cannot be written.
    """
    kept = {digest for other in live for digest in (other, *_public(store.get(other), other).values())}
    for digest in (*_public(store.get(address), address).values(), address):
        if digest not in kept:
            store.remove(digest)


def open_featurizer(where: str | Path, **options: Any) -> Featurizer:
    """The public map of a model in a local folder, or of one in a store, ``STORE/ADDRESS``.

    Args:
        where: a saved model's folder; or the store's path or URL, a slash, and the version's address.
        options: for S3, see `mbd.cohort.place.open_place`.

    Raises:
        TrainingError: a folder's files are damaged.
        StoreError: a blob is missing or damaged.
    """
    url, _, address = str(where).rpartition("/")
    if "://" not in url and not ADDRESS.fullmatch(address):
        return load_model(Path(where)).featurizer
    with tempfile.TemporaryDirectory(prefix="mbd-model-") as scratch:
        folder = Path(scratch) / "model"
        fetch_model(address, open_store(url, writable=False, **options), folder, parts=CONSTANTS)
        return load_featurizer(folder)


def _public(about: bytes, where: str) -> dict[str, str]:
    named = _named(about, where)
    return {name: named[name] for name in PUBLIC}


def _named(about: bytes, where: object) -> dict[str, str]:
    """The digests that a ``model.json`` names."""
    try:
        described = json.loads(about)
        if described["format"] == FORMAT:
            return {name: str(described["files"][name]) for name in PARTS}
    except (ValueError, KeyError, TypeError):
        pass
    raise StoreError(f"{where} is not a model of this program.", remedy="give the address that `push_model` returned")


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise TrainingError(
            f"The model in {folder} cannot be read ({error}).", remedy="restore the folder from a backup"
        ) from error
