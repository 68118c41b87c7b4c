"""What is signed: in-toto Statements v1 of a deletion and of a noise commitment, as frozen wire types.

The types are append-only: a field once signed keeps its name and meaning for ever, and a change of meaning is a new
predicate type. They say what a well-formed statement looks like; `certs.rules` says which of them are consistent.
`certs.absence_statement` has the third kind, `certs.payload` the list of all.
"""

from collections.abc import Sequence
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Field

from certs.encoding import MAX_INTEGER
from certs.wire import Count, Digest, Finite, NonNegative, Positive, Slug, Text, Timestamp, Wire

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
MODALITY_DELETION: Final = "https://missing-by-design.dev/modality-deletion/v1"
NOISE_COMMITMENT: Final = "https://missing-by-design.dev/noise-commitment/v1"

Modality: TypeAlias = Literal["text", "audio", "vision"]
Head: TypeAlias = Literal["t", "a", "v", "ta", "tv", "av", "tav"]
Partition: TypeAlias = Literal["public", "revocable"]
Mechanism: TypeAlias = Literal[
    "lattice-newton", "lattice-refit", "lattice-drop", "tower-drop", "retrain", "noisy-fine-tuning", "surgical"
]


class DigestSet(Wire):
    """In-toto's digest set, with the one algorithm that we use."""

    sha256: Digest


class Artifact(Wire):
    """A file of a model version."""

    name: Slug
    digest: DigestSet


class Scope(Wire):
    """What was withdrawn, without saying by whom.

    ``subject-modality``: one person, one modality. ``subject``: one person, everything; ``modalities`` are those that
    were there, and all three are proven absent. ``modality``: one modality, everybody. ``several``: anything else.
    """

    kind: Literal["subject-modality", "modality", "subject", "several"]
    modalities: Annotated[tuple[Modality, ...], Field(min_length=1)]


class Request(Wire):
    """The request: its digest (over a text with a random nonce), the legal regime, when it came and what it covers."""

    digest: Digest
    regime: Slug
    requested_at: Timestamp
    scope: Scope


class Lineage(Wire):
    """Which model version this is, and from which it came.

    ``model_digest`` and ``parent_digest`` are those of the two versions' manifests, files that name all other files;
    the first stands in ``subject``, the second in ``before``. A ``public`` backbone was made from public rows alone, so
    that it does not change: ``backbone_digest`` stands in both. An ``entangled`` one was shaped by everybody's rows:
    ``backbone_digest`` is the after-model's, over weights and random bytes, and stands in ``subject`` alone.
    """

    model_line: Slug
    version: Count
    parent_version: Count
    model_digest: Digest
    parent_digest: Digest
    backbone_digest: Digest
    backbone_provenance: Literal["public", "entangled"]
    transcript_digest: Digest


class Manifest(Wire):
    """The Merkle tree (RFC 6962) over the cohort's channels, sorted by key, and the number of its rows."""

    root: Digest
    leaves: Count
    rows: Count


class ManifestLeaf(Wire):
    """One channel of one clip. Its RFC 8785 bytes are the leaf."""

    content: Digest
    modality: Modality
    partition: Partition
    subject: Digest

    @property
    def key(self) -> tuple[str, str, str, str]:
        """The key that the tree is sorted by; all parts are ASCII, so that comparing text compares bytes."""
        return self.partition, self.modality, self.subject, self.content


class Neighbour(Wire):
    """A leaf beside a gap, with its place and its audit path."""

    index: Count
    leaf: ManifestLeaf
    path: Annotated[tuple[Digest, ...], Field(max_length=63)]


class AbsenceProof(Wire):
    """That no leaf of the after-manifest has this key prefix: its neighbours are adjacent.

    ``subject`` is a person's commitment, the name by which the after-manifest would call them; null: nobody has it.
    """

    partition: Literal["revocable"]
    modality: Modality
    subject: Digest | None
    left: Neighbour | None
    right: Neighbour | None


class Dataset(Wire):
    """The cohort before and after, and proofs that no revocable row of the manifest after has what was withdrawn."""

    manifest_before: Manifest
    manifest_after: Manifest
    absence: Annotated[tuple[AbsenceProof, ...], Field(min_length=1)]


class Statistics(Wire):
    """Salted commitments to the exact integer statistics (G, c), and the arithmetic that makes them exact.

    Each digest covers the statistics and 32 random bytes, which are kept with them and destroyed with them: without
    this salt, whoever knows all other rows could test guesses of a withdrawn voice against ``digest_before``. Each
    version has its own, so that the digests differ even where the statistics do not.

    ``label_limit``: the largest absolute label times 2^label_bits; with it, no partial sum over ``rows_after`` rows
    reaches 2^53. ``untouched``: those modalities proven absent of which no training row held a withdrawn channel (say,
    because the person is in no training row, or never had it), so that the statistics never depended on it.
    """

    digest_before: Digest
    digest_after: Digest
    feature_bits: Annotated[int, Field(ge=1, le=26)]
    label_bits: Annotated[int, Field(ge=0, le=26)]
    label_limit: Annotated[int, Field(ge=1, le=MAX_INTEGER)]
    rows_after: Count
    untouched: tuple[Modality, ...]
    bound: Literal["2^53"]


class UpdatedHead(Wire):
    """A head that was solved anew and released with Gaussian noise over all its coordinates.

    Public constants only. What the solver measured (residuals, iterations) depends on the data and is not covered by
    the noise, so it has no place here.
    """

    head: Head
    coordinates: Annotated[int, Field(ge=1, le=MAX_INTEGER)]
    sensitivity: Positive
    sigma: Positive
    mu: Positive


class NoiseSource(Wire):
    """How the noise was drawn, and the logged commitment to its secret (the log index of that statement)."""

    algorithm: Text
    commitment: Digest
    log_index: Count


class Tower(Wire):
    """A network of one modality, trained on revocable rows, and what became of it.

    ``sharded``: by one shard of the people. ``private``: by all of them, with differential privacy for each person.
    ``tower-<name>.safetensors`` is among the files of the models that have it.
    """

    name: Annotated[str, Field(pattern=r"^[tav]\.(shard[0-9]{1,6}|private)$")]
    provenance: Literal["sharded", "private"]
    action: Literal["kept", "dropped"]


class FineTuning(Wire):
    """The account of noisy fine-tuning (SPEC.md, "Noisy fine-tuning"): mu follows from the other numbers.

    The weights were clipped to distance ``start_bound`` from a public centre; each of ``steps`` steps moved them by
    ``rate`` times a gradient clipped to ``gradient_bound``, and added a Gaussian of scale ``sigma`` to each of
    ``coordinates`` numbers.
    """

    start_bound: Positive
    gradient_bound: Positive
    rate: Positive
    steps: Annotated[int, Field(ge=1, le=100_000)]
    coordinates: Annotated[int, Field(ge=1, le=MAX_INTEGER)]
    sigma: Positive
    mu: Positive


class Procedure(Wire):
    """What was run, with which constants, and what became of each head.

    ``lattice-newton``, ``lattice-refit``, ``lattice-drop`` and ``tower-drop`` leave the backbone as it is and say how
    heads were released; the last of them dropped towers, and solved the heads that used them from nothing. ``retrain``,
    ``noisy-fine-tuning`` and ``surgical`` are what was done to an entangled backbone; statistics and heads were then
    made from the start.

    ``tau`` says that the residual of every solved head was at most tau before the noise; ``lambda_min`` is the
    smallest regularisation: the sensitivity is 2 tau / lambda_min. ``updated``, ``unchanged`` and ``dropped`` are all
    heads of the model before, ``updated`` and ``unchanged`` all heads of the model after. ``loss``: what heads
    minimise; cross-entropy heads are functions of the rows, which the statistics do not determine.
    """

    mechanism: Mechanism
    version: Slug
    source_digest: Digest
    environment_digest: Digest
    recipe_digest: Digest
    tau: Positive
    lambda_min: Positive
    loss: Literal["squared", "cross-entropy"]
    updated: tuple[UpdatedHead, ...]
    unchanged: tuple[Head, ...]
    dropped: tuple[Head, ...]
    towers: tuple[Tower, ...]
    fine_tuning: FineTuning | None
    noise: NoiseSource | None


class CurvePoint(Wire):
    """One (epsilon, delta) that the released parameters satisfy."""

    epsilon: Positive
    delta: Annotated[float, Field(gt=0, lt=1)]


class Measurement(Wire):
    """An attack's outcome with its confidence interval. ``mu`` is an audit's estimate, in units of Gaussian privacy."""

    attack: Slug
    statistic: Literal["mu", "auc", "advantage", "tpr-at-fpr-0.01", "mean-squared-error"]
    low: Finite
    high: Finite


class Exact(Wire):
    """What equals what.

    Every released tensor is a function of what remains and of public constants and independent noise with the
    comparator's distribution, or never depended on the revoked channels.
    """

    class_: Literal["exact"] = Field(default="exact", alias="class")
    equalities: Annotated[tuple[Text, ...], Field(min_length=1)]


class Departed(Wire):
    """A private tower that people have left: its run, and how many of them. ``accountant`` bounds its epsilon.

    One step of the run adds N(0, (noise_multiplier C)^2) to the sum of gradients of norm at most C, one for each
    person, of whom each is in it with probability ``rate``.
    """

    tower: Annotated[str, Field(pattern=r"^[tav]\.private$")]
    rate: Annotated[float, Field(gt=0, le=1)]
    noise_multiplier: Positive
    steps: Annotated[int, Field(ge=1, le=MAX_INTEGER)]
    subjects: Annotated[int, Field(ge=1, le=MAX_INTEGER)]
    accountant: Slug


class Certified(Wire):
    """A bound: what this deletion released is indistinguishable from what the comparator would have released.

    It is mu-GDP, together with the private towers that people have left (``departed``), if there are any; mu is 0 where
    everything else is exact.

    The comparator is the same algorithm, run from the start on what remains. ``mu_series`` has one mu for each
    certified deletion of the model line, this one last. ``mu_total`` and ``total_curve`` are of the certified deletions
    of this model line together, since the first in the series; they speak for channels withdrawn by that first one; the
    versions before a person's own request held that person's data, and other model lines count their own.
    """

    class_: Literal["certified"] = Field(default="certified", alias="class")
    mu: NonNegative
    departed: Annotated[tuple[Departed, ...], Field(max_length=8)]
    curve: Annotated[tuple[CurvePoint, ...], Field(min_length=1, max_length=4)]
    mu_series: Annotated[tuple[NonNegative, ...], Field(min_length=1)]
    mu_total: NonNegative
    total_curve: Annotated[tuple[CurvePoint, ...], Field(min_length=1, max_length=4)]
    assumptions: Annotated[tuple[Text, ...], Field(min_length=1)]


class AttackReport(Wire):
    """What attacks measured."""

    measurements: Annotated[tuple[Measurement, ...], Field(min_length=1)]


class Empirical(Wire):
    """No bound at all: only what attacks measured."""

    class_: Literal["empirical"] = Field(default="empirical", alias="class")
    report: AttackReport


Guarantee: TypeAlias = Annotated[Exact | Certified | Empirical, Field(discriminator="class_")]


class ModalityDeletion(Wire):
    """The predicate of a Modality Deletion Certificate: which procedure the issuer followed, and what that gives."""

    request: Request
    subject_commitments: tuple[Digest, ...]
    lineage: Lineage
    before: Annotated[tuple[Artifact, ...], Field(min_length=1)]
    dataset: Dataset
    statistics: Statistics
    procedure: Procedure
    guarantee: Guarantee
    not_covered: Annotated[tuple[Text, ...], Field(min_length=1)]
    audit: Measurement | None
    supersedes: Digest | None
    deleted_at: Timestamp


class NoiseCommitment(Wire):
    """The operator commits to the secret behind the noise before any request is known."""

    commitment: Digest
    algorithm: Text
    created_at: Timestamp


class DeletionStatement(Wire):
    """In-toto Statement v1: ``subject`` names the after-model's artifacts, and only those."""

    type_: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: Annotated[tuple[Artifact, ...], Field(min_length=1)]
    predicate_type: Literal["https://missing-by-design.dev/modality-deletion/v1"]
    predicate: ModalityDeletion


class CommitmentStatement(Wire):
    """In-toto Statement v1: ``subject`` is the commitment itself."""

    type_: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: Annotated[tuple[Artifact, ...], Field(min_length=1, max_length=1)]
    predicate_type: Literal["https://missing-by-design.dev/noise-commitment/v1"]
    predicate: NoiseCommitment


def deletion_statement(after: Sequence[Artifact], predicate: ModalityDeletion) -> DeletionStatement:
    """The statement of a deletion; ``after`` are all artifacts of the after-model, its manifest among them."""
    return DeletionStatement(
        type_=STATEMENT_TYPE, subject=tuple(after), predicate_type=MODALITY_DELETION, predicate=predicate
    )


def commitment_statement(predicate: NoiseCommitment) -> CommitmentStatement:
    """The statement of a noise commitment; its subject is the commitment."""
    artifact = Artifact(name="noise-commitment", digest=DigestSet(sha256=predicate.commitment))
    return CommitmentStatement(
        type_=STATEMENT_TYPE, subject=(artifact,), predicate_type=NOISE_COMMITMENT, predicate=predicate
    )
