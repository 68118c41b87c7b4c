"""The lineage as OpenLineage events, in a file (one event a line) or sent to a server.

    dataset   cohort/ROOT, model/LINE/VERSION       in the namespace mbd://ORIGIN
    job       train/LINE, unlearn/LINE, renew/LINE  cohorts in, a model version out
              withdraw/LINE                         a cohort in, the cohort without what was withdrawn out
              retire/LINE                           a model version out, with the facet DROP

A version has no edge from the version whose place it took: nothing of it flowed in, and whoever asks what descends from
a withdrawn channel must not be told otherwise. A tag names it. Run ids follow from what happened, so that sending an
event again changes nothing. The records know when something was done and not when it began: START has the same time.
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import (
    DatasetFacet,
    JobFacet,
    RunFacet,
    dataset_version_dataset,
    job_type_job,
    lifecycle_state_change_dataset,
    tags_dataset,
    tags_run,
)
from openlineage.client.transport.file import FileConfig, FileTransport
from openlineage.client.transport.http import HttpConfig, HttpTransport
from openlineage.client.uuid import generate_static_uuid
from requests.exceptions import RequestException

from certs.wire import format_timestamp
from mbd.durable import sync
from mbd.errors import ExportError
from mbd.records.lineage import Kind, Node, Role
from mbd.workflow.exports.graph import COHORTS, NAMESPACE, Reading, Version

_SOURCE = "MBD"
_SECONDS = 10.0
_RETRIES = {"total": 2, "connect": 2, "read": 2, "backoff_factor": 0.2}


def events(reading: Reading) -> Iterator[RunEvent]:
    """START and COMPLETE of everything that was done, in the order in which a line came about."""
    namespace = f"mbd://{reading.origin}"
    for version in reading.versions:
        line = version.record.line
        for cohort, before in _withdrawals(reading, version):
            facets = {"version": _version_facet(cohort.digest)}
            yield from _both(
                namespace,
                f"withdraw/{line}",
                cohort.id,
                cohort.created_at,
                inputs=[_input(namespace, before)],
                output=OutputDataset(namespace, _dataset(cohort), facets=facets),
            )
        yield from _both(
            namespace,
            f"{version.act}/{line}",
            version.record.node,
            version.record.created_at,
            inputs=[_input(namespace, cohort) for cohort in version.cohorts],
            output=_model(namespace, version),
            facets=_run_facets(version),
        )
    for version in reading.versions:
        if version.retired_at is not None:
            dropped = lifecycle_state_change_dataset.LifecycleStateChangeDatasetFacet(
                lifecycle_state_change_dataset.LifecycleStateChange.DROP, producer=NAMESPACE
            )
            yield from _both(
                namespace,
                f"retire/{version.record.line}",
                f"retirement of {version.record.node}",
                version.retired_at,
                inputs=[],
                output=_model(namespace, version, lifecycleStateChange=dropped),
            )


def write(reading: Reading, path: Path) -> int:
    """Write all events to a file, in place of what it held. Returns how many they are.

    Crash point: the file appears whole; a ``.partial`` file beside it is waste.

    Raises:
        ExportError: the file cannot be written.
    """
    made, partial = list(events(reading)), path.with_name(f".{path.name}.partial")
    transport = FileTransport(FileConfig(log_file_path=str(partial), append=True))
    try:
        partial.unlink(missing_ok=True)
        partial.touch()
        for event in made:
            transport.emit(event)
        sync(partial)
        partial.replace(path)
        sync(path.parent)
    except (OSError, RuntimeError) as error:
        raise ExportError(f"{path} cannot be written.", remedy="check the folder, its rights and the disk") from error
    return len(made)


def send(reading: Reading, url: str) -> int:
    """Send all events to a server's ``/api/v1/lineage``. Returns how many they are. Sending them again is harmless.

    Raises:
        ExportError: the address is none, the server cannot be reached, or it refuses an event.
    """
    try:
        transport = HttpTransport(HttpConfig(url=f"{url.rstrip('/')}/", timeout=_SECONDS, retry=_RETRIES))
    except ValueError:
        raise ExportError(f"'{url}' is no address.", remedy="give one such as http://localhost:5000") from None
    made = list(events(reading))
    try:
        for event in made:
            transport.emit(event)
    except RequestException as error:
        status = getattr(error.response, "status_code", None)
        what = "cannot be reached" if status is None else f"answered with status {status}"
        raise ExportError(
            f"The OpenLineage server at {url} {what}.",
            remedy="check address and server, then send again: it is harmless",
        ) from error
    finally:
        transport.close()
    return len(made)


def _both(
    namespace: str,
    job: str,
    about: str,
    at: datetime,
    *,
    inputs: list[InputDataset],
    output: OutputDataset,
    facets: dict[str, RunFacet] | None = None,
) -> Iterator[RunEvent]:
    run = str(generate_static_uuid(at, f"{namespace} {job} {about}".encode()))
    kind: dict[str, JobFacet] = {
        "jobType": job_type_job.JobTypeJobFacet("BATCH", _SOURCE, jobType="JOB", producer=NAMESPACE)
    }
    for state in (RunState.START, RunState.COMPLETE):
        yield RunEvent(
            eventType=state,
            eventTime=format_timestamp(at),
            run=Run(run, facets=dict(facets or {})),
            job=Job(namespace, job, facets=dict(kind)),
            inputs=list(inputs),
            outputs=[output],
            producer=NAMESPACE,
        )


def _withdrawals(reading: Reading, version: Version) -> Iterator[tuple[Node, Node]]:
    """The version's cohort and the one whose place that took, if it did."""
    nodes = reading.nodes
    mine = {cohort.id for cohort in version.cohorts if cohort.kind is Kind.COHORT}
    for edge in reading.graph.edges:
        if edge.role is Role.SUCCEEDS and edge.child in mine and nodes[edge.child].digest == version.record.cohort:
            yield nodes[edge.child], nodes[edge.parent]


def _dataset(cohort: Node) -> str:
    assert cohort.kind in COHORTS, "statistics and backbones are parts of model versions here"
    return f"{cohort.kind}/{cohort.digest}"


def _input(namespace: str, cohort: Node) -> InputDataset:
    return InputDataset(namespace, _dataset(cohort), facets={"version": _version_facet(cohort.digest)})


def _model(namespace: str, version: Version, **more: DatasetFacet) -> OutputDataset:
    tags = {"state": version.record.state.value}
    if version.predecessor is not None:
        tags["takes the place of version"] = str(version.predecessor)
    if version.record.guarantee_class is not None:
        tags["guarantee"] = version.record.guarantee_class
    if version.destruction is not None:
        tags["destroyed at"] = format_timestamp(version.destruction.destroyed_at)
        tags["statement of destruction"] = f"sha256:{version.destruction.dsse_digest}"
    fields = [tags_dataset.TagsDatasetFacetFields(key, value, source=_SOURCE) for key, value in tags.items()]
    facets: dict[str, DatasetFacet] = {
        "version": _version_facet(version.record.digest),
        "tags": tags_dataset.TagsDatasetFacet(fields, producer=NAMESPACE),
        **more,
    }
    return OutputDataset(namespace, f"model/{version.name}", facets=facets)


def _version_facet(digest: str) -> DatasetFacet:
    return dataset_version_dataset.DatasetVersionDatasetFacet(digest, producer=NAMESPACE)


def _run_facets(version: Version) -> dict[str, RunFacet]:
    """The requests that a run carried out, and the certificates that say so."""
    fields = [
        tags_run.TagsRunFacetFields(key, value, source=_SOURCE)
        for certificate in version.certificates
        for key, value in (
            ("request", certificate.revocation_id),
            ("certificate", f"{certificate.id} sha256:{certificate.dsse_digest}"),
        )
    ]
    return {"tags": tags_run.TagsRunFacet(fields, producer=NAMESPACE)} if fields else {}
