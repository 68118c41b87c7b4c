"""The steps of a deletion, for all requests that wait: begin, delete line by line, publish, destroy, end.

Recovery is the normal path: a step may run again whatever became of it before, and reads first what is done already.
What a step returns is plain JSON with ids of requests, names of lines and kinds of errors, so that a job engine can
keep it; the command line runs the same steps at once.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from sqlalchemy import Connection

from mbd.attacks.report import Report
from mbd.cohort.cohort import Pair
from mbd.deletion.outcome import Outcome
from mbd.errors import LedgerError, TimeStampError, WitnessError
from mbd.records import certificates, messages, models, progress, requests
from mbd.records.certificates import Certificate, CertificateKind
from mbd.records.database import begin_locked, begin_snapshot, is_unreachable
from mbd.records.lifecycle import Action, State
from mbd.records.messages import Message
from mbd.records.requests import WORKER, Revocation
from mbd.workflow.attacks import watch_for_leaks
from mbd.workflow.deleting import Made, delete_from, pairs_in
from mbd.workflow.filing import live_cohorts
from mbd.workflow.issuance import publish_certificate
from mbd.workflow.jobs.engine import RunStep, at_once
from mbd.workflow.log import commit_to_noise
from mbd.workflow.office import refuse_rollback
from mbd.workflow.progress import Reporter
from mbd.workflow.system import System, remove_unregistered

OnStep = Callable[[str], None]
"""Told what happens next, in a few words."""

READY = frozenset({State.APPROVED, State.IN_PROGRESS})
"""What a worker takes up by itself; one that failed waits until it is said to try it again."""

Failures = dict[str, str]
"""The kind of error that stopped a request, by the request's id."""

_NOBODYS = (OSError, MemoryError, LedgerError)
"""Errors of the machine and the log: to try each request apart would not help."""


@dataclass(frozen=True)
class LineResult:
    """What a revocation did to one model line.

    Attributes:
        version: the one that a deletion made, or that holds nothing of the request.
        kind: which of the two the certificate says.
        certificate: its id.
        folder: where the certificate's files lie.
        outcome: what the mechanism did; None when an earlier run of this command had finished it, and of an absence.
        deletion_seconds: from live model to released model, files apart; None likewise.
        reports: what attacks on the deletion found, where the policy asks for them.
    """

    line: str
    version: int
    kind: CertificateKind
    certificate: str
    folder: Path
    outcome: Outcome | None
    deletion_seconds: float | None
    reports: tuple[Report, ...] = ()

    @property
    def bundle(self) -> Path:
        """The certificate file."""
        return self.folder / "mdc.sigstore.json"


@dataclass
class Work:
    """One run of the steps, and what only the process that ran them knows of it.

    Attributes:
        system: the deployment, to oneself.
        states: the requests in these states are carried out together.
        on_step: told what happens next.
        results: of each request that was carried out, by its id.
        errors: what stopped a request, by its id.
        leaks: what was found afterwards of what had been withdrawn, where the policy asks for that.
    """

    system: System
    states: frozenset[State]
    on_step: OnStep
    results: dict[str, list[LineResult]] = field(default_factory=dict)
    errors: dict[str, Exception] = field(default_factory=dict)
    leaks: Report | None = None
    _search: Callable[[], Report | None] | None = None
    _made: dict[str, list[Made]] = field(default_factory=dict)
    _reporter: Reporter | None = None

    def carry_out(self, run_step: RunStep = at_once) -> None:
        """Take all the steps. What fails for one request or on one line stops neither the others nor the other lines.

        Raises:
            LedgerError: the database is behind the remembered checkpoint; nothing more can be written.
        """
        batch = run_step("begin", self.begin)
        ids, lines = batch["requests"], batch["lines"]
        if not ids:
            return
        self._reporter = Reporter(self.system, ids, lines)
        failures: Failures = {}
        for line in lines:
            self._reporter.begin_line(line)
            failures = run_step(f"delete: {line}", partial(self.delete, ids, line)) | failures
        self._reporter.begin_line(None)
        failures = run_step("publish", partial(self.publish, ids)) | failures
        run_step("destroy", self.destroy)
        run_step("end", partial(self.end, ids, failures))
        if self._search is not None and not self.errors:  # what failed is still there to be found
            run_step("search", self.search)

    def begin(self) -> dict[str, list[str]]:
        """Start every request that waits: the point of no return. A cancellation came before it, or comes too late."""
        commit_to_noise(self.system)
        with begin_locked(self.system.engine) as connection:
            refuse_rollback(self.system, connection)
            waiting = requests.in_states(connection, self.states)
            remove_unregistered(self.system, connection)
            for request in waiting:
                now = self.system.clock()
                if request.state is State.FAILED:
                    requests.act(connection, request.id, Action.RETRY, by=WORKER, at=now)
                requests.act(connection, request.id, Action.START, by=WORKER, at=now)
            lines = [live.line for live in models.live_versions(connection)]
        if self.system.settings.attack:
            self._search = watch_for_leaks(self.system, _still_held(self.system, waiting))
        self.results = {request.id: [] for request in waiting}
        return {"requests": [request.id for request in waiting], "lines": lines}

    def delete(self, ids: Collection[str], line: str) -> Failures:
        """Delete from one line what these ask for, with one solve, and certify it; not what is certified already."""
        with begin_snapshot(self.system.engine) as connection:
            waiting = [
                request
                for request in _in_progress(connection, ids)
                if certificates.find(connection, request.id, line) is None
            ]
        return self._delete(waiting, line) if waiting else {}

    def publish(self, ids: Collection[str]) -> Failures:
        """Complete every certificate of these requests and write its files."""
        failures: Failures = {}
        unwitnessed: TimeStampError | WitnessError | None = None
        with begin_snapshot(self.system.engine) as connection:
            issued = _issued(connection, ids)
        for n, certificate in enumerate(issued):
            request = certificate.revocation_id
            if unwitnessed is not None and certificate.bundle is None:  # they all wait for the same others
                failures |= self._failed([request], unwitnessed)
                continue
            self._tell("publishing the certificate", n / len(issued))
            try:
                folder = publish_certificate(self.system, certificate)
            except Exception as error:  # noqa: BLE001 - whatever it is, it must not stop the next person's certificate
                _raise_if_unreachable(error)
                failures |= self._failed([request], error)
                unwitnessed = error if isinstance(error, TimeStampError | WitnessError) else unwitnessed
            else:
                self.results.setdefault(request, []).append(self._result(certificate, folder))
        return failures

    def destroy(self) -> None:
        """Destroy the versions that were retired, and what an interrupted step left of one that was not registered."""
        self._tell("destroying the retired version")
        with begin_locked(self.system.engine) as connection:
            refuse_rollback(self.system, connection)
            remove_unregistered(self.system, connection)

    def end(self, ids: Collection[str], failures: Mapping[str, str]) -> None:
        """Complete every request that is certified on every line that holds it; the others have failed, and say why."""
        with begin_locked(self.system.engine) as connection:
            refuse_rollback(self.system, connection)
            for request in _in_progress(connection, ids):
                why = failures.get(request.id)  # the kind alone: an error's words may name a person
                action, now = Action.COMPLETE if why is None else Action.FAIL, self.system.clock()
                requests.act(connection, request.id, action, by=WORKER, at=now, reason=why)
                if action is Action.COMPLETE:
                    messages.enqueue(connection, request.id, Message.COMPLETED, now)
            progress.clear(connection, ids)

    def search(self) -> None:
        """Search the deployment for what was withdrawn; only the process that saw it before knows what to look for."""
        assert self._search is not None, "asked for by the policy"
        self.on_step("searching for what was withdrawn")
        self.leaks = self._search()
        found = (self.leaks,) if self.leaks else ()
        for results in self.results.values():
            results[:] = [replace(result, reports=(*result.reports, *found)) for result in results]

    def _delete(self, waiting: Sequence[Revocation], line: str) -> Failures:
        """All at once. If that fails, the one half and then the other: a failure stops nobody else's request."""
        try:
            made = delete_from(self.system, waiting, self.system.live(line), self._tell)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not stop the next person's request
            _raise_if_unreachable(error)
            if len(waiting) == 1 or isinstance(error, _NOBODYS):
                return self._failed([request.id for request in waiting], error)
            half = len(waiting) // 2
            return self._delete(waiting[:half], line) | self._delete(waiting[half:], line)
        self._made.setdefault(line, []).append(made)
        return {}

    def _failed(self, ids: Collection[str], error: Exception) -> Failures:
        for request in ids:
            self.errors.setdefault(request, error)
        return dict.fromkeys(ids, type(error).__name__)

    def _result(self, certificate: Certificate, folder: Path) -> LineResult:
        by_us = (
            made
            for made in self._made.get(certificate.model_line, ())
            if certificate.revocation_id in made.certificates
        )
        made = next(by_us, Made())
        return LineResult(
            certificate.model_line,
            certificate.version,
            certificate.kind,
            certificate.id,
            folder,
            made.outcome,
            made.seconds,
            made.reports,
        )

    def _tell(self, step: str, done: float = 0.0, /) -> None:
        self.on_step(step)
        if self._reporter is not None:
            self._reporter(step, done)


def _raise_if_unreachable(error: Exception) -> None:
    """A database that gave out has decided nothing about a request: the step is taken again when it is back."""
    if is_unreachable(error):
        raise error


def _in_progress(connection: Connection, ids: Collection[str]) -> list[Revocation]:
    wanted = set(ids)
    return [request for request in requests.in_states(connection, {State.IN_PROGRESS}) if request.id in wanted]


def _issued(connection: Connection, ids: Collection[str]) -> list[Certificate]:
    """What was issued to these requests, line by line."""
    active = _in_progress(connection, ids)
    return [
        certificate
        for live in models.live_versions(connection)
        for request in active
        if (certificate := certificates.find(connection, request.id, live.line))
    ]


def _still_held(system: System, waiting: Sequence[Revocation]) -> frozenset[Pair]:
    cohorts = [cohort for _, cohort in live_cohorts(system)]
    return frozenset(pair for cohort in cohorts for each in waiting for pair in pairs_in(system, cohort, each))
