"""Traces, sent by OTLP: which statements a request was made of, and how long each took. It knows no request's content.

Of what a span says, `_KEPT` alone is sent: no path, no query, no address, no host, no parameter, no message of an
exception, and of SQL the text without its literals. What a client says of its own trace is taken for its ids alone.

This module is loaded only where somebody collects traces; it is the extra ``traces``.
"""

import re
from collections.abc import Sequence
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Span, SpanContext, SpanKind, StatusCode
from opentelemetry.trace.status import Status
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExceptionContext

from mbd import __version__

_KEPT = frozenset(
    {
        "db.query.text",
        "db.system.name",
        "error.type",
        "http.request.method",
        "http.response.status_code",
        "http.route",
    }
)
_LITERAL = re.compile(r"'(?:[^']|'')*'|\b\d+\b")
_SPAN = "mbd_span"


def open_traces(endpoint: str, service: str) -> TracerProvider:
    """Begin to collect spans; `TracerProvider.shutdown` sends what is left.

    Args:
        endpoint: the URL that takes OTLP over HTTP, with its path.
        service: the process's name, as ``mbd-api``.
    """
    provider = TracerProvider(resource=Resource({"service.name": service, "service.version": __version__}))
    provider.add_span_processor(BatchSpanProcessor(_Discreet(OTLPSpanExporter(endpoint))))
    return provider


def trace_statements(engine: Engine, provider: TracerProvider) -> None:
    """Make a span of every statement that the engine runs.

    By listeners of our own: OpenTelemetry's instrumentation patches SQLAlchemy as a whole, and ends before 2.1.
    """
    tracer = provider.get_tracer("mbd.records", __version__)

    def begins(connection: Connection, _cursor: Any, statement: str, *_parameters: Any) -> None:
        attributes = {"db.system.name": engine.dialect.name, "db.query.text": _LITERAL.sub("?", statement)}
        word = statement.split(maxsplit=1)[0].upper() if statement.strip() else "SQL"
        connection.info[_SPAN] = tracer.start_span(word, kind=SpanKind.CLIENT, attributes=attributes)

    def ended(connection: Connection, *_rest: Any) -> None:
        span: Span | None = connection.info.pop(_SPAN, None)
        if span is not None:
            span.end()

    def failed(context: ExceptionContext) -> None:
        if context.connection is not None and _SPAN in context.connection.info:
            context.connection.info[_SPAN].set_attribute("error.type", type(context.original_exception).__qualname__)
            context.connection.info[_SPAN].set_status(StatusCode.ERROR)
            ended(context.connection)

    event.listen(engine, "before_cursor_execute", begins)
    event.listen(engine, "after_cursor_execute", ended)
    event.listen(engine, "handle_error", failed)


class _Discreet(SpanExporter):
    """Hands spans on without what may be about a person."""

    def __init__(self, target: SpanExporter) -> None:
        self._target = target

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send what may be sent."""
        return self._target.export([_discreet(span) for span in spans])

    def shutdown(self) -> None:
        """Send nothing more."""
        self._target.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what waits."""
        return self._target.force_flush(timeout_millis)


def _discreet(span: ReadableSpan) -> ReadableSpan:
    """The span anew, without events, links and the description of its status, which quote messages."""
    return ReadableSpan(
        name=span.name,
        context=_bare(span.context),
        parent=_bare(span.parent),
        resource=span.resource,
        attributes={name: value for name, value in (span.attributes or {}).items() if name in _KEPT},
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _bare(context: SpanContext | None) -> SpanContext | None:
    """Without the state that a client may have sent along."""
    if context is None:
        return None
    return SpanContext(context.trace_id, context.span_id, context.is_remote, context.trace_flags)
