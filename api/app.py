"""The API's application: routes, limits and errors, put together. It loads no model and opens no key that certifies."""

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from datetime import timedelta

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from sqlalchemy import Engine
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from api import problems
from api.facades import opendsr
from api.limits import LimitBody, LimitRate, Limits
from api.observing import Observe
from api.problems import Kind
from api.routers import callbacks, certificates, log, metrics, models, predictions, revocations, service
from api.tokens import TokenReader
from certs.encoding import MAX_BYTES
from mbd import __version__
from mbd.settings import Settings
from mbd.telemetry.metrics import Metrics
from mbd.workflow.callbacks.policy import UrlPolicy
from mbd.workflow.log_source import CHECKPOINT
from mbd.workflow.office import Clock, open_office, utc_now
from mbd.workflow.opendsr import open_processor
from mbd.workflow.predicting.client import PredictorClient
from mbd.workflow.publication import log_folder


def create_app(settings: Settings, *, clock: Clock = utc_now) -> FastAPI:
    """The application over a deployment that is there.

    Args:
        settings: where it is.
        clock: the time, in UTC and whole seconds.

    Raises:
        SettingsError: it is not there, or its secret is not, or call-backs or OpenDSR are set up as they cannot be.
        SchemaVersionError: its database is missing, older or newer than this program.
        RecordsError: the database cannot be reached.
    """
    closing = ExitStack()
    office = closing.enter_context(open_office(settings, clock=clock))
    engine = office.engine

    @asynccontextmanager
    async def close_at_the_end(_app: FastAPI) -> AsyncIterator[None]:
        with closing:
            yield

    app = FastAPI(
        title="Missing-by-Design",
        version=__version__,
        summary="Withdraw one modality of one person from every live model, and prove it.",
        lifespan=close_at_the_end,
        docs_url=None,  # its pages load scripts from elsewhere
        redoc_url=None,
        responses=problems.documented(Kind.TOO_MANY_REQUESTS),
        telemetry=_tracing(settings.traces_endpoint, engine, closing),
    )
    app.state.office = office
    app.state.tokens = TokenReader(settings) if settings.oidc_issuer else None
    app.state.limits = Limits(settings.rate_per_minute)
    app.state.url_policy = UrlPolicy.of(settings)
    app.state.opendsr = open_processor(office)
    silence = timedelta(seconds=settings.worker_silence)
    app.state.metrics = Metrics(engine, log_folder(office.home) / CHECKPOINT, clock=clock, silence=silence)
    app.state.predictor = PredictorClient(settings)
    problems.install(app)
    for each in (service, metrics, log, certificates, revocations, models, predictions, callbacks, opendsr):
        app.include_router(each.router)
    # The last one stands first.
    app.add_middleware(LimitBody, most=MAX_BYTES)
    app.add_middleware(LimitRate, limits=app.state.limits)
    app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=[str(each) for each in settings.trusted_proxies or ()])
    app.add_middleware(Observe, metrics=app.state.metrics)
    return app


def _tracing(endpoint: str | None, engine: Engine, closing: ExitStack) -> TelemetryConfig:
    """FastAPI's own spans, one for each request, if somebody collects them; its logs quote messages and stay off."""
    config: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
    if endpoint is not None:
        from mbd.telemetry.traces import open_traces, trace_statements  # noqa: PLC0415 - an extra that few need

        provider = open_traces(endpoint, "mbd-api")
        trace_statements(engine, provider)
        closing.callback(provider.shutdown)
        config |= {"tracing": True, "tracer_provider": provider, "operation_spans": False}
    return config
