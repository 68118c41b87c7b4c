"""A copy of every model line in an MLflow model registry: versions with tags, and the alias ``live``.

MLflow counts versions itself, so ours are known by the tag ``mbd.version``. What is there already is not made again,
and tags are set to what the records say: the same call mends what an interrupted one left. No file is copied: a
version's source names it, and MLflow cannot load it. One call at a time.
"""

import os
from collections.abc import Iterator
from itertools import groupby

import httpx

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # else the import below begins to report its use to others

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from certs.wire import format_timestamp
from mbd.errors import ExportError
from mbd.records.models import VersionState
from mbd.workflow.exports.graph import Reading, Version

ALIAS = "live"
_NUMBER = "mbd.version"
_LONGEST_TAG = 5000
_SECONDS = 10.0
_EXISTS = "RESOURCE_ALREADY_EXISTS"


def send(reading: Reading, url: str) -> int:
    """Bring the registry at a server up to date. Returns how many versions were new to it.

    Crash points: a version is made with its tags in one call; whatever else is missing is set by the next call.

    Raises:
        ExportError: the address is none, the server cannot be reached, or it refuses.
    """
    _require_server(url)
    client = MlflowClient(tracking_uri=url, registry_uri=url)
    try:
        return sum(
            _bring_up_to_date(client, reading.origin, line, list(versions))
            for line, versions in groupby(reading.versions, key=lambda version: version.record.line)
        )
    except MlflowException as error:
        raise ExportError(
            f"The MLflow server at {url} refused: {error.error_code}.",
            remedy="check server and credentials (MLFLOW_TRACKING_TOKEN), then send again: it is harmless",
        ) from error


def _require_server(url: str) -> None:
    """MLflow's client tries for minutes to reach a server that is not there."""
    try:
        httpx.get(url, timeout=_SECONDS)
    except (httpx.UnsupportedProtocol, httpx.InvalidURL):
        raise ExportError(f"'{url}' is no address.", remedy="give one such as http://localhost:5000") from None
    except httpx.HTTPError as error:
        raise ExportError(
            f"The MLflow server at {url} cannot be reached.", remedy="check address and server, then send again"
        ) from error


def _bring_up_to_date(client: MlflowClient, origin: str, line: str, versions: list[Version]) -> int:
    try:
        client.create_registered_model(line, tags={"mbd.origin": origin})
    except MlflowException as error:
        if error.error_code != _EXISTS:
            raise
    known = {found.tags[_NUMBER]: found for found in _all_versions(client, line) if _NUMBER in found.tags}
    new, live = 0, None
    for version in versions:
        tags = _tags(version)
        found = known.get(tags[_NUMBER])
        if found is None:
            source = f"mbd://{origin}/{version.name}"
            found = client.create_model_version(line, source, tags=tags, await_creation_for=0)
            new += 1
        for key, value in tags.items():
            if found.tags.get(key) != value:
                client.set_model_version_tag(line, found.version, key, value)
        if version.record.state is VersionState.LIVE:
            live = found
    if live is not None:
        client.set_registered_model_alias(line, ALIAS, live.version)
    else:
        client.delete_registered_model_alias(line, ALIAS)
    return new


def _all_versions(client: MlflowClient, line: str) -> Iterator[ModelVersion]:
    token = None
    while True:
        page = client.search_model_versions(f"name = '{line}'", page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _tags(version: Version) -> dict[str, str]:
    record = version.record
    tags = {
        _NUMBER: str(record.version),
        "mbd.state": record.state.value,
        "mbd.digest": record.digest,
        "mbd.guarantee": record.guarantee_class or "",
        "mbd.request_id": _joined(certificate.revocation_id for certificate in version.certificates),
        "mbd.certificate_sha256": _joined(certificate.dsse_digest for certificate in version.certificates),
    }
    if version.destruction is not None:
        tags["mbd.destroyed_at"] = format_timestamp(version.destruction.destroyed_at)
        tags["mbd.destruction_sha256"] = version.destruction.dsse_digest
    return {name: value for name, value in tags.items() if value}


def _joined(values: Iterator[str]) -> str:
    """As many as a tag can hold, and a sign that there are more."""
    text = " ".join(values)
    return text if len(text) <= _LONGEST_TAG else f"{text[: _LONGEST_TAG - 4].rpartition(' ')[0]} ..."
