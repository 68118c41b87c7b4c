"""What all our signed and published JSON documents share: one frozen base model and a few exact field types.

Wire names are lowerCamelCase and unknown members are refused. In Python the same models are built by field name.
"""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel

from certs.encoding import MAX_INTEGER, canonical_json, decode_base64, decode_decimal, encode_base64, parse_json
from certs.errors import CertificateError, Code

_RFC3339_SECOND = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


def _read_timestamp(value: Any) -> datetime:
    if isinstance(value, str):
        if not _RFC3339_SECOND.fullmatch(value):
            raise ValueError("not an RFC 3339 time of the form 2030-01-31T23:59:59Z")
        return datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    if isinstance(value, datetime) and value.utcoffset() is not None and value.microsecond == 0:
        return value.astimezone(UTC)
    raise ValueError("not a time with a zone and whole seconds")


def format_timestamp(value: datetime) -> str:
    """RFC 3339 in UTC with second precision: ``2030-01-31T23:59:59Z``."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _read_base64(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return decode_base64(value)
    raise ValueError("neither bytes nor base64")


def _read_decimal(value: Any) -> int:
    if isinstance(value, str):
        return decode_decimal(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return decode_decimal(str(value))
    raise ValueError("not a decimal number")


Timestamp = Annotated[
    datetime,
    PlainValidator(_read_timestamp),
    PlainSerializer(format_timestamp, return_type=str),
    WithJsonSchema({"type": "string", "pattern": f"^{_RFC3339_SECOND.pattern}$"}),
]
Base64 = Annotated[
    bytes,
    PlainValidator(_read_base64),
    PlainSerializer(encode_base64, return_type=str),
    WithJsonSchema({"type": "string", "contentEncoding": "base64"}),
]
Decimal = Annotated[
    int,
    PlainValidator(_read_decimal),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": "^(0|[1-9][0-9]*)$"}),
]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_NAME = r"[A-Za-z0-9][A-Za-z0-9._+-]*"
Slug = Annotated[str, StringConstraints(pattern=rf"^{_NAME}(/{_NAME})*$", max_length=128)]
_CONTROLS = r"\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069"
Text = Annotated[str, StringConstraints(pattern=rf"^[^{_CONTROLS}]+$", max_length=500)]
Count = Annotated[int, Field(ge=0, le=MAX_INTEGER)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Wire(BaseModel):
    """Base of every model that is written to bytes: frozen, lowerCamelCase, nothing unknown."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=True, validate_by_alias=True
    )

    def canonical(self) -> bytes:
        """RFC 8785 bytes, with an explicit null for every member that has none."""
        return canonical_json(self.model_dump(mode="json", by_alias=True))

    @classmethod
    def parse(cls, data: bytes, code: Code, *, remedy: str) -> Self:
        """Strict JSON bytes to the model; Python field names and loose types are refused.

        Raises:
            CertificateError: ``json-*`` for the text, the given code for a value that does not fit the model.
        """
        parse_json(data)
        try:
            return cls.model_validate_json(data, strict=True, by_alias=True, by_name=False)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            place = "/" + "/".join(str(part) for part in first["loc"])
            raise CertificateError(code, f"At {place}: {first['msg']}.", remedy=remedy) from None


class LogId(Wire):
    """Which log: SHA-256(origin || 0x0A || 0x01 || Ed25519 key), whose first four bytes are its note key id."""

    key_id: Base64
