"""Commitments to people: the formula of SPEC.md, the manifest's own names, and one opening for each."""

import hmac

import pytest

from certs.commitment import Opening, read_opening, subject_commitment
from certs.errors import CertificateError, Code
from mbd.cohort.manifest import build_manifest

OPENING = bytes(range(32))


def test_a_commitment_is_the_formula_of_the_specification():
    expected = hmac.new(OPENING, b"mbd manifest subject v2\0" + "Zoë".encode(), "sha256").hexdigest()
    assert subject_commitment(OPENING, "Zoë") == expected
    assert subject_commitment(OPENING, "p1") == "a266d18c3d55b52e8d1776b51f7d2200c39b1a84dbc90448ce29de2b1a338fa4"


def test_another_name_or_opening_gives_another_commitment():
    pairs = [(OPENING, "p1"), (OPENING, "p2"), (OPENING, "p1\0"), (OPENING, ""), (bytes(32), "p1")]
    assert len({subject_commitment(*pair) for pair in pairs}) == len(pairs)


@pytest.mark.parametrize("opening", [b"", OPENING[:-1], OPENING + b"\0", OPENING * 2])
def test_an_opening_has_32_bytes_so_that_padding_opens_nothing(opening):
    """HMAC pads keys with zeros: the key of 31 bytes and the one of 32 with a last zero byte are the same key."""
    with pytest.raises(CertificateError) as failure:
        subject_commitment(opening, "p1")
    assert failure.value.code is Code.OPENING_MISMATCH


def test_the_manifests_own_names_are_these_commitments(random_cohort):
    """The proving side has the formula in code of its own; an opening is of one person in one manifest."""
    cohort = random_cohort(1)
    manifest, other = build_manifest(cohort, bytes(32)), build_manifest(cohort, OPENING)
    names = {leaf.subject for leaf in manifest.leaves}
    assert {subject_commitment(manifest.opening(subject), subject) for subject in cohort.subjects} == names
    for subject in cohort.subjects:
        assert subject_commitment(manifest.opening(subject), subject) == manifest.commitment(subject)
        assert subject_commitment(other.opening(subject), subject) not in names


def test_what_a_person_is_given_is_read_back():
    given = Opening(opening=OPENING.hex(), subject="Zoë")
    assert given.canonical() == f'{{"opening":"{OPENING.hex()}","subject":"Zoë"}}'.encode()
    assert read_opening(given.canonical() + b"\n") == given
    assert given.key == OPENING


@pytest.mark.parametrize(
    ("file", "code"),
    [
        (b"", Code.JSON_MALFORMED),
        (b'{"opening":"00","subject":"p1"}', Code.OPENING_MISMATCH),
        (b'{"opening":"%s","subject":""}' % OPENING.hex().encode(), Code.OPENING_MISMATCH),
        (b'{"opening":"%s","subject":"p1","more":1}' % OPENING.hex().encode(), Code.OPENING_MISMATCH),
        (b'{"opening":"%s","opening":"","subject":"p1"}' % OPENING.hex().encode(), Code.JSON_DUPLICATE_KEY),
    ],
)
def test_what_is_no_opening_file_is_refused(file, code):
    with pytest.raises(CertificateError) as failure:
        read_opening(file)
    assert failure.value.code is code
