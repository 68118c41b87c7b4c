"""Makes the golden vectors of deletions, once: ``python -m certs.vectors.make``. It refuses to do it twice.

The keys are derived from public labels, so that anyone can make further vectors: never trust them for anything else.
It holds the smallest possible log (the recursive definition of RFC 6962), independent of the product's.
"""

import sys
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import get_args

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from certs import bundle, checkpoint, dsse, entry, proof, trusted_root
from certs.checkpoint import Checkpoint
from certs.commitment import subject_commitment
from certs.keys import EcdsaP256Signer, Ed25519Signer, PublicKey
from certs.merkle import EMPTY_ROOT, leaf_hash, node_hash
from certs.note import NoteKey
from certs.payload import to_payload
from certs.statement import (
    AbsenceProof,
    Artifact,
    AttackReport,
    Certified,
    CurvePoint,
    Dataset,
    Departed,
    DigestSet,
    Empirical,
    Exact,
    FineTuning,
    Guarantee,
    Head,
    Lineage,
    Manifest,
    ManifestLeaf,
    Measurement,
    Modality,
    ModalityDeletion,
    Neighbour,
    NoiseCommitment,
    NoiseSource,
    Procedure,
    Request,
    Scope,
    Statistics,
    Tower,
    UpdatedHead,
    commitment_statement,
    deletion_statement,
)
from certs.trusted_root import TrustedLog, TrustedSigner, ValidFor

V1 = Path(__file__).parent / "v1"
ORIGIN = "vectors.missing-by-design.dev/log"
VALID_FROM = datetime(2026, 1, 1, tzinfo=UTC)
REQUESTED_AT = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
DELETED_AT = datetime(2026, 3, 2, 9, 30, 7, tzinfo=UTC)
NOISE_ALGORITHM = "chacha20-hkdf-sha256, Gaussian by inverse transform in float64"
OPENINGS = {name: sha256(f"golden opening of {name}".encode()).digest() for name in ("Ada", "Ben", "Cy")}
"""The three people of the cohort, and what would let each of them find themselves in a certificate."""

PEOPLE = sorted(subject_commitment(opening, name) for name, opening in OPENINGS.items())

certificate_signer = EcdsaP256Signer(
    derive_private_key(int.from_bytes(sha256(b"golden certificate key v1").digest()), SECP256R1())
)
log_signer = Ed25519Signer(Ed25519PrivateKey.from_private_bytes(sha256(b"golden log key v1").digest()))
certificate_key = PublicKey.from_spki(certificate_signer.public_key)
log_key = NoteKey(ORIGIN, PublicKey.from_spki(log_signer.public_key))


def digest_of(label: str) -> str:
    """A digest that stands for something that does not exist."""
    return sha256(f"golden {label}".encode()).hexdigest()


def root_of(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962 section 2.1, word by word."""
    if len(leaves) <= 1:
        return leaf_hash(leaves[0]) if leaves else EMPTY_ROOT
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return node_hash(root_of(leaves[:split]), root_of(leaves[split:]))


def path_of(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """RFC 6962 section 2.1.1, word by word."""
    if len(leaves) <= 1:
        return []
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    if index < split:
        return [*path_of(index, leaves[:split]), root_of(leaves[split:])]
    return [*path_of(index - split, leaves[split:]), root_of(leaves[:split])]


def issue(payloads: Sequence[bytes], logged: Sequence[bytes] = ()) -> list[bytes]:
    """Sign statements, log them in this order after what is logged, and return their bundles under one checkpoint."""
    envelopes = [dsse.sign(payload, certificate_signer) for payload in payloads]
    leaves = [*logged, *(entry.leaf(envelope, certificate_key) for envelope in envelopes)]
    note = checkpoint.sign(Checkpoint(ORIGIN, len(leaves), root_of(leaves)), [log_signer], at=DELETED_AT)
    return [
        bundle.build(
            envelope,
            certificate_key,
            log_id=log_key.log_id,
            index=index,
            tree_size=len(leaves),
            path=path_of(index, leaves),
            body=leaves[index],
            checkpoint=note,
        ).canonical()
        for index, envelope in enumerate(envelopes, start=len(logged))
    ]


def root_file() -> bytes:
    """The trusted root of the vectors."""
    window = ValidFor(start=VALID_FROM)
    return trusted_root.build_trusted_root([TrustedLog(log_key, window)], [TrustedSigner(certificate_key, window)])


def noise_commitment() -> bytes:
    """The payload of the commitment that the other vectors name."""
    predicate = NoiseCommitment(
        commitment=digest_of("noise secret"),
        algorithm=NOISE_ALGORITHM,
        created_at=datetime(2026, 1, 2, 8, 0, tzinfo=UTC),
    )
    return to_payload(commitment_statement(predicate))


def certified() -> bytes:
    """One person's audio, by a Newton step on the four heads that use audio."""
    guarantee = Certified(
        mu=0.016,
        departed=(),
        curve=(CurvePoint(epsilon=0.1, delta=1e-9), CurvePoint(epsilon=0.05, delta=1e-4)),
        mu_series=(0.012, 0.016),
        mu_total=0.02,
        total_curve=(CurvePoint(epsilon=0.1, delta=1e-8),),
        assumptions=("the noise secret is unknown to the adversary",),
    )
    return _payload(
        "lattice-newton", PEOPLE[1], guarantee, updated=("a", "ta", "av", "tav"), unchanged=("t", "v", "tv")
    )


def exact() -> bytes:
    """Audio of everybody, by dropping the heads that use it."""
    guarantee = Exact(equalities=("the remaining heads equal, bit for bit, heads that never saw audio",))
    return _payload("lattice-drop", None, guarantee, unchanged=("t", "v", "tv"), dropped=("a", "ta", "av", "tav"))


def empirical() -> bytes:
    """One person's audio once more, with nothing claimed but an attack's outcome."""
    measurement = Measurement(attack="membership", statistic="auc", low=0.47, high=0.53)
    guarantee = Empirical(report=AttackReport(measurements=(measurement,)))
    return _payload("lattice-refit", PEOPLE[1], guarantee, updated=("a", "ta", "av", "tav"), unchanged=("t", "v", "tv"))


def towers() -> bytes:
    """One person's audio: the shard's tower goes; the private one stays, and its account counts the person."""
    run = {"rate": 0.05, "noise_multiplier": 8.0, "steps": 100}
    guarantee = Certified(
        mu=0.0,
        departed=(Departed.model_validate({"tower": "a.private", **run, "subjects": 1, "accountant": "golden"}),),
        curve=(CurvePoint(epsilon=0.341, delta=1e-9),),
        mu_series=(0.0,),
        mu_total=0.0,
        total_curve=(CurvePoint(epsilon=0.341, delta=1e-9),),
        assumptions=("the noise secret is unknown to the adversary",),
    )
    return _payload(
        "tower-drop",
        PEOPLE[1],
        guarantee,
        updated=("a", "ta", "av", "tav"),
        unchanged=("t", "v", "tv"),
        towers=(
            Tower(name="a.private", provenance="private", action="kept"),
            Tower(name="a.shard0", provenance="sharded", action="dropped"),
            Tower(name="a.shard1", provenance="sharded", action="kept"),
        ),
    )


def fine_tuned() -> bytes:
    """One person's audio, drowned in the noise of a backbone that everybody's rows shaped."""
    tuning = FineTuning(
        start_bound=0.05, gradient_bound=1.0, rate=0.001, steps=4, coordinates=10_000, sigma=0.06, mu=0.91
    )
    guarantee = Certified(
        mu=0.91,
        departed=(),
        curve=(CurvePoint(epsilon=6.0, delta=1e-9),),
        mu_series=(0.91,),
        mu_total=0.91,
        total_curve=(CurvePoint(epsilon=6.0, delta=1e-9),),
        assumptions=("only the last iterate left the process",),
    )
    return _payload("noisy-fine-tuning", PEOPLE[1], guarantee, updated=get_args(Head), fine_tuning=tuning)


def _payload(
    mechanism: str,
    person: str | None,
    guarantee: Guarantee,
    *,
    updated: Sequence[Head] = (),
    unchanged: Sequence[Head] = (),
    dropped: Sequence[Head] = (),
    towers: Sequence[Tower] = (),
    fine_tuning: FineTuning | None = None,
) -> bytes:
    entangled = fine_tuning is not None
    kept = [tower.name for tower in towers if tower.action == "kept"]
    predicate = ModalityDeletion(
        request=Request(
            digest=digest_of("request"),
            regime="gdpr-art-7-3",
            requested_at=REQUESTED_AT,
            scope=Scope(kind="subject-modality" if person else "modality", modalities=("audio",)),
        ),
        subject_commitments=(person,) if person else (),
        lineage=Lineage(
            model_line="golden",
            version=3,
            parent_version=2,
            model_digest=digest_of("model 3"),
            parent_digest=digest_of("model 2"),
            backbone_digest=digest_of("backbone 3" if entangled else "backbone"),
            backbone_provenance="entangled" if entangled else "public",
            transcript_digest=digest_of("transcript"),
        ),
        before=model(2, [tower.name for tower in towers], entangled=entangled),
        dataset=dataset([(person, "audio")]),
        statistics=Statistics(
            digest_before=digest_of("statistics 2"),
            digest_after=digest_of("statistics 3"),
            feature_bits=11,
            label_bits=10,
            label_limit=3072,
            rows_after=3,
            untouched=(),
            bound="2^53",
        ),
        procedure=_procedure(mechanism, updated, unchanged, dropped).model_copy(
            update={"towers": tuple(towers), "fine_tuning": fine_tuning}
        ),
        guarantee=guarantee,
        not_covered=("copies of earlier releases that someone kept", "predictions already served"),
        audit=None,
        supersedes=None,
        deleted_at=DELETED_AT,
    )
    return to_payload(deletion_statement(model(3, kept, entangled=entangled), predicate))


def _procedure(
    mechanism: str, updated: Sequence[Head], unchanged: Sequence[Head], dropped: Sequence[Head]
) -> Procedure:
    heads = tuple(UpdatedHead(head=head, coordinates=64, sensitivity=2e-6, sigma=2.5e-4, mu=0.008) for head in updated)
    noise = NoiseSource(algorithm=NOISE_ALGORITHM, commitment=digest_of("noise secret"), log_index=0)
    return Procedure.model_validate(
        {
            "mechanism": mechanism,
            "version": "1",
            "source_digest": digest_of("source"),
            "environment_digest": digest_of("environment"),
            "recipe_digest": digest_of("recipe"),
            "tau": 1e-6,
            "lambda_min": 1.0,
            "loss": "squared",
            "updated": heads,
            "unchanged": unchanged,
            "dropped": dropped,
            "towers": (),
            "fine_tuning": None,
            "noise": noise if updated else None,
        }
    )


def dataset(gone: Collection[tuple[str | None, Modality]]) -> Dataset:
    """The cohort of three people with three channels each, without these; None: nobody has it any more."""
    kept = [
        ManifestLeaf(
            content=digest_of(f"{modality} of {person}"), modality=modality, partition="revocable", subject=person
        )
        for person in PEOPLE
        for modality in get_args(Modality)
        if not {(person, modality), (None, modality)} & set(gone)
    ]
    kept.sort(key=lambda leaf: leaf.key)
    leaves = [leaf.canonical() for leaf in kept]

    def neighbour(index: int) -> Neighbour | None:
        if not 0 <= index < len(kept):
            return None
        return Neighbour(index=index, leaf=kept[index], path=tuple(h.hex() for h in path_of(index, leaves)))

    def absence(person: str | None, modality: Modality) -> AbsenceProof:
        gap = sum(leaf.key < ("revocable", modality, person or "") for leaf in kept)
        return AbsenceProof(
            partition="revocable",
            modality=modality,
            subject=person,
            left=neighbour(gap - 1),
            right=neighbour(gap),
        )

    return Dataset(
        manifest_before=Manifest(root=digest_of("manifest before"), leaves=9, rows=3),
        manifest_after=Manifest(
            root=root_of(leaves).hex(), leaves=len(leaves), rows=len({leaf.subject for leaf in kept})
        ),
        absence=tuple(absence(person, modality) for person, modality in gone),
    )


def model(version: int, towers: Sequence[str] = (), *, entangled: bool = False) -> tuple[Artifact, ...]:
    """The files of a version of the golden model line."""
    files = {
        "model.json": f"model {version}",
        "heads.safetensors": f"heads {version}",
        "backbone.safetensors": f"backbone {version}" if entangled else "backbone",
        **{f"tower-{name}.safetensors": f"tower {name} {version}" for name in towers},
    }
    return tuple(Artifact(name=name, digest=DigestSet(sha256=digest_of(label))) for name, label in files.items())


def write(folder: Path, payloads: Mapping[str, bytes], logged: Sequence[bytes] = ()) -> None:
    """Issue statements, in this order after what is logged, and write the folder; refuse where it exists."""
    if folder.exists():
        sys.exit(f"{folder} exists: golden vectors are never made again. A new version of the formats is a new folder.")
    bundles = issue(list(payloads.values()), logged)
    folder.mkdir()
    (folder / "trusted_root.json").write_bytes(root_file())
    (folder / "log.vkey").write_text(log_key.vkey + "\n")
    (folder / "certificate-key.pem").write_bytes(certificate_key.pem)
    for (name, payload), data in zip(payloads.items(), bundles, strict=True):
        log_entry = bundle.parse(data).entry
        inclusion = log_entry.inclusion_proof
        text = proof.TlogProof(inclusion.log_index, inclusion.hashes, inclusion.checkpoint.envelope).text
        (folder / f"{name}.sigstore.json").write_bytes(data)
        (folder / f"{name}.statement.json").write_bytes(payload)
        (folder / f"{name}.tlog-proof").write_text(text, encoding="utf-8")
        (folder / "checkpoint").write_text(inclusion.checkpoint.envelope, encoding="utf-8")


def main() -> None:
    """Write the folder of this version, or refuse because it exists."""
    write(
        V1,
        {
            "noise-commitment": noise_commitment(),
            "certified": certified(),
            "exact": exact(),
            "empirical": empirical(),
            "towers": towers(),
            "fine-tuned": fine_tuned(),
        },
    )


if __name__ == "__main__":
    main()
