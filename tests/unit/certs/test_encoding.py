"""Strict JSON and base64: what two readers could read differently is refused."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs.encoding import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_INTEGER,
    canonical_json,
    decode_base64,
    decode_decimal,
    encode_base64,
    parse_json,
)
from certs.errors import CertificateError, Code

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-MAX_INTEGER, MAX_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False, min_value=-1e15, max_value=1e15)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_written_canonically_is_read_as_the_same_value(value):
    assert parse_json(canonical_json(value)) == value


@given(VALUES)
def test_the_strict_reader_agrees_with_the_lenient_one_on_what_it_accepts(value):
    text = json.dumps(value)
    assert parse_json(text.encode()) == json.loads(text)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b'{"a":1,"a":1}', Code.JSON_DUPLICATE_KEY),
        (b'{"a":{"b":1,"\\u0062":2}}', Code.JSON_DUPLICATE_KEY),
        (b"NaN", Code.JSON_NUMBER),
        (b"[Infinity]", Code.JSON_NUMBER),
        (b"[-Infinity]", Code.JSON_NUMBER),
        (b"1e999", Code.JSON_NUMBER),
        (b"9007199254740992", Code.JSON_NUMBER),
        (b"-9007199254740992", Code.JSON_NUMBER),
        (b"1" * 5000, Code.JSON_NUMBER),
        (b'"\\ud800"', Code.JSON_SURROGATE),
        (b'{"\\udc00":1}', Code.JSON_SURROGATE),
        (b"\xef\xbb\xbf{}", Code.JSON_MALFORMED),
        (b"\xff", Code.JSON_MALFORMED),
        (b"\xed\xa0\x80", Code.JSON_MALFORMED),
        (b"{}{}", Code.JSON_MALFORMED),
        (b"{} x", Code.JSON_MALFORMED),
        (b"", Code.JSON_MALFORMED),
        (b"{'a':1}", Code.JSON_MALFORMED),
        (b"[1,]", Code.JSON_MALFORMED),
        (b"01", Code.JSON_MALFORMED),
        (b'"\t"', Code.JSON_MALFORMED),
        (b'"unterminated', Code.JSON_MALFORMED),
        (b"/**/1", Code.JSON_MALFORMED),
        (b"\xa01", Code.JSON_MALFORMED),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), Code.JSON_TOO_DEEP),
        (b"[" * 100_000, Code.JSON_TOO_DEEP),
        (b" " * (MAX_BYTES + 1), Code.JSON_TOO_LARGE),
    ],
)
def test_ambiguous_json_is_refused(text, code):
    with pytest.raises(CertificateError) as failure:
        parse_json(text)
    assert failure.value.code is code


def test_the_limits_themselves_are_allowed():
    deep = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    assert parse_json(deep) == json.loads(deep)
    assert parse_json(b'"' + b"[" * 100 + b'"') == "[" * 100
    assert parse_json(b'"\\"[[[["') == '"[[[['
    assert parse_json(str(MAX_INTEGER).encode()) == MAX_INTEGER
    assert parse_json(b" " * (MAX_BYTES - 1) + b"1") == 1


def test_a_megabyte_of_escaped_quotes_is_scanned_once():
    """The depth check walks the text once; a backtracking one would need hours for this."""
    with pytest.raises(CertificateError) as failure:
        parse_json(b'"' + b'\\"' * (MAX_BYTES // 2 - 1))
    assert failure.value.code is Code.JSON_MALFORMED


@given(st.binary(max_size=100))
def test_base64_has_one_text_for_each_byte_string(data):
    text = encode_base64(data)
    assert text == base64.b64encode(data).decode()
    assert decode_base64(text) == data


@pytest.mark.parametrize(
    "text", ["A", "AA", "AA=", "AB==", "AAA", "AAB=", "AA==\n", " AA==", "A-_=", "AAAA====", "é==="]
)
def test_other_base64_is_refused(text):
    with pytest.raises(ValueError, match="base64"):
        decode_base64(text)


@given(st.integers(0, (1 << 63) - 1))
def test_decimals_round_trip(number):
    assert decode_decimal(str(number)) == number


@pytest.mark.parametrize("text", ["", "00", "01", "-1", "+1", "1 ", "1\n", "1e3", "0x1", "٣", str(1 << 63), "9" * 30])
def test_other_decimals_are_refused(text):
    with pytest.raises(ValueError, match="decimal"):
        decode_decimal(text)
