"""That a sorted Merkle manifest has no leaf in a range of keys, from the two leaves beside the gap.

The manifest's leaves are sorted by (partition, modality, subject, content). Two leaves that stand next to each other,
one below the range and one above it, leave no room for a third. Whether the rest of the tree is sorted is for those
to check who hold the cohort and can build the manifest again. It knows no statements' rules.
"""

from typing import Never

from certs.absence_statement import ChannelAbsence
from certs.errors import CertificateError, Code
from certs.merkle import EMPTY_ROOT, leaf_hash, verify_inclusion
from certs.statement import AbsenceProof, Manifest, Neighbour


def verify_absence(proof: AbsenceProof | ChannelAbsence, manifest: Manifest) -> None:
    """Refuse unless the manifest has no leaf with the proof's (partition, modality[, subject]).

    Raises:
        CertificateError: ``absence-invalid``.
    """
    prefix: tuple[str, ...] = (proof.partition, proof.modality)
    if proof.subject is not None:
        prefix += (proof.subject,)
    left, right = proof.left, proof.right
    if left is None and right is None:
        if manifest.leaves != 0 or bytes.fromhex(manifest.root) != EMPTY_ROOT:
            _refuse("It names no neighbour, and the manifest is not empty.")
        return
    if (left.index + 1 if left else 0) != (right.index if right else manifest.leaves):
        _refuse("The neighbours are not next to each other, or not at the manifest's end.")
    if left and left.leaf.key[: len(prefix)] >= prefix:
        _refuse("The left neighbour does not lie below the range.")
    if right and right.leaf.key[: len(prefix)] <= prefix:
        _refuse("The right neighbour does not lie above the range.")
    for neighbour in (left, right):
        if neighbour:
            _verify_membership(neighbour, manifest)


def _verify_membership(neighbour: Neighbour, manifest: Manifest) -> None:
    leaf = leaf_hash(neighbour.leaf.canonical())
    path = [bytes.fromhex(digest) for digest in neighbour.path]
    try:
        verify_inclusion(neighbour.index, manifest.leaves, leaf, path, bytes.fromhex(manifest.root))
    except CertificateError as error:
        _refuse(f"A neighbour is not in the manifest: {error.message}")


def _refuse(message: str) -> Never:
    raise CertificateError(
        Code.ABSENCE_INVALID,
        f"The proof that the withdrawn channels are absent does not hold. {message}",
        remedy="do not rely on this certificate; ask the issuer for a correct one",
    )
