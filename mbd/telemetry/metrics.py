"""Metrics for Prometheus, in a registry of their own: what the API answered, and how much there is of everything.

Labels are route templates, states and other words of ours: never an id, a name or an address.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from mbd import __version__
from mbd.errors import RecordsError
from mbd.records.database import begin_snapshot
from mbd.records.figures import Figures, figures
from mbd.records.lifecycle import State

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Everything that one process of the API shows.

    Args:
        engine: of the records, which each scrape reads.
        checkpoint: the file that publishes the log's last signed checkpoint.
        clock: the time, with a zone.
        silence: after which a worker is taken for dead.
    """

    def __init__(self, engine: Engine, checkpoint: Path, *, clock: Callable[[], datetime], silence: timedelta) -> None:
        self._registry = CollectorRegistry()
        self._requests = Histogram(
            "mbd_http_request_seconds",
            "Time to answer a request, by route template and class of status.",
            ("route", "method", "status"),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        ProcessCollector(registry=self._registry)
        self._registry.register(_Records(engine, checkpoint, clock, silence))

    def observe(self, *, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._requests.labels(route, method, f"{status // 100}xx").observe(seconds)

    def expose(self, accept: str) -> tuple[bytes, str]:
        """All metrics and their media type: OpenMetrics for whoever accepts it, else Prometheus' text format."""
        encode, media_type = choose_encoder(accept)
        return encode(self._registry), media_type


class _Records(Collector):
    """Reads the database when it is scraped; one that is away is a metric, not an error."""

    def __init__(self, engine: Engine, checkpoint: Path, clock: Callable[[], datetime], silence: timedelta) -> None:
        self._engine, self._checkpoint, self._clock, self._silence = engine, checkpoint, clock, silence

    def collect(self) -> Iterable[Metric]:
        """The metrics of the records, or that there are none now."""
        build = GaugeMetricFamily("mbd_build_info", "The program's version; always 1.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        if self._checkpoint.exists():
            text = "When the published checkpoint was written. Absent where nothing is published."
            written = self._checkpoint.stat().st_mtime
            yield GaugeMetricFamily("mbd_checkpoint_published_timestamp_seconds", text, value=written)
        up = "Whether the database answers: 1 or 0. At 0, the metrics that are read from it are absent."
        try:
            with begin_snapshot(self._engine) as connection:
                found = figures(connection, now=self._clock(), silence=self._silence)
        except (RecordsError, DBAPIError):
            yield GaugeMetricFamily("mbd_database_up", up, value=0)
            return
        yield GaugeMetricFamily("mbd_database_up", up, value=1)
        yield from _families(found)


def _families(found: Figures) -> Iterator[Metric]:
    yield _labelled("mbd_requests", "Requests to revoke, by state.", "state", found.requests)
    if found.next_due is not None:
        end = datetime.combine(found.next_due, time.max, UTC).replace(microsecond=0)
        text = "When the time of the most urgent open request is over. Absent where none is open."
        yield GaugeMetricFamily("mbd_requests_next_due_timestamp_seconds", text, value=end.timestamp())
    yield GaugeMetricFamily("mbd_requests_overdue", "Open requests whose time is over.", value=found.overdue)
    since = {state: moment.timestamp() for state, moment in found.waiting_since.items()}
    text = "Since when the oldest approved request, and the oldest in progress, is so. Absent where there is none."
    yield _labelled("mbd_oldest_job_timestamp_seconds", text, "state", since)
    yield GaugeMetricFamily("mbd_suppressed_channels", "Channels on the suppression list.", value=found.suppressed)
    yield GaugeMetricFamily("mbd_certificates", "Certificates that stand.", value=found.certificates)
    yield GaugeMetricFamily("mbd_log_size", "Leaves of the log.", value=found.log_size)
    unsigned = found.log_size - found.signed_size
    yield GaugeMetricFamily("mbd_log_unsigned", "Leaves that no checkpoint covers yet.", value=unsigned)
    for name, what, outbox in (
        ("mbd_webhook_deliveries", "Call-backs to other platforms", found.deliveries),
        ("mbd_messages", "Messages to people", found.messages),
    ):
        text = f"{what} that have not arrived, by whether they will be tried again."
        yield _labelled(name, text, "state", {"waiting": outbox.waiting, "given_up": outbox.given_up})
    workers = {"alive": found.workers, "silent": found.silent_workers}
    yield _labelled("mbd_workers", "Workers that run, and those that went without a word.", "state", workers)


def _labelled(name: str, text: str, label: str, values: Mapping[State, float] | Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, number in values.items():
        family.add_metric([str(value)], number)
    return family
