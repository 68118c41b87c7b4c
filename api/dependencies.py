"""What routes work with: the deployment, and a transaction for reading."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import Connection

from mbd.records.database import begin_snapshot
from mbd.workflow.office import Office


def _office(request: Request) -> Office:
    found: Office = request.app.state.office
    return found


Here = Annotated[Office, Depends(_office)]
"""The deployment of the application."""


def _snapshot(office: Here) -> Iterator[Connection]:
    with begin_snapshot(office.engine) as connection:
        yield connection


Reading = Annotated[Connection, Depends(_snapshot)]
"""A transaction for reading, as long as the route works."""
