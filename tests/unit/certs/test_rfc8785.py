"""Canonical JSON as RFC 8785 prints it: the examples of section 3.2 and the numbers of appendix B."""

import struct

import pytest

from certs.encoding import canonical_json, parse_json
from certs.errors import CertificateError, Code

SAMPLE = rb"""{
  "numbers": [333333333.33333329, 1E30, 4.50,
              2e-3, 0.000000000000000000000000001],
  "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
  "literals": [null, true, false]
}"""
"""Section 3.2.2; the reader has to take the numbers as float64."""

SAMPLE_BYTES = bytes.fromhex(
    """
    7b 22 6c 69 74 65 72 61 6c 73 22 3a 5b 6e 75 6c 6c 2c 74 72
    75 65 2c 66 61 6c 73 65 5d 2c 22 6e 75 6d 62 65 72 73 22 3a
    5b 33 33 33 33 33 33 33 33 33 2e 33 33 33 33 33 33 33 2c 31
    65 2b 33 30 2c 34 2e 35 2c 30 2e 30 30 32 2c 31 65 2d 32 37
    5d 2c 22 73 74 72 69 6e 67 22 3a 22 e2 82 ac 24 5c 75 30 30
    30 66 5c 6e 41 27 42 5c 22 5c 5c 5c 5c 5c 22 2f 22 7d
    """
)
"""Section 3.2.4."""

SORTING = rb"""{
  "\u20ac": "Euro Sign",
  "\r": "Carriage Return",
  "\ufb33": "Hebrew Letter Dalet With Dagesh",
  "1": "One",
  "\ud83d\ude00": "Emoji: Grinning Face",
  "\u0080": "Control",
  "\u00f6": "Latin Small Letter O With Diaeresis"
}"""
"""Section 3.2.3: by UTF-16 code units, which puts the emoji before the Hebrew letter."""

NUMBERS = [
    ("0000000000000000", "0"),
    ("8000000000000000", "0"),
    ("0000000000000001", "5e-324"),
    ("8000000000000001", "-5e-324"),
    ("7fefffffffffffff", "1.7976931348623157e+308"),
    ("ffefffffffffffff", "-1.7976931348623157e+308"),
    ("4340000000000000", "9007199254740992"),
    ("c340000000000000", "-9007199254740992"),
    ("4430000000000000", "295147905179352830000"),
    ("44b52d02c7e14af5", "9.999999999999997e+22"),
    ("44b52d02c7e14af6", "1e+23"),
    ("44b52d02c7e14af7", "1.0000000000000001e+23"),
    ("444b1ae4d6e2ef4e", "999999999999999700000"),
    ("444b1ae4d6e2ef4f", "999999999999999900000"),
    ("444b1ae4d6e2ef50", "1e+21"),
    ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
    ("3eb0c6f7a0b5ed8d", "0.000001"),
    ("41b3de4355555553", "333333333.3333332"),
    ("41b3de4355555554", "333333333.33333325"),
    ("41b3de4355555555", "333333333.3333333"),
    ("41b3de4355555556", "333333333.3333334"),
    ("41b3de4355555557", "333333333.33333343"),
    ("becbf647612f3696", "-0.0000033333333333333333"),
    ("43143ff3c1cb0959", "1424953923781206.2"),
]
"""Appendix B: the bits of a float64, and its text."""


def test_the_sample_has_the_published_bytes():
    assert canonical_json(parse_json(SAMPLE)) == SAMPLE_BYTES


def test_members_are_sorted_by_utf_16():
    names = list(parse_json(canonical_json(parse_json(SORTING))).values())
    assert names == [
        "Carriage Return",
        "One",
        "Control",
        "Latin Small Letter O With Diaeresis",
        "Euro Sign",
        "Emoji: Grinning Face",
        "Hebrew Letter Dalet With Dagesh",
    ]


@pytest.mark.parametrize(("bits", "text"), NUMBERS)
def test_a_number_is_written_as_ecmascript_does(bits, text):
    assert canonical_json(_float(bits)) == text.encode()


@pytest.mark.parametrize(("bits", "text"), NUMBERS)
def test_a_written_number_is_read_as_the_same_or_refused_as_a_large_integer(bits, text):
    """Appendix B writes integers beyond 2^53 - 1 without an exponent; there readers disagree, and ours refuses them."""
    digits = text.lstrip("-")
    if digits.isdigit() and int(digits) >= 1 << 53:
        with pytest.raises(CertificateError) as failure:
            parse_json(text.encode())
        assert failure.value.code is Code.JSON_NUMBER
    else:
        assert parse_json(text.encode()) == _float(bits)


@pytest.mark.parametrize("bits", ["7fffffffffffffff", "7ff0000000000000", "fff0000000000000"])
def test_no_number_is_not_written(bits):
    with pytest.raises(ValueError, match="not representable"):
        canonical_json(_float(bits))


def _float(bits: str) -> float:
    return struct.unpack(">d", bytes.fromhex(bits))[0]
