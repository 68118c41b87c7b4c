"""Step 7: whether a well-formed statement is consistent, so that the lies that arithmetic can catch are caught.

Everything is recomputed from the statement itself; nothing is looked up. It does not know who signed: a consistent
statement can still be false, which is what artifacts, cohorts and auditors are for (step 8).
"""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Never

from certs.absence import verify_absence
from certs.errors import CertificateError, Code
from certs.gaussian import compose, gaussian_delta
from certs.statement import (
    Artifact,
    AttackReport,
    Certified,
    CommitmentStatement,
    CurvePoint,
    DeletionStatement,
    Empirical,
    Exact,
    ModalityDeletion,
    Statement,
)
from certs.trusted_root import ValidFor

RELATIVE_TOLERANCE = 1e-9
"""How far a recomputed number may lie from the claimed one: the rounding of two float64 programs, not more."""

CLOCK_SKEW = timedelta(minutes=5)
"""How far ahead of the verifier's clock an issuer's may be."""

_EXACT_BOUND = 1 << 53
_ALLOWED_CLASSES: dict[str, tuple[type[Exact] | type[Certified] | type[Empirical], ...]] = {
    "lattice-drop": (Exact, Empirical),
    "lattice-refit": (Exact, Certified, Empirical),
    "lattice-newton": (Certified, Empirical),
}


def check(statement: Statement, *, signer_window: ValidFor, leaf_index: int, at: datetime) -> None:
    """Refuse a statement that contradicts itself, its key's window, its place in the log or the clock.

    Raises:
        CertificateError: with the code of the first rule that it breaks, in the order of SPEC.md.
    """
    if isinstance(statement, CommitmentStatement):
        _check_made_at(statement.predicate.created_at, signer_window, at)
        _check_commitment(statement)
        return
    predicate = statement.predicate
    if predicate.request.requested_at > predicate.deleted_at:
        _refuse(Code.TIME_ORDER, "It says that the deletion came before the request.")
    _check_made_at(predicate.deleted_at, signer_window, at)
    _check_models(statement)
    _check_scope(predicate)
    _check_dataset(predicate)
    _check_statistics(predicate)
    _check_heads(predicate)
    _check_release(predicate)
    _check_noise(predicate, leaf_index)
    _check_guarantee(predicate)


def _check_made_at(made_at: datetime, window: ValidFor, at: datetime) -> None:
    if made_at > at + CLOCK_SKEW:
        _refuse(Code.TIME_ORDER, "It was made in the future of the verifier's clock.")
    if not window.covers(made_at):
        _refuse(Code.TIME_ORDER, "It says that it was made when its key was not valid.")


def _check_commitment(statement: CommitmentStatement) -> None:
    if statement.subject[0].digest.sha256 != statement.predicate.commitment:
        _refuse(Code.COMMITMENT_MISMATCH, "Its subject is not the commitment that it makes.")


def _check_models(statement: DeletionStatement) -> None:
    """The after-model differs from the before-model, and each is named where it belongs."""
    predicate = statement.predicate
    lineage = predicate.lineage
    after, before = _digests(statement.subject), _digests(predicate.before)
    if lineage.version <= lineage.parent_version:
        _refuse(Code.MODEL_IDENTITY, "The model's version is not later than its parent's.")
    if lineage.model_digest not in after or lineage.parent_digest not in before:
        _refuse(Code.MODEL_IDENTITY, "A model's manifest is missing from the list of that model's files.")
    if lineage.model_digest in before or lineage.parent_digest in after:
        _refuse(Code.MODEL_IDENTITY, "The model after the deletion is the model before it.")


def _digests(artifacts: Sequence[Artifact]) -> frozenset[str]:
    if len({artifact.name for artifact in artifacts}) < len(artifacts):
        _refuse(Code.MODEL_IDENTITY, "Two files of one model have the same name.")
    return frozenset(artifact.digest.sha256 for artifact in artifacts)


def _check_scope(predicate: ModalityDeletion) -> None:
    """Commitments and absence proofs cover what the request asked for, and nobody is counted twice."""
    scope, commitments = predicate.request.scope, predicate.subject_commitments
    absence = predicate.dataset.absence
    people = {proof.subject for proof in absence if proof.subject is not None}
    if len(set(commitments)) < len(commitments) or len(set(scope.modalities)) < len(scope.modalities):
        _refuse(Code.SCOPE_INVALID, "A person or a modality is listed twice.")
    if scope.kind in ("subject", "subject-modality") and len(commitments) != 1:
        _refuse(Code.SCOPE_INVALID, f"A request of kind {scope.kind} is about one person.")
    if scope.kind == "modality" and commitments:
        _refuse(Code.SCOPE_INVALID, "A request about everybody commits to no person.")
    if scope.kind in ("modality", "subject-modality") and len(scope.modalities) != 1:
        _refuse(Code.SCOPE_INVALID, f"A request of kind {scope.kind} is about one modality.")
    if len(people) != len(commitments):
        _refuse(Code.SCOPE_INVALID, "The people committed to are not as many as those proven absent.")
    if not set(scope.modalities) <= _withdrawn(predicate):
        _refuse(Code.SCOPE_INVALID, "A modality of the request has no proof of absence.")
    if scope.kind == "modality" and scope.modalities[0] not in _withdrawn_by_all(predicate):
        _refuse(Code.SCOPE_INVALID, "The modality is not proven absent for everybody.")


def _check_dataset(predicate: ModalityDeletion) -> None:
    before, after = predicate.dataset.manifest_before, predicate.dataset.manifest_after
    if after.leaves >= before.leaves or after.root == before.root:
        _refuse(Code.DATASET_INVALID, "The cohort lost no channel.")
    if after.rows > before.rows:
        _refuse(Code.DATASET_INVALID, "The cohort gained rows.")
    for proof in predicate.dataset.absence:
        verify_absence(proof, after)


def _check_statistics(predicate: ModalityDeletion) -> None:
    """The sums stayed exact, and they changed exactly when something in the model did."""
    statistics, procedure = predicate.statistics, predicate.procedure
    if statistics.rows_after > predicate.dataset.manifest_after.rows:
        _refuse(Code.STATISTICS_INVALID, "The statistics count more rows than the cohort has.")
    largest_bits = statistics.feature_bits + max(statistics.feature_bits, statistics.label_bits)
    if statistics.rows_after << largest_bits > _EXACT_BOUND:
        _refuse(
            Code.STATISTICS_INVALID, "So many rows on so fine a grid can pass 2^53: the sums may have been rounded."
        )
    if not set(statistics.untouched) <= _withdrawn(predicate):
        _refuse(Code.STATISTICS_INVALID, "A modality is called untouched that was not withdrawn.")
    same = statistics.digest_after == statistics.digest_before
    if same and (_touched(predicate) or procedure.updated or procedure.dropped):
        _refuse(Code.STATISTICS_INVALID, "The statistics did not change, and they had to.")
    if not same and not (procedure.updated or procedure.dropped):
        _refuse(Code.STATISTICS_INVALID, "The statistics changed, and no head did.")


def _check_heads(predicate: ModalityDeletion) -> None:
    """Every head that saw a withdrawn channel was solved anew or dropped."""
    procedure = predicate.procedure
    updated = [head.head for head in procedure.updated]
    heads = [*updated, *procedure.unchanged, *procedure.dropped]
    if len(set(heads)) < len(heads):
        _refuse(Code.PROCEDURE_INVALID, "A head is listed twice.")
    if (procedure.mechanism == "lattice-drop") == bool(updated):
        _refuse(Code.PROCEDURE_INVALID, "The mechanism lattice-drop solves no head, and every other solves some.")
    for modality in _touched(predicate):
        for head in procedure.unchanged:
            if modality[0] in head:
                _refuse(Code.PROCEDURE_INVALID, f"Head {head} uses {modality} and was left unchanged.")
    for modality in _withdrawn_by_all(predicate):
        for head in (*updated, *procedure.unchanged):
            if modality[0] in head:
                _refuse(Code.PROCEDURE_INVALID, f"Head {head} uses {modality}, which nobody has left, and was kept.")


def _withdrawn(predicate: ModalityDeletion) -> frozenset[str]:
    return frozenset(proof.modality for proof in predicate.dataset.absence)


def _withdrawn_by_all(predicate: ModalityDeletion) -> frozenset[str]:
    return frozenset(proof.modality for proof in predicate.dataset.absence if proof.subject is None)


def _touched(predicate: ModalityDeletion) -> frozenset[str]:
    return _withdrawn(predicate) - frozenset(predicate.statistics.untouched)


def _check_release(predicate: ModalityDeletion) -> None:
    """Each solved head: the residual within tau, the sensitivity from tau, mu from the sensitivity."""
    procedure = predicate.procedure
    for head in procedure.updated:
        if head.residual_bound > procedure.tau:
            _refuse(Code.RESIDUAL_ABOVE_TAU, f"Head {head.head} was released with a residual above tau.")
        if head.candidates > head.coordinates:
            _refuse(Code.PROCEDURE_INVALID, f"Head {head.head} has more candidates than coordinates.")
        if not _equal(head.sensitivity, 2 * procedure.tau / procedure.lambda_min):
            _refuse(Code.SENSITIVITY_MISMATCH, f"The sensitivity of head {head.head} is not 2 tau / lambda.")
        if not _equal(head.mu, head.sensitivity / head.sigma):
            _refuse(Code.MU_UNDERSTATED, f"The mu of head {head.head} is not its sensitivity over its sigma.")


def _check_noise(predicate: ModalityDeletion, leaf_index: int) -> None:
    noise = predicate.procedure.noise
    if (noise is not None) != bool(predicate.procedure.updated):
        _refuse(Code.NOISE_INVALID, "Noise is drawn exactly when a head is solved.")
    if noise is not None and noise.log_index >= leaf_index:
        _refuse(Code.NOISE_INVALID, "The secret of the noise was not committed to before this certificate.")


def _check_guarantee(predicate: ModalityDeletion) -> None:
    """The class is one that the mechanism can give, and the class carries what it must and no more."""
    guarantee, procedure = predicate.guarantee, predicate.procedure
    if not isinstance(guarantee, _ALLOWED_CLASSES[procedure.mechanism]):
        _refuse(Code.CLASS_NOT_ALLOWED, f"The mechanism {procedure.mechanism} gives no {guarantee.class_} guarantee.")
    if isinstance(guarantee, Empirical):
        _check_no_bound(guarantee.report)
    if isinstance(guarantee, Certified):
        _check_certified(guarantee, predicate)
    if predicate.audit is not None and predicate.audit.low > predicate.audit.high:
        _refuse(Code.AUDIT_CONTRADICTS, "The audit's interval is empty.")


def _check_no_bound(report: AttackReport) -> None:
    if any(measurement.statistic == "mu" for measurement in report.measurements):
        _refuse(Code.CLASS_NOT_ALLOWED, "An empirical guarantee has no mu, not even a measured one.")


def _check_certified(guarantee: Certified, predicate: ModalityDeletion) -> None:
    _check_at_least(guarantee.mu, compose(head.mu for head in predicate.procedure.updated), "mu of this release")
    _check_at_least(guarantee.mu_total, compose(guarantee.mu_series), "mu of all releases")
    if guarantee.mu_series[-1] != guarantee.mu:
        _refuse(Code.MU_UNDERSTATED, "The series of releases does not end with this one.")
    _check_curve(guarantee.curve, guarantee.mu)
    _check_curve(guarantee.total_curve, guarantee.mu_total)
    audit = predicate.audit
    if audit is not None and audit.statistic == "mu" and audit.low > guarantee.mu:
        _refuse(Code.AUDIT_CONTRADICTS, "The audit measured more leakage than the guarantee allows.")


def _check_at_least(claimed: float, recomputed: float, what: str) -> None:
    if claimed < recomputed * (1 - RELATIVE_TOLERANCE):
        _refuse(Code.MU_UNDERSTATED, f"The claimed {what} is {claimed:.9g}; recomputed it is {recomputed:.9g}.")


def _check_curve(curve: Sequence[CurvePoint], mu: float) -> None:
    for point in curve:
        if gaussian_delta(point.epsilon * (1 + RELATIVE_TOLERANCE), mu) > point.delta:
            _refuse(
                Code.EPSILON_UNDERSTATED,
                f"At mu {mu:.9g}, epsilon {point.epsilon:.9g} needs a larger delta than {point.delta:.9g}.",
            )


def _equal(claimed: float, recomputed: float) -> bool:
    return math.isclose(claimed, recomputed, rel_tol=RELATIVE_TOLERANCE)


def _refuse(code: Code, message: str) -> Never:
    raise CertificateError(
        code,
        f"The statement is signed, but contradicts itself. {message}",
        remedy="do not rely on this deletion; ask the issuer for a correct certificate",
    )
