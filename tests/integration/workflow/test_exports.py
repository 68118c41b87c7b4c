"""The lineage in the forms of other tools: valid by their own measure, the same each time, and without people."""

import json
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from mbd.cohort.modality import Modality
from mbd.errors import ExportError, RecordsError
from mbd.records import destruction, models
from mbd.records.database import begin_snapshot
from mbd.settings import Settings
from mbd.workflow.exports import cyclonedx, openlineage, prov
from mbd.workflow.exports.files import write_file
from mbd.workflow.exports.graph import Reading, read_lineage
from mbd.workflow.revocation import revoke
from mbd.workflow.system import System, open_system
from mbd.workflow.versions import retire_version


@dataclass
class Receiver:
    """A server that keeps what it is sent.

    Attributes:
        url: its address.
        status: what it answers.
        events: what came, with the path that it came to.
    """

    url: str
    status: int = 201
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            mine.events.append((self.path, json.loads(body)))
            self.send_response(mine.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        mine = Receiver(f"http://127.0.0.1:{server.server_port}")
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield mine
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def withdrawn_home(trained_home, people, tmp_path_factory) -> Path:
    """One person's voice has left: version 1 is destroyed, version 2 is live."""
    home = shutil.copytree(trained_home, tmp_path_factory.mktemp("withdrawn") / "home")
    with open_system(Settings(home=home), create=False) as system:
        revoke(system, [(people[0], Modality.AUDIO)])
    return home


@pytest.fixture
def exported(withdrawn_home, tmp_path) -> Iterator[System]:
    shutil.copytree(withdrawn_home, tmp_path / "withdrawn")
    with open_system(Settings(home=tmp_path / "withdrawn"), create=False) as system:
        yield system


def read(system: System, line: str | None = None) -> Reading:
    with begin_snapshot(system.engine) as connection:
        return read_lineage(connection, system.keyring.origin, line)


def sent_events(system: System, path: Path) -> list[dict[str, Any]]:
    assert openlineage.write(read(system), path) == len(path.read_text().splitlines())
    return [json.loads(line) for line in path.read_text().splitlines()]


def names(datasets: list[dict[str, Any]]) -> list[str]:
    return [dataset["name"] for dataset in datasets]


def test_no_export_names_a_person_by_name_or_by_key(exported, cohort, tmp_path):
    openlineage.write(read(exported), tmp_path / "events")
    write_file(tmp_path / "bom", cyclonedx.to_bytes(read(exported)))
    write_file(tmp_path / "prov", prov.to_bytes(read(exported)))
    subjects = {row.subject for row in cohort.rows}
    secrets = subjects | {row.clip for row in cohort.rows} | set(map(exported.identities.subject_key, subjects))
    for name in ("events", "bom", "prov"):
        text = (tmp_path / name).read_text("utf-8")
        assert "main" in text
        assert [secret for secret in secrets if secret in text] == []


def test_openlineage_says_what_went_in_what_came_out_and_what_was_dropped(exported, tmp_path):
    events = sent_events(exported, tmp_path / "events.ndjson")
    with begin_snapshot(exported.engine) as connection:
        first, second = models.versions(connection, "main")
        (gone,) = destruction.every(connection)
    jobs = [(event["job"]["name"], event["eventType"]) for event in events]
    expected = ["train/main", "withdraw/main", "unlearn/main", "retire/main"]
    assert jobs == [(job, state) for job in expected for state in ("START", "COMPLETE")]
    train, withdraw, unlearn, retire = events[1::2]
    assert names(train["outputs"]) == names(retire["outputs"]) == ["model/main/1"]
    assert names(withdraw["inputs"]) == [f"cohort/{first.cohort}"]
    assert names(withdraw["outputs"]) == [f"cohort/{second.cohort}"]
    assert names(unlearn["outputs"]) == ["model/main/2"]
    # Nothing flowed from version 1, nor from the cohort with the voice, but by way of the cohort without it.
    assert [name for name in names(unlearn["inputs"]) if not name.startswith("public_cohort/")] == [
        f"cohort/{second.cohort}"
    ]
    facets = retire["outputs"][0]["facets"]
    assert facets["lifecycleStateChange"]["lifecycleStateChange"] == "DROP"
    tags = {tag["key"]: tag["value"] for tag in facets["tags"]["tags"]}
    assert tags["statement of destruction"] == f"sha256:{gone.dsse_digest}"
    said = {tag["key"]: tag["value"] for tag in unlearn["run"]["facets"]["tags"]["tags"]}
    assert said["request"].startswith("rev-")
    assert said["certificate"].startswith("mdc-")
    assert all(event["job"]["namespace"] == f"mbd://{exported.keyring.origin}" for event in events)


def test_sending_again_sends_the_same_runs(exported, receiver, tmp_path):
    assert openlineage.send(read(exported), receiver.url) == 8
    openlineage.send(read(exported), receiver.url + "/")
    assert {path for path, _ in receiver.events} == {"/api/v1/lineage"}
    sent = [event for _, event in receiver.events]
    assert sent[:8] == sent[8:] == sent_events(exported, tmp_path / "events")
    assert len({event["run"]["runId"] for event in sent}) == 4
    assert {uuid.UUID(event["run"]["runId"]).version for event in sent} == {7}


def test_a_file_is_replaced_and_not_added_to(exported, tmp_path):
    path = tmp_path / "events"
    assert sent_events(exported, path) == sent_events(exported, path)
    assert [found.name for found in tmp_path.iterdir() if "partial" in found.name] == []


@pytest.mark.parametrize("url", ["localhost:5000", "http://", "nowhere"])
def test_what_is_no_address_is_refused(exported, url):
    with pytest.raises(ExportError, match="is no address"):
        openlineage.send(read(exported), url)


def test_a_server_that_is_away_or_refuses_is_named_with_a_remedy(exported, receiver):
    receiver.status = 400
    with pytest.raises(ExportError, match=r"answered with status 400.*send again"):
        openlineage.send(read(exported), receiver.url)
    with pytest.raises(ExportError, match="cannot be reached"):
        openlineage.send(read(exported), "http://127.0.0.1:1")


def test_a_file_that_cannot_be_written_is_named(exported, tmp_path):
    with pytest.raises(ExportError, match="cannot be written"):
        openlineage.write(read(exported), tmp_path / "missing" / "events")
    with pytest.raises(ExportError, match="cannot be written"):
        write_file(tmp_path / "missing" / "bom", b"")


def test_the_bill_of_materials_is_valid_by_the_schema_of_its_standard(exported):
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    data = cyclonedx.to_bytes(read(exported))
    assert validator.validate_str(data.decode()) is None
    assert data == cyclonedx.to_bytes(read(exported))
    wrong = json.loads(data)
    wrong["components"][0]["scope"] = "gone"
    assert validator.validate_str(json.dumps(wrong)) is not None


def test_the_bill_of_materials_tells_what_is_in_use_and_what_it_was_made_of(exported):
    bom = json.loads(cyclonedx.to_bytes(read(exported)))
    parts = {part["bom-ref"]: part for part in bom["components"]}
    old, new = parts["model_version:main/1"], parts["model_version:main/2"]
    assert (old["scope"], new["scope"]) == ("excluded", "required")
    properties = {each["name"]: each["value"] for each in old["properties"]}
    assert "mbd:destroyed-at" in properties
    assert [each["type"] for each in new["externalReferences"]] == ["attestation"]
    refs = {dataset["ref"] for dataset in new["modelCard"]["modelParameters"]["datasets"]}
    assert refs <= set(parts)
    dependencies = {each["ref"]: each["dependsOn"] for each in bom["dependencies"]}
    assert set(dependencies) == set(parts)
    assert "model_version:main/1" not in dependencies["model_version:main/2"]
    assert {name.partition(":")[0] for name in dependencies["model_version:main/2"]} == {"backbone", "cohort"}


RELATIONS = {
    "wasGeneratedBy": ("entity", "activity"),
    "wasDerivedFrom": ("generatedEntity", "usedEntity"),
    "used": ("activity", "entity"),
    "wasInvalidatedBy": ("entity", "activity"),
    "wasAssociatedWith": ("activity", "agent"),
    "wasInfluencedBy": ("influencee", "influencer"),
}
"""What each relation joins (PROV-JSON, section 3)."""


def test_prov_has_every_end_of_every_relation_and_no_name_twice(exported):
    document = json.loads(prov.to_bytes(read(exported)))
    known = {"entity": set(document["entity"]), "activity": set(document["activity"]), "agent": set(document["agent"])}
    everything = set().union(*known.values())
    assert len(everything) == sum(map(len, known.values()))
    assert all(name.partition(":")[0] in document["prefix"] for name in everything)
    assert set(document) == {"prefix", *known, *RELATIONS}
    for relation, ends in RELATIONS.items():
        for name, members in document[relation].items():
            assert name.startswith("_:")
            for end in ends:
                kinds = known.get({"generatedEntity": "entity", "usedEntity": "entity"}.get(end, end), everything)
                assert members[f"prov:{end}"] in kinds
    assert [each["prov:entity"] for each in document["wasInvalidatedBy"].values()] == ["mbd:model_version/main/1"]
    derived = {(each["prov:generatedEntity"], each["prov:usedEntity"]) for each in document["wasDerivedFrom"].values()}
    assert ("mbd:model_version/main/2", "mbd:model_version/main/1") not in derived
    assert document["entity"]["mbd:model_version/main/2"]["mbd:takesThePlaceOfVersion"] == 1


def test_one_line_is_exported_without_the_other(two_lines_home, tmp_path):
    home = shutil.copytree(two_lines_home, tmp_path / "two")
    with open_system(Settings(home=home), create=False) as system:
        both, one = read(system), read(system, "second")
        assert {version.record.line for version in both.versions} == {"main", "second"}
        assert {version.record.line for version in one.versions} == {"second"}
        assert {node.id for node in one.graph.nodes} < {node.id for node in both.graph.nodes}
        assert not any(node.id.startswith("model_version:main") for node in one.graph.nodes)
        ends = {end for edge in one.graph.edges for end in (edge.child, edge.parent)}
        assert ends <= {node.id for node in one.graph.nodes}
        with pytest.raises(RecordsError, match="no model line 'third'"):
            read(system, "third")


@pytest.fixture
def mlflow_server(tmp_path) -> Iterator[str]:
    """A real MLflow server process over an SQLite store."""
    for library in ("mlflow", "flask", "flask_cors"):
        if find_spec(library) is None:
            pytest.skip(f"{library} is not installed: it is part of the extra `dev`")
    script = Path(__file__).with_name("mlflow_server.py")
    store = [f"sqlite:///{tmp_path / 'mlflow.sqlite3'}", str(tmp_path / "artifacts")]
    with (tmp_path / "mlflow.log").open("w") as log:
        process = subprocess.Popen([sys.executable, script, *store], stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        assert port, (tmp_path / "mlflow.log").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_an_mlflow_registry_follows_deletions_and_retirements(exported, people, mlflow_server, monkeypatch):
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    from mbd.workflow.exports import mlflow

    client = mlflow.MlflowClient(tracking_uri=mlflow_server, registry_uri=mlflow_server)

    def tags() -> dict[str, dict[str, str]]:
        return {found.version: found.tags for found in client.search_model_versions("name = 'main'")}

    assert mlflow.send(read(exported), mlflow_server) == 2
    before = tags()
    assert client.get_model_version_by_alias("main", "live").version == "2"
    assert [before[n]["mbd.state"] for n in "12"] == ["retired", "live"]
    with begin_snapshot(exported.engine) as connection:
        (gone,) = destruction.every(connection)
    assert before["1"]["mbd.destruction_sha256"] == gone.dsse_digest
    assert mlflow.send(read(exported), mlflow_server) == 0
    assert tags() == before
    (result,) = revoke(exported, [(people[1], Modality.AUDIO)])
    assert mlflow.send(read(exported), mlflow_server) == 1
    after = tags()
    assert client.get_model_version_by_alias("main", "live").version == "3"
    assert [after[n]["mbd.state"] for n in "123"] == ["retired", "retired", "live"]
    reading = read(exported).versions[-1]
    (certificate,) = reading.certificates
    assert certificate.id == result.certificate
    assert after["3"]["mbd.request_id"] == certificate.revocation_id
    assert after["3"]["mbd.certificate_sha256"] == certificate.dsse_digest
    for key in map(exported.identities.subject_key, people):
        assert key not in json.dumps(after)
    retire_version(exported, "main", 3)
    assert mlflow.send(read(exported), mlflow_server) == 0
    assert tags()["3"]["mbd.state"] == "retired"
    assert client.get_registered_model("main").aliases == {}
    with pytest.raises(ExportError, match="is no address"):
        mlflow.send(read(exported), "localhost")
    with pytest.raises(ExportError, match="cannot be reached"):
        mlflow.send(read(exported), "http://127.0.0.1:1")
