"""The C2SP text proof."""

import pytest

from certs import bundle, proof
from certs.errors import CertificateError, Code
from certs.note import NoteKey


@pytest.fixture
def text(golden):
    return golden("exact.tlog-proof").decode()


@pytest.fixture
def leaf(golden):
    return bundle.parse(golden("exact.sigstore.json")).entry.canonicalized_body


@pytest.fixture
def key(golden):
    return NoteKey.from_vkey(golden("log.vkey").decode().strip())


def test_a_proof_reads_as_it_was_written(text):
    assert text.startswith("c2sp.org/tlog-proof@v1\nindex 2\n")
    assert proof.parse(text).text == text


def test_a_proof_is_of_one_leaf(text, leaf, key):
    proof.verify(proof.parse(text), leaf, [key])
    with pytest.raises(CertificateError) as failure:
        proof.verify(proof.parse(text), leaf + b" ", [key])
    assert failure.value.code is Code.INCLUSION_INVALID


def test_every_changed_character_is_noticed(text, leaf, key):
    for position in range(len(text)):
        changed = text[:position] + chr(ord(text[position]) ^ 1) + text[position + 1 :]
        with pytest.raises(CertificateError):
            proof.verify(proof.parse(changed), leaf, [key])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("@v1", "@v2"),
        ("index 2", "index 02"),
        ("index 2", "index -2"),
        ("index 2", "index  2"),
        ("index 2", "extra AAAA\nindex 2"),
        ("index 2\n", ""),
        ("=\n", "\n"),
        ("=\n", "=\r\n"),
        ("index 2\n", "index 2\nAAAA\n"),
        ("index 2\n", "index 2\n" + ("A" * 43 + "=\n") * 64),
        ("\n\n", "\n"),
    ],
)
def test_a_malformed_proof_is_refused(old, new, text):
    assert old in text
    with pytest.raises(CertificateError) as failure:
        proof.parse(text.split("\n\n")[0].replace(old, new, 1) if old == "\n\n" else text.replace(old, new, 1))
    assert failure.value.code is Code.PROOF_MALFORMED
