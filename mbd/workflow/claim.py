"""From an outcome to a claim: the one place where what a mechanism did becomes what a certificate says.

It decides nothing: the guarantee comes from the mechanism, the digests from the files, the proofs from the manifest.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from certs import statement as wire
from mbd import __version__
from mbd.cohort.cohort import EVERYONE, Cohort, Pair
from mbd.cohort.manifest import Manifest
from mbd.cohort.modality import Modality, in_order, pattern_name
from mbd.deletion.outcome import Outcome
from mbd.deletion.towers import ever_departed
from mbd.hashing import file_digest, json_digest
from mbd.lattice.model import LatticeModel, Saved, environment_digest
from mbd.lattice.release import ReleasePolicy, sensitivity
from mbd.lattice.statistics import LABEL_BITS
from mbd.privacy.accounting import ACCOUNTANT
from mbd.privacy.gaussian import compose
from mbd.privacy.guarantee import Certified, Departed, Empirical, Exact, epsilon_at
from mbd.privacy.noise import ALGORITHM

_LEAST_EPSILON = 1e-9


@dataclass(frozen=True)
class Provenance:
    """How the backbone of a version was made.

    Attributes:
        recipe_digest: of the training recipe.
        transcript_digest: of the record of what made it: a training run, or what a deletion did to it.
    """

    recipe_digest: str
    transcript_digest: str


@dataclass(frozen=True)
class Version:
    """A version with its files and rows.

    Attributes:
        number: in its line.
        saved: the model's files.
        model: the model itself.
        cohort: the rows.
        manifest: the Merkle tree over them.
    """

    number: int
    saved: Saved
    model: LatticeModel
    cohort: Cohort
    manifest: Manifest


@dataclass(frozen=True)
class Noise:
    """The logged commitment."""

    commitment: str
    log_index: int


@dataclass(frozen=True)
class Request:
    """The request as recorded.

    Attributes:
        digest: of its text with a random nonce.
        pairs: the channels that it names in this cohort.
    """

    digest: str
    regime: str
    requested_at: datetime
    pairs: frozenset[Pair]


def deletion_statement(
    *,
    line: str,
    request: Request,
    before: Version,
    after: Version,
    outcome: Outcome,
    provenance: Provenance,
    noise: Noise,
    spent: Sequence[float],
    deleted_at: datetime,
) -> wire.DeletionStatement:
    """The statement of one deletion on one model line.

    Args:
        line: the model line.
        request: what was asked.
        before: the version that the deletion started from.
        after: the version that it made.
        outcome: what the mechanism returned.
        provenance: of the line.
        noise: the logged commitment.
        spent: mu of every earlier certified deletion of the line.
        deleted_at: when the new version was finished.
    """
    closure = before.cohort.closure(request.pairs)
    people = sorted({subject for subject, _ in closure} - {EVERYONE})
    scope = _scope(request.pairs, closure, before.cohort)
    absent = closure if scope.kind != "subject" else closure | {(person, m) for person in people for m in Modality}
    predicate = wire.ModalityDeletion(
        request=wire.Request(
            digest=request.digest,
            regime=request.regime,
            requested_at=request.requested_at,
            scope=scope,
        ),
        subject_commitments=tuple(after.manifest.commitment(person) for person in people),
        lineage=wire.Lineage(
            model_line=line,
            version=after.number,
            parent_version=before.number,
            model_digest=after.saved.digest,
            parent_digest=before.saved.digest,
            backbone_digest=after.saved.digests["backbone.safetensors"],
            backbone_provenance=_backbone_provenance(after.model),
            transcript_digest=provenance.transcript_digest,
        ),
        before=wire_artifacts(before.saved),
        dataset=wire.Dataset(
            manifest_before=wire_manifest(before.manifest),
            manifest_after=wire_manifest(after.manifest),
            absence=tuple(
                wire.AbsenceProof.model_validate(after.manifest.absence(subject, modality))
                for subject, modality in sorted(absent)
            ),
        ),
        statistics=wire.Statistics(
            digest_before=before.model.commitment,
            digest_after=after.model.commitment,
            feature_bits=after.model.featurizer.grid.feature_bits,
            label_bits=LABEL_BITS,
            label_limit=after.model.featurizer.grid.label_limit,
            rows_after=after.model.statistics.rows,
            bound="2^53",
            untouched=_untouched(absent, outcome),
        ),
        procedure=_procedure(outcome, before.model, provenance, noise),
        guarantee=_guarantee(outcome, spent),
        not_covered=not_covered(before.cohort, request.pairs),
        audit=None,
        supersedes=None,
        deleted_at=deleted_at,
    )
    return wire.deletion_statement(wire_artifacts(after.saved), predicate)


def batch_digest(digests: Iterable[str]) -> str:
    """What binds the noise to the requests that one deletion carries out: a request's own digest if it is alone."""
    ordered = sorted(digests)
    return ordered[0] if len(ordered) == 1 else json_digest(ordered)


def not_covered(cohort: Cohort, pairs: frozenset[Pair]) -> tuple[str, ...]:
    """What this certificate does not speak of, in sentences for the person concerned."""
    return (
        "Copies of earlier releases that someone kept: comparing an old and a new release can reveal removed rows.",
        "Predictions that were served before the deletion.",
        "Copies of the data outside of this service.",
        "Other model lines: each one's certificates count its own releases, and both together reveal more than one.",
        *kept_by_policy(cohort, pairs),
    )


def kept_by_policy(cohort: Cohort, pairs: frozenset[Pair]) -> tuple[str, ...]:
    """What a cohort's policy keeps although it was made from what is withdrawn: derived channels, and labels."""
    withdrawn = {modality for _, modality in cohort.closure(pairs)}
    sentences = [
        f"The {modality.value} channel: it was derived from {' and '.join(sorted(sources))}, "
        "and the cohort's policy declares it independently consented."
        for modality, channel in cohort.channels.items()
        if channel.consent == "independent"
        and (sources := {source.value for source in channel.derived_from if source in withdrawn})
    ]
    judged = sorted(modality.value for modality in withdrawn & set(cohort.task.label_derived_from))
    if judged and cohort.task.label_policy == "keeps":
        sentences.append(
            f"Labels: annotators perceived {' and '.join(judged)} when they made them, "
            "and the cohort's policy keeps labels."
        )
    return tuple(sentences)


def source_digest() -> str:
    """SHA-256 (hex) over every Python source file of this program, by path."""
    files: dict[str, str] = {}
    for package in ("mbd", "certs"):
        spec = find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            continue
        root = Path(spec.submodule_search_locations[0])
        files |= {f"{package}/{path.relative_to(root).as_posix()}": file_digest(path) for path in root.rglob("*.py")}
    return json_digest(files)


def _scope(pairs: frozenset[Pair], closure: frozenset[Pair], cohort: Cohort) -> wire.Scope:
    subjects = {subject for subject, _ in pairs}
    modalities = in_order(modality for _, modality in pairs)
    if subjects == {EVERYONE} and len(modalities) == 1:
        kind = "modality"
    elif EVERYONE in subjects or len(subjects) > 1:
        kind = "several"
    elif _all_of(next(iter(subjects)), cohort) <= {modality for _, modality in closure}:
        kind = "subject"
    else:
        kind = "subject-modality" if len(modalities) == 1 else "several"
    return wire.Scope.model_validate({"kind": kind, "modalities": tuple(m.value for m in modalities)})


def _all_of(subject: str, cohort: Cohort) -> frozenset[Modality]:
    mine = cohort.where(subject=subject)
    return frozenset().union(*(mine.present(i) for i in range(len(mine))))


def _untouched(absent: frozenset[Pair], outcome: Outcome) -> tuple[wire.Modality, ...]:
    """The withdrawn modalities whose own head neither changed nor went: no training row held a withdrawn channel."""
    touched = {*outcome.updated, *outcome.dropped}
    return tuple(m.value for m in in_order(modality for _, modality in absent) if frozenset([m]) not in touched)


def _backbone_provenance(model: LatticeModel) -> Literal["public", "entangled"]:
    return "public" if model.provenance["backbone"] == "public" else "entangled"


def _procedure(outcome: Outcome, before: LatticeModel, provenance: Provenance, noise: Noise) -> wire.Procedure:
    model = outcome.model
    delta_2 = sensitivity(model.layout, model.policy)
    updated = []
    for pattern in outcome.updated:
        head = model.heads[pattern]
        updated.append(
            wire.UpdatedHead.model_validate(
                {
                    "head": pattern_name(pattern),
                    "coordinates": len(head.weights_DK),
                    "sensitivity": delta_2,
                    "sigma": head.sigma,
                    "mu": head.mu,
                }
            )
        )
    return wire.Procedure.model_validate(
        {
            "mechanism": outcome.mechanism,
            "version": __version__,
            "source_digest": source_digest(),
            "environment_digest": environment_digest(),
            "recipe_digest": provenance.recipe_digest,
            "tau": model.policy.tau,
            "lambda_min": model.layout.lambda_min,
            "loss": model.policy.loss,
            "updated": tuple(updated),
            "unchanged": tuple(pattern_name(pattern) for pattern in outcome.unchanged),
            "dropped": tuple(pattern_name(pattern) for pattern in outcome.dropped),
            "towers": tuple(
                {
                    "name": name,
                    "provenance": origin.provenance.value,
                    "action": "kept" if name in model.origins else "dropped",
                }
                for name, origin in before.origins.items()
            ),
            "fine_tuning": _fine_tuning(outcome),
            "noise": wire.NoiseSource(algorithm=ALGORITHM, commitment=noise.commitment, log_index=noise.log_index)
            if updated
            else None,
        }
    )


def _fine_tuning(outcome: Outcome) -> wire.FineTuning | None:
    if outcome.mechanism != "noisy-fine-tuning":
        return None
    assert outcome.report is not None, "noisy fine-tuning has an account"
    return wire.FineTuning.model_validate({name: outcome.report[name] for name in wire.FineTuning.model_fields})


def _guarantee(outcome: Outcome, spent: Sequence[float]) -> wire.Guarantee:
    policy = outcome.model.policy
    match outcome.guarantee:
        case Exact(equalities):
            return wire.Exact(equalities=equalities)
        case Certified(mu, assumptions, departed):
            series = (*spent, mu)
            ever = ever_departed(outcome.model.origins, outcome.model.retired)
            return wire.Certified(
                mu=mu,
                departed=tuple(
                    wire.Departed.model_validate(
                        {"tower": each.tower, **asdict(each.run), "subjects": each.subjects, "accountant": ACCOUNTANT}
                    )
                    for each in departed
                ),
                curve=(_point(mu, departed, policy),),
                mu_series=series,
                mu_total=compose(series),
                total_curve=(_point(compose(series), ever, policy),),
                assumptions=assumptions,
            )
        case Empirical(report):
            return wire.Empirical(report=wire.AttackReport(measurements=_measurements(report)))


def _measurements(report: Mapping[str, Any]) -> tuple[wire.Measurement, ...]:
    """How well the withdrawn modality is still made up from the others, before and after: an interval over rows."""
    return tuple(
        wire.Measurement(
            attack=f"reconstruction-of-{modality}-{when}", statistic="mean-squared-error", low=low, high=high
        )
        for modality, found in report["modalities"].items()
        for when in ("before", "after")
        for low, high in (found[f"reconstruction_{when}_interval"],)
    )


def _point(mu: float, departed: Sequence[Departed], policy: ReleasePolicy) -> wire.CurvePoint:
    """A point of the curve. Where delta alone covers everything the epsilon would be 0; a certified one is positive."""
    epsilon = epsilon_at(policy.delta, [mu], departed)
    return wire.CurvePoint(epsilon=max(epsilon, _LEAST_EPSILON), delta=policy.delta)


def wire_manifest(manifest: Manifest) -> wire.Manifest:
    """A manifest as certificates name it."""
    return wire.Manifest(root=manifest.root, leaves=len(manifest.leaves), rows=manifest.rows)


def wire_artifacts(saved: Saved) -> tuple[wire.Artifact, ...]:
    """A model's files as certificates name them, by name."""
    return tuple(
        wire.Artifact(name=name, digest=wire.DigestSet(sha256=digest)) for name, digest in sorted(saved.digests.items())
    )
