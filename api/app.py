"""The API's application: routes, limits and errors, put together. It opens no key and loads no model."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from fastapi import FastAPI

from api import problems
from api.dependencies import Deployment
from api.limits import LimitBody
from api.routers import certificates, log, service
from certs.encoding import MAX_BYTES
from mbd import __version__
from mbd.records.database import open_database
from mbd.settings import Settings


def utc_now() -> datetime:
    """The time."""
    return datetime.now(UTC)


def create_app(settings: Settings, *, clock: Callable[[], datetime] = utc_now) -> FastAPI:
    """The application over a deployment that is there.

    Args:
        settings: where it is.
        clock: the time, with a zone.

    Raises:
        SchemaVersionError: its database is missing, older or newer than this program.
        RecordsError: the database cannot be reached.
    """
    engine = open_database(settings.database)

    @asynccontextmanager
    async def close_at_the_end(_app: FastAPI) -> AsyncIterator[None]:
        yield
        engine.dispose()

    app = FastAPI(
        title="Missing-by-Design",
        version=__version__,
        summary="Withdraw one modality of one person from every live model, and prove it.",
        lifespan=close_at_the_end,
        docs_url=None,  # its pages load scripts from elsewhere
        redoc_url=None,
    )
    app.state.deployment = Deployment(settings.state, engine, clock)
    problems.install(app)
    for router in (service.router, log.router, certificates.router):
        app.include_router(router)
    app.add_middleware(LimitBody, most=MAX_BYTES)
    return app
