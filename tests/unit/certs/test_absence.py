"""Absence proofs: the law over random manifests, and the lies that must not pass."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs.absence import verify_absence
from certs.absence_statement import ChannelAbsence
from certs.errors import CertificateError, Code
from certs.merkle import leaf_hash
from certs.statement import AbsenceProof, Manifest, ManifestLeaf, Neighbour
from mbd import hashing

SUBJECTS = sorted(sha256(b"%d" % n).hexdigest() for n in range(5))
LEAVES = st.builds(
    ManifestLeaf,
    content=st.integers(0, 3).map(lambda n: sha256(b"content %d" % n).hexdigest()),
    modality=st.sampled_from(["text", "audio", "vision"]),
    partition=st.sampled_from(["public", "revocable"]),
    subject=st.sampled_from(SUBJECTS),
)
TREES = st.lists(LEAVES, max_size=24).map(lambda leaves: sorted(leaves, key=lambda leaf: leaf.key))
RANGES = st.tuples(st.sampled_from(["text", "audio", "vision"]), st.none() | st.sampled_from(SUBJECTS))


@given(TREES, RANGES)
def test_a_proof_exists_exactly_when_nothing_is_there(leaves, wanted):
    modality, subject = wanted
    prefix = ("revocable", modality, subject)[: 2 if subject is None else 3]
    present = any(leaf.key[: len(prefix)] == prefix for leaf in leaves)
    manifest = _manifest(leaves)
    holds = [gap for gap in range(len(leaves) + 1) if _holds(_proof(leaves, gap, modality, subject), manifest)]
    expected = [] if present else [sum(leaf.key < prefix for leaf in leaves)]
    assert holds == expected


@given(TREES, RANGES, st.sampled_from(["public", "revocable"]))
def test_a_certificate_of_absence_can_prove_it_in_either_partition(leaves, wanted, partition):
    modality, subject = wanted
    prefix = (partition, modality, subject)[: 2 if subject is None else 3]
    gap = sum(leaf.key < prefix for leaf in leaves)
    proof = ChannelAbsence.model_validate(
        _proof(leaves, gap, modality, subject).model_dump() | {"partition": partition}
    )
    assert _holds(proof, _manifest(leaves)) != any(leaf.key[: len(prefix)] == prefix for leaf in leaves)


@given(TREES.filter(lambda leaves: len(leaves) >= 3), RANGES, st.data())
def test_neighbours_that_are_not_adjacent_prove_nothing(leaves, wanted, data):
    modality, subject = wanted
    left, right = sorted(data.draw(st.lists(st.integers(0, len(leaves) - 1), min_size=2, max_size=2, unique=True)))
    if right == left + 1:
        return
    skipping = _proof(leaves, 0, modality, subject).model_copy(
        update={"left": _neighbour(leaves, left), "right": _neighbour(leaves, right)}
    )
    assert not _holds(skipping, _manifest(leaves))


@given(TREES.filter(bool), RANGES)
def test_missing_neighbours_prove_nothing_about_a_manifest_that_is_not_empty(leaves, wanted):
    modality, subject = wanted
    proof = _proof([], 0, modality, subject)
    assert not _holds(proof, _manifest(leaves))
    assert _holds(proof, _manifest([]))
    assert not _holds(proof, _manifest([]).model_copy(update={"root": "00" * 32}))


def test_a_neighbour_from_another_manifest_is_refused():
    leaves = [ManifestLeaf(content="11" * 32, modality="text", partition="revocable", subject=SUBJECTS[0])]
    others = [ManifestLeaf(content="22" * 32, modality="text", partition="revocable", subject=SUBJECTS[0])]
    proof = _proof(others, 0, "audio", None)
    with pytest.raises(CertificateError) as failure:
        verify_absence(proof, _manifest(leaves))
    assert failure.value.code is Code.ABSENCE_INVALID
    verify_absence(proof, _manifest(others))


def _hashes(leaves):
    return [leaf_hash(leaf.canonical()) for leaf in leaves]


def _manifest(leaves) -> Manifest:
    return Manifest(root=hashing.tree_root(_hashes(leaves)).hex(), leaves=len(leaves), rows=len(leaves))


def _neighbour(leaves, index) -> Neighbour | None:
    if not 0 <= index < len(leaves):
        return None
    path = hashing.inclusion_path(_hashes(leaves), index)
    return Neighbour(index=index, leaf=leaves[index], path=tuple(digest.hex() for digest in path))


def _proof(leaves, gap, modality, subject) -> AbsenceProof:
    return AbsenceProof(
        partition="revocable",
        modality=modality,
        subject=subject,
        left=_neighbour(leaves, gap - 1),
        right=_neighbour(leaves, gap),
    )


def _holds(proof, manifest) -> bool:
    try:
        verify_absence(proof, manifest)
    except CertificateError as error:
        assert error.code is Code.ABSENCE_INVALID
        return False
    return True
