"""The signed types: their schema, their strictness on the wire, and what Python may build."""

import json
from datetime import UTC, datetime, timedelta, timezone

import jsonschema
import pytest
from pydantic import ValidationError

from certs.absence_statement import AbsenceStatement
from certs.errors import CertificateError, Code
from certs.payload import from_payload, to_payload
from certs.schema_file import FOLDER, SCHEMAS, schema_text
from certs.statement import (
    Artifact,
    DeletionStatement,
    DigestSet,
    Exact,
    NoiseCommitment,
    commitment_statement,
)
from certs.wire import format_timestamp

DELETIONS = ["certified", "exact", "empirical"]
ABSENCES = ["person", "channel", "everyone"]


def test_the_committed_schemas_are_those_of_the_models():
    assert {path.name for path in FOLDER.iterdir()} == set(SCHEMAS)
    for name in SCHEMAS:
        assert (FOLDER / name).read_text(encoding="utf-8") == schema_text(name)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        *((name, "modality-deletion-v1.json") for name in DELETIONS),
        *((name, "modality-absence-v1.json") for name in ABSENCES),
    ],
)
def test_the_schema_accepts_the_golden_statements_and_knows_what_is_required(name, file, golden):
    schema = json.loads(schema_text(file))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    statement = json.loads(golden(f"{name}.statement.json"))
    validator.validate(statement)
    for member in statement["predicate"]:
        fewer = dict(statement, predicate={k: v for k, v in statement["predicate"].items() if k != member})
        assert not validator.is_valid(fewer)
    assert not validator.is_valid(dict(statement, predicate=dict(statement["predicate"], more=1)))


@pytest.mark.parametrize("name", [*DELETIONS, *ABSENCES])
def test_no_member_of_a_statement_can_be_left_out(name, golden):
    """Not even where Python has a default: a reader must find every member that the specification has."""
    for pointer, without in _each_removed(json.loads(golden(f"{name}.statement.json"))):
        with pytest.raises(CertificateError) as failure:
            from_payload(json.dumps(without).encode())
        assert failure.value.code in (Code.STATEMENT_MALFORMED, Code.PREDICATE_UNKNOWN), pointer


@pytest.mark.parametrize("name", ["certified", "person"])
def test_a_statement_names_no_person_and_no_secret(name, golden):
    """Every string of it is a digest, a name of ours, a time or a sentence: nothing has room for an identity."""
    statement = from_payload(golden(f"{name}.statement.json"))
    assert isinstance(statement, DeletionStatement | AbsenceStatement)
    assert set(statement.predicate.request.model_dump()) == {"digest", "regime", "requested_at", "scope"}


def test_wire_types_are_strict_and_frozen(golden):
    statement = from_payload(golden("certified.statement.json"))
    with pytest.raises(ValidationError, match="frozen"):
        statement.predicate = None
    text = golden("certified.statement.json").decode()
    for old, new in (
        ('"version":3', '"version":"3"'),
        ('"version":3', '"version":3.5'),
        ('"version":3', '"version":true'),
    ):
        assert old in text
        with pytest.raises(CertificateError) as failure:
            from_payload(text.replace(old, new).encode())
        assert failure.value.code is Code.STATEMENT_MALFORMED


def test_times_are_written_in_utc_with_whole_seconds():
    noon = datetime(2026, 5, 1, 12, 0, tzinfo=timezone(timedelta(hours=2)))
    assert format_timestamp(noon) == "2026-05-01T10:00:00Z"
    for bad in (
        noon.replace(tzinfo=None),
        datetime(2026, 5, 1, 12, 0, 0, 5, tzinfo=UTC),
        "2026-05-01T10:00:00+00:00",
    ):
        with pytest.raises(ValidationError):
            NoiseCommitment(commitment="00" * 32, algorithm="a", created_at=bad)


def test_a_statement_that_would_not_be_read_back_is_not_written():
    statement = commitment_statement(
        NoiseCommitment(commitment="00" * 32, algorithm="a", created_at=datetime(2026, 5, 1, tzinfo=UTC))
    )
    assert from_payload(to_payload(statement)) == statement
    for commitment in (statement.predicate.model_copy(update={"commitment": "XY"}),):
        with pytest.raises(CertificateError) as failure:
            to_payload(statement.model_copy(update={"predicate": commitment}))
        assert failure.value.code is Code.STATEMENT_MALFORMED


@pytest.mark.parametrize(
    "name", ["", "/", "a//b", "../a", "a/..", "a/../b", "/etc/passwd", ".hidden", "a b", "a\n", "a" * 129]
)
def test_artifact_names_are_plain_relative_paths(name):
    with pytest.raises(ValidationError):
        Artifact(name=name, digest=DigestSet(sha256="00" * 32))


@pytest.mark.parametrize("name", ["model.json", "heads/ta.safetensors", "a+b_c-d.1"])
def test_ordinary_artifact_names_are_allowed(name):
    assert Artifact(name=name, digest=DigestSet(sha256="00" * 32)).name == name


@pytest.mark.parametrize("text", ["", "\x1b[31m", "line\nbreak", "\u202eright to left", "\u0085", "x" * 501])
def test_texts_cannot_play_tricks_on_a_terminal(text):
    with pytest.raises(ValidationError):
        Exact(equalities=(text,))


def _each_removed(document, pointer=""):
    """Copies of a JSON value, each without one member of one object."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield f"{pointer}/{key}", {k: v for k, v in document.items() if k != key}
            for place, changed in _each_removed(value, f"{pointer}/{key}"):
                yield place, {**document, key: changed}
    if isinstance(document, list):
        for index, value in enumerate(document):
            for place, changed in _each_removed(value, f"{pointer}/{index}"):
                yield place, [*document[:index], changed, *document[index + 1 :]]
