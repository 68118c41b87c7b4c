"""What routes work with: a deployment as the API sees it, which has its database and what it publishes, and no key."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import Connection, Engine

from mbd.records.database import begin_snapshot


@dataclass(frozen=True)
class Deployment:
    """A deployment.

    Attributes:
        home: its folder, of which the API reads ``published/`` alone.
        engine: its database.
        clock: the time, with a zone.
    """

    home: Path
    engine: Engine
    clock: Callable[[], datetime]

    @property
    def published(self) -> Path:
        """What everybody may have."""
        return self.home / "published"

    def trusted_root(self) -> bytes:
        """What verifiers trust, read anew: keys come and go while the service runs."""
        return (self.published / "trusted_root.json").read_bytes()


def _deployment(request: Request) -> Deployment:
    found: Deployment = request.app.state.deployment
    return found


Here = Annotated[Deployment, Depends(_deployment)]
"""The deployment of the application."""


def _snapshot(deployment: Here) -> Iterator[Connection]:
    with begin_snapshot(deployment.engine) as connection:
        yield connection


Reading = Annotated[Connection, Depends(_snapshot)]
"""A transaction for reading, as long as the route works."""
