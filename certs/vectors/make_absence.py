"""Makes the golden vectors of absence, once: ``python -m certs.vectors.make_absence``.

Keys, log and model line are those of `certs.vectors.make`: the log goes on where that one ended.
"""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import get_args

from certs import bundle
from certs.absence_statement import (
    ChannelAbsence,
    CheckedDataset,
    LiveVersion,
    ModalityAbsence,
    absence_statement,
)
from certs.commitment import subject_commitment
from certs.payload import to_payload
from certs.statement import Manifest, ManifestLeaf, Modality, Neighbour, Partition, Request, Scope
from certs.vectors import make
from certs.vectors.make import digest_of, path_of, root_of

V1 = Path(__file__).parent / "absence-v1"
OPENINGS = {
    name: sha256(f"golden opening of {name} in the checked manifest".encode()).digest()
    for name in ("Ada", "Ben", "Cy", "Dot", "Pat", "Quin")
}
NAMES = {name: subject_commitment(opening, name) for name, opening in OPENINGS.items()}
"""Pat and Quin are public; Ada, Ben and Cy revocable, of whom Ben has no audio; nobody has Dot."""

Absent = tuple[Partition, Modality, str | None]
"""A partition, a modality, and whose (a commitment; None: everybody's)."""


def person() -> bytes:
    """Everything of somebody whom the cohort does not know."""
    return _payload("subject", get_args(Modality), NAMES["Dot"])


def channel() -> bytes:
    """The voice of somebody whose face and words are there."""
    return _payload("subject-modality", ("audio",), NAMES["Ben"])


def everyone() -> bytes:
    """Vision of everybody, where only public people have any."""
    return _payload("modality", ("vision",), None)


def cohort() -> list[ManifestLeaf]:
    """The leaves of the manifest, sorted."""
    held: list[tuple[Partition, Modality, str]] = [
        *(("public", modality, who) for modality in get_args(Modality) for who in ("Pat", "Quin")),
        *(("revocable", "text", who) for who in ("Ada", "Ben", "Cy")),
        *(("revocable", "audio", who) for who in ("Ada", "Cy")),
    ]
    leaves = [
        ManifestLeaf(content=digest_of(f"{m} of {who}"), modality=m, partition=partition, subject=NAMES[who])
        for partition, m, who in held
    ]
    return sorted(leaves, key=lambda leaf: leaf.key)


def dataset(absent: Sequence[Absent]) -> CheckedDataset:
    """The cohort, and proofs that these are not in it."""
    kept = cohort()
    leaves = [leaf.canonical() for leaf in kept]

    def neighbour(index: int) -> Neighbour | None:
        if not 0 <= index < len(kept):
            return None
        return Neighbour(index=index, leaf=kept[index], path=tuple(h.hex() for h in path_of(index, leaves)))

    def absence(partition: Partition, modality: Modality, who: str | None) -> ChannelAbsence:
        gap = sum(leaf.key < (partition, modality, who or "") for leaf in kept)
        return ChannelAbsence(
            partition=partition, modality=modality, subject=who, left=neighbour(gap - 1), right=neighbour(gap)
        )

    rows = len({leaf.subject for leaf in kept})
    return CheckedDataset(
        manifest=Manifest(root=root_of(leaves).hex(), leaves=len(leaves), rows=rows),
        absence=tuple(absence(*prefix) for prefix in absent),
    )


def _payload(kind: str, modalities: Sequence[Modality], who: str | None) -> bytes:
    partitions: tuple[Partition, ...] = ("public", "revocable") if who else ("revocable",)
    predicate = ModalityAbsence(
        request=Request(
            digest=digest_of(f"request about {kind}"),
            regime="gdpr-art-7-3",
            requested_at=make.REQUESTED_AT,
            scope=Scope.model_validate({"kind": kind, "modalities": tuple(modalities)}),
        ),
        subject_commitments=(who,) if who else (),
        lineage=LiveVersion(model_line="golden", version=3, model_digest=digest_of("model 3")),
        dataset=dataset([(partition, modality, who) for partition in partitions for modality in modalities]),
        not_covered=("other versions of this model line", "rows under another name than exactly the one given"),
        supersedes=None,
        checked_at=make.DELETED_AT,
    )
    return to_payload(absence_statement(make.model(3), predicate))


def logged() -> list[bytes]:
    """What the log had before: the leaves of the vectors of deletions, in its order."""
    entries = [bundle.parse(path.read_bytes()).entry for path in make.V1.glob("*.sigstore.json")]
    return [entry.canonicalized_body for entry in sorted(entries, key=lambda entry: entry.log_index)]


def main() -> None:
    """Write the folder of this version, or refuse because it exists."""
    make.write(V1, {"person": person(), "channel": channel(), "everyone": everyone()}, logged())


if __name__ == "__main__":
    main()
