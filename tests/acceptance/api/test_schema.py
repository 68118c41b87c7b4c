"""Whatever a client sends, the API answers as its own description says: no 5xx, no undocumented status or body."""

import signal
from itertools import product

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.openapi.checks import UndefinedStatusCode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from mbd.cli.api_keys import ROLES

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


EXAMPLES = 10
"""Of each operation and caller; every operation has more in all than a reader would think of."""


@pytest.fixture
def predictor(service, home):
    """A real one: without it predictions are not ready, which is a 503."""
    running = service("predictor", "--home", home)
    yield
    running.end(signal.SIGTERM)


@pytest.fixture
def api(serve, predictor):
    with serve(opendsr_domain="opendsr.example.org") as served:
        yield served


def operations_of(app):
    # Not by its pytest plugin, which does not run under this pytest.
    return [found.ok() for found in schemathesis.openapi.from_asgi("/openapi.json", app).get_all_operations()]


def test_answers_are_as_described_whoever_asks(api, people, subtests):
    callers = {"nobody": api.nobody, **{role: api.caller(role) for role in ROLES}}
    filed = [
        callers["agent"].post("/v1/revocations", {"subject": person, "modalities": ["audio"]}).json()["id"]
        for person in people[:5]
    ]
    operations = operations_of(api.app)
    assert len(operations) >= 20
    for operation, (who, caller) in product(operations, callers.items()):
        with subtests.test(f"{who}: {operation.label}"):
            hold_to_its_description(operation, caller, filed)


def hold_to_its_description(operation, caller, filed):
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=operation.as_strategy(), known=st.sampled_from([None, *filed]))
    def answers_as_described(case, known):
        if known is not None and "revocation_id" in case.path_parameters:
            case.path_parameters["revocation_id"] = known
        case.call_and_validate(checks=CHECKS, headers=caller.headers)

    answers_as_described()


def test_a_wrong_description_would_be_found(api):
    app = api.app
    del app.openapi()["paths"]["/checkpoint"]["get"]["responses"]["200"]
    (checkpoint,) = (operation for operation in operations_of(app) if operation.path == "/checkpoint")
    with pytest.raises(FailureGroup) as found:
        checkpoint.Case().call_and_validate(checks=CHECKS)
    assert [type(failure) for failure in found.value.exceptions] == [UndefinedStatusCode]
