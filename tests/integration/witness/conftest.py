"""A log without our ledger, and a deployment's log without models."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from certs import checkpoint as checkpoints
from certs.checkpoint import Checkpoint
from certs.keys import Ed25519Signer, PublicKey
from certs.note import NoteKey
from certs.policy import NONE, Policy, PolicyGroup, PolicyWitness, build_policy
from certs.witness import request
from mbd.hashing import leaf_hash, tree_root
from mbd.records import ledger
from mbd.records.database import begin_locked
from mbd.records.tree import consistency_ranges
from mbd.settings import Settings
from mbd.workflow.log import commit_to_noise
from mbd.workflow.system import System, open_system


class AnyLog:
    """Any log: an origin, a key and leaves."""

    def __init__(self, origin: str = "example.org/log", leaves: int = 64, entry: str = "entry") -> None:
        self.signer = Ed25519Signer.generate()
        self.key = NoteKey(origin, PublicKey.from_spki(self.signer.public_key))
        self.leaves = [leaf_hash(f"{entry} {n}".encode()) for n in range(leaves)]

    def note(self, size: int) -> str:
        head = Checkpoint(self.key.name, size, tree_root(self.leaves[:size]))
        return checkpoints.sign(head, [self.signer], at=datetime.now(UTC))

    def request(self, old: int, new: int) -> str:
        ranges = consistency_ranges(old, new) if 0 < old <= new else []
        return request(old, [tree_root(self.leaves[low:high]) for low, high in ranges], self.note(new))

    def submit(self, url: str, old: int, new: int, client: httpx.Client | None = None) -> httpx.Response:
        return (client or httpx).post(f"{url}/add-checkpoint", content=self.request(old, new))


@pytest.fixture
def log() -> AnyLog:
    return AnyLog()


@pytest.fixture
def any_log() -> type[AnyLog]:
    return AnyLog


@dataclass(frozen=True)
class World:
    """Deployments without models, and witnesses that know the first one's log.

    Attributes:
        folder: of all of them, by name.
        key: of the log of the deployment "home", which has one leaf.
    """

    folder: Path
    key: NoteKey
    open: Callable[..., System]
    start: Callable[..., Any]

    def deploy(self, name: str = "home", **settings: object) -> System:
        """Open a deployment; make it first if need be."""
        return self.open(self.folder / name, **settings)

    def serve(self, name: str, key: NoteKey | None = None, **more: object) -> Any:
        """Start a witness; make it first if need be."""
        return self.start(self.folder / name, key or self.key, **more)

    def grow(self, system: System, *bodies: bytes) -> None:
        """Append leaves."""
        with begin_locked(system.engine) as connection:
            ledger.append_many(connection, bodies)

    def policy(self, *witnesses: Any, quorum: str = "all") -> Path:
        """Write a policy of these witnesses, which are all or any of them the quorum, or none."""
        listed = tuple(PolicyWitness(f"w{n}", each.keys[0], each.url) for n, each in enumerate(witnesses))
        needed = {"all": len(listed), "any": 1, "none": 0}[quorum]
        groups = (PolicyGroup("g", needed, tuple(each.name for each in listed)),) if needed else ()
        path = self.folder / f"policy-{quorum}"
        path.write_bytes(build_policy(Policy((), listed, groups, "g" if needed else NONE)))
        return path


@pytest.fixture
def world(tmp_path, serve_witness) -> Iterator[World]:
    with ExitStack() as stack:

        def opened(home: Path, **settings: object) -> System:
            return stack.enter_context(open_system(Settings(home=home, **settings), create=True))

        system = opened(tmp_path / "home")
        commit_to_noise(system)
        yield World(tmp_path, system.keyring.note_key, opened, serve_witness)
