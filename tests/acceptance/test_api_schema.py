"""Whatever a client sends, the API answers as its own description says: no 5xx, no undocumented status or body."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.openapi.checks import UndefinedStatusCode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from api.app import create_app
from mbd.settings import Settings

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


def operations_of(app):
    # Not by its pytest plugin, which does not run under this pytest.
    return [found.ok() for found in schemathesis.openapi.from_asgi("/openapi.json", app).get_all_operations()]


def test_answers_are_as_described(home, subtests):
    operations = operations_of(create_app(Settings(home=home)))
    assert len(operations) >= 10
    for operation in operations:

        @settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def answers_as_described(case):
            case.call_and_validate(checks=CHECKS)

        with subtests.test(operation.label):
            answers_as_described()


def test_a_wrong_description_would_be_found(home):
    app = create_app(Settings(home=home))
    del app.openapi()["paths"]["/checkpoint"]["get"]["responses"]["200"]
    (checkpoint,) = (operation for operation in operations_of(app) if operation.path == "/checkpoint")
    with pytest.raises(FailureGroup) as found:
        checkpoint.Case().call_and_validate(checks=CHECKS)
    assert [type(failure) for failure in found.value.exceptions] == [UndefinedStatusCode]
