"""The golden certificates, and a way to issue changed ones with the golden keys."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from certs.encoding import canonical_json
from certs.vectors import make, make_absence

AT = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def at() -> datetime:
    return AT


@pytest.fixture
def golden() -> Callable[[str], bytes]:
    """``golden("certified.sigstore.json")``: the file's bytes; what both folders have, from the first."""

    def read(name: str) -> bytes:
        return next(path for folder in (make.V1, make_absence.V1) if (path := folder / name).exists()).read_bytes()

    return read


@pytest.fixture
def trusted_root(golden) -> bytes:
    return golden("trusted_root.json")


@pytest.fixture
def locate() -> Callable[[Any, str], tuple[Any, Any]]:
    """``locate(document, "/a/0")``: what holds the member that a JSON pointer (RFC 6901) names, and its key there."""

    def walk(document: Any, pointer: str) -> tuple[Any, Any]:
        *parents, last = pointer.removeprefix("/").split("/")
        for part in parents:
            document = document[int(part)] if isinstance(document, list) else document[part]
        return document, int(last) if isinstance(document, list) else last

    return walk


@pytest.fixture
def reissue(golden, locate) -> Callable[..., bytes]:
    """``reissue("certified", {"/predicate/...": value})``: the golden statement, changed, signed and logged anew."""

    def issue(base: str, changes: dict[str, Any]) -> bytes:
        statement = json.loads(golden(f"{base}.statement.json"))
        for pointer, value in changes.items():
            holder, last = locate(statement, pointer)
            holder[last] = value
        return make.issue([golden("noise-commitment.statement.json"), canonical_json(statement)])[1]

    return issue
