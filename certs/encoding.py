"""Bytes to values and back, strictly: JSON (I-JSON on reading, RFC 8785 on writing) and base64 (RFC 4648 section 4).

Two readers must never disagree about what a signed text says, so whatever is ambiguous is refused here. It knows no
format of ours.
"""

import base64
import binascii
import json
import math
import re
from itertools import accumulate
from typing import Any, Never

import rfc8785

from certs.errors import CertificateError, Code

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_INTEGER = (1 << 53) - 1

_NO_BRACKETS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[^"\[\]{}]+', re.DOTALL)
_STEPS = {"[": 1, "{": 1, "]": -1, "}": -1}
_REMEDY = "ask the issuer for the file as it was issued; do not edit or re-format it"


def canonical_json(value: Any) -> bytes:
    """RFC 8785 bytes of a JSON value.

    Raises:
        ValueError: the value has no canonical form (NaN, an integer beyond 2^53 - 1, a lone surrogate).
    """
    return rfc8785.dumps(value)


def parse_json(data: bytes) -> Any:
    """The value of a JSON text, as RFC 7493 (I-JSON) allows it, within limits of size and depth.

    Refused: duplicate keys, NaN and infinity, numbers that float64 cannot hold, integers beyond ±(2^53 - 1), lone
    surrogates, anything but UTF-8 without a byte order mark, nesting beyond 32, more than 1 MiB, trailing data.

    Raises:
        CertificateError: with one of the codes ``json-*``.
    """
    if len(data) > MAX_BYTES:
        _refuse(Code.JSON_TOO_LARGE, f"The file has {len(data)} bytes; the limit is {MAX_BYTES}.")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        _refuse(Code.JSON_MALFORMED, f"The file is not UTF-8 (byte {error.start}).")
    _check_depth(text)
    try:
        value = json.loads(
            text,
            object_pairs_hook=_unique_members,
            parse_int=_integer,
            parse_float=_float,
            parse_constant=_constant,
        )
    except json.JSONDecodeError as error:
        _refuse(Code.JSON_MALFORMED, f"The file is not JSON: {error}.")
    try:
        if "\\u" in text:  # nothing else gives half of a pair: the text itself is UTF-8
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        _refuse(Code.JSON_SURROGATE, "A string holds half of a surrogate pair, which is no character.")
    return value


def encode_base64(data: bytes) -> str:
    """Padded standard base64 (RFC 4648 section 4)."""
    return base64.b64encode(data).decode("ascii")


def decode_base64(text: str) -> bytes:
    """The inverse of `encode_base64`, for its outputs only: one text for each byte string.

    Raises:
        ValueError: another alphabet, missing padding, white space, or unused bits that are not zero.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("not base64 of RFC 4648 section 4") from error
    if encode_base64(data) != text:
        raise ValueError("base64, but not in its one canonical form")
    return data


def decode_decimal(text: str) -> int:
    """A non-negative integer below 2^63 in decimal digits without leading zeros.

    Raises:
        ValueError: anything else.
    """
    if not re.fullmatch(r"0|[1-9][0-9]{0,18}", text) or int(text) >= 1 << 63:
        raise ValueError("not a decimal number from 0 to 2^63 - 1 without leading zeros")
    return int(text)


def shown(value: Any) -> str:
    """A received value for an error message: quoted, and cut where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def _check_depth(text: str) -> None:
    # A megabyte of brackets is counted in C: a loop over them here would take a second.
    deepest = max(accumulate(map(_STEPS.__getitem__, _NO_BRACKETS.sub("", text))), default=0)
    if deepest > MAX_DEPTH:
        _refuse(Code.JSON_TOO_DEEP, f"The file nests deeper than {MAX_DEPTH} levels.")


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for key, value in pairs:
        if key in members:
            _refuse(Code.JSON_DUPLICATE_KEY, f"The key {shown(key)} stands twice in one object.")
        members[key] = value
    return members


def _integer(digits: str) -> int:
    if len(digits) > 17 or abs(int(digits)) > MAX_INTEGER:
        _refuse(Code.JSON_NUMBER, f"The integer {digits[:20]} lies beyond 2^53 - 1, where readers disagree.")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        _refuse(Code.JSON_NUMBER, f"The number {digits[:20]} is too large for a float64.")
    return value


def _constant(name: str) -> Never:
    _refuse(Code.JSON_NUMBER, f"{name} is not a JSON number.")


def _refuse(code: Code, message: str) -> Never:
    raise CertificateError(code, message, remedy=_REMEDY)
