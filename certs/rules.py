"""Step 7: whether a well-formed statement is consistent, so that the lies that arithmetic can catch are caught.

Everything is recomputed from the statement itself; nothing is looked up. It does not know who signed: a consistent
statement can still be false, which is what artifacts, cohorts and auditors are for (step 8).
"""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import combinations, product
from typing import Never, get_args

from certs.absence import verify_absence
from certs.absence_statement import AbsenceStatement, ModalityAbsence
from certs.errors import CertificateError, Code
from certs.gaussian import compose, gaussian_delta, noisy_iterations_mu
from certs.payload import Statement
from certs.scope import check_scope
from certs.statement import (
    Artifact,
    AttackReport,
    Certified,
    CommitmentStatement,
    CurvePoint,
    DeletionStatement,
    Departed,
    Empirical,
    Exact,
    Mechanism,
    Modality,
    ModalityDeletion,
)
from certs.subsampled import subsampled_delta
from certs.trusted_root import ValidFor

RELATIVE_TOLERANCE = 1e-9
"""How far a recomputed number may lie from the claimed one: the rounding of two float64 programs, not more."""

CLOCK_SKEW = timedelta(minutes=5)
"""How far ahead of the verifier's clock an issuer's may be."""

_TOWER_FILE = "tower-"

HEADS_FILE = "heads.safetensors"
"""The artifact that holds the released weights of all heads."""

_EXACT_BOUND = 1 << 53
_NO_MANIFEST = "A model's manifest is missing from the list of that model's files."
_LETTERS = "tav"
_ALLOWED_CLASSES: dict[Mechanism, tuple[type[Exact] | type[Certified] | type[Empirical], ...]] = {
    "lattice-drop": (Exact, Certified, Empirical),
    "lattice-refit": (Exact, Certified, Empirical),
    "lattice-newton": (Certified, Empirical),
    "tower-drop": (Exact, Certified, Empirical),
    "retrain": (Exact, Empirical),
    "noisy-fine-tuning": (Certified, Empirical),
    "surgical": (Empirical,),
}
_OF_ENTANGLED = ("retrain", "noisy-fine-tuning", "surgical")


def check(statement: Statement, *, signer_window: ValidFor, leaf_index: int, at: datetime) -> None:
    """Refuse a statement that contradicts itself, its key's window, its place in the log or the clock.

    Args:
        statement: what was signed.
        signer_window: of the key that signed it.
        leaf_index: its place in the log.
        at: when it was signed at the latest: its time stamp, or the verifier's clock where it has none.

    Raises:
        CertificateError: with the code of the first rule that it breaks, in the order of SPEC.md.
    """
    if isinstance(statement, CommitmentStatement):
        _check_made_at(statement.predicate.created_at, signer_window, at)
        _check_commitment(statement)
        return
    if isinstance(statement, AbsenceStatement):
        _check_absence(statement, signer_window, at)
        return
    predicate = statement.predicate
    if predicate.request.requested_at > predicate.deleted_at:
        _refuse(Code.TIME_ORDER, "It says that the deletion came before the request.")
    _check_made_at(predicate.deleted_at, signer_window, at, supersedes=predicate.supersedes is not None)
    _check_models(statement)
    proven = [(proof.modality, proof.subject) for proof in predicate.dataset.absence]
    check_scope(predicate.request.scope, predicate.subject_commitments, proven)
    _check_dataset(predicate)
    _check_statistics(predicate)
    _check_heads(predicate)
    _check_backbone(predicate)
    _check_towers(statement)
    _check_release(predicate)
    _check_noise(predicate, leaf_index)
    _check_guarantee(predicate)


def _check_made_at(made_at: datetime, window: ValidFor, at: datetime, *, supersedes: bool = False) -> None:
    """A key signs what was made in its window; where a certificate supersedes another, perhaps what was made before."""
    if made_at > at + CLOCK_SKEW:
        _refuse(Code.TIME_ORDER, "It was made in the future of its time stamp or of the verifier's clock.")
    if not window.covers(made_at) and not (supersedes and made_at < window.start):
        _refuse(Code.TIME_ORDER, "It says that it was made when its key was not valid.")


def _check_commitment(statement: CommitmentStatement) -> None:
    if statement.subject[0].digest.sha256 != statement.predicate.commitment:
        _refuse(Code.COMMITMENT_MISMATCH, "Its subject is not the commitment that it makes.")


def _check_models(statement: DeletionStatement) -> None:
    """The after-model differs from the before-model where it must and nowhere else, and each is where it belongs."""
    predicate = statement.predicate
    lineage = predicate.lineage
    files_after, files_before = _files(statement.subject), _files(predicate.before)
    after, before = set(files_after.values()), set(files_before.values())
    if lineage.version <= lineage.parent_version:
        _refuse(Code.MODEL_IDENTITY, "The model's version is not later than its parent's.")
    if lineage.model_digest not in after or lineage.parent_digest not in before:
        _refuse(Code.MODEL_IDENTITY, _NO_MANIFEST)
    if lineage.model_digest in before or lineage.parent_digest in after:
        _refuse(Code.MODEL_IDENTITY, "The model after the deletion is the model before it.")
    if lineage.backbone_digest not in after:
        _refuse(Code.MODEL_IDENTITY, "The backbone is not among the files of the model after the deletion.")
    if (lineage.backbone_digest in before) != (lineage.backbone_provenance == "public"):
        _refuse(Code.MODEL_IDENTITY, "A public backbone is the same file before and after; an entangled one never is.")
    if HEADS_FILE in files_after and HEADS_FILE in files_before:
        same = files_after[HEADS_FILE] == files_before[HEADS_FILE]
        if same == bool(predicate.procedure.updated or predicate.procedure.dropped):
            _refuse(Code.MODEL_IDENTITY, f"The file {HEADS_FILE} changes exactly when a head does; it does not here.")


def _files(artifacts: Sequence[Artifact]) -> dict[str, str]:
    files = {artifact.name: artifact.digest.sha256 for artifact in artifacts}
    if len(files) < len(artifacts):
        _refuse(Code.MODEL_IDENTITY, "Two files of one model have the same name.")
    return files


def _check_dataset(predicate: ModalityDeletion) -> None:
    before, after = predicate.dataset.manifest_before, predicate.dataset.manifest_after
    if after.leaves >= before.leaves or after.root == before.root:
        _refuse(Code.DATASET_INVALID, "The cohort lost no channel.")
    if after.rows > before.rows:
        _refuse(Code.DATASET_INVALID, "The cohort gained rows.")
    if not after.rows <= after.leaves <= len(get_args(Modality)) * after.rows:
        _refuse(Code.DATASET_INVALID, "Every row of a cohort has one to three channels.")
    for proof in predicate.dataset.absence:
        verify_absence(proof, after)


def _check_statistics(predicate: ModalityDeletion) -> None:
    """The sums stayed exact, and the commitment to them is this version's own."""
    statistics = predicate.statistics
    if statistics.rows_after > predicate.dataset.manifest_after.rows:
        _refuse(Code.STATISTICS_INVALID, "The statistics count more rows than the cohort has.")
    one = 1 << statistics.feature_bits
    if statistics.rows_after * one * max(one, statistics.label_limit) >= _EXACT_BOUND:
        _refuse(
            Code.STATISTICS_INVALID, "So many rows on so fine a grid can pass 2^53: the sums may have been rounded."
        )
    if not set(statistics.untouched) <= _withdrawn(predicate):
        _refuse(Code.STATISTICS_INVALID, "A modality is called untouched that is not proven absent.")
    solved = {*(head.head for head in predicate.procedure.updated), *predicate.procedure.dropped}
    if solved & {modality[0] for modality in statistics.untouched}:
        _refuse(Code.STATISTICS_INVALID, "A modality is called untouched whose own head was solved again or dropped.")
    if statistics.digest_after == statistics.digest_before:
        _refuse(Code.STATISTICS_INVALID, "The commitment to the statistics is the old one; each version has its own.")


def _check_heads(predicate: ModalityDeletion) -> None:
    """All heads of both models are listed, so that none can be hidden, and the mechanism did what its name says."""
    procedure = predicate.procedure
    after = [*(head.head for head in procedure.updated), *procedure.unchanged]
    before = [*after, *procedure.dropped]
    if not after or len(set(before)) < len(before):
        _refuse(Code.PROCEDURE_INVALID, "No head is left, or a head is listed twice.")
    for heads, when in ((before, "before"), (after, "after")):
        if set(heads) != _all_heads("".join(heads)):
            _refuse(
                Code.PROCEDURE_INVALID, f"The model {when} has a head for each set of its modalities; one is missing."
            )
    if (procedure.mechanism == "lattice-drop") == bool(procedure.updated):
        _refuse(Code.PROCEDURE_INVALID, "The mechanism lattice-drop solves no head, and every other solves some.")
    for modality in _touched(predicate):
        if modality[0] not in before:
            _refuse(Code.PROCEDURE_INVALID, f"Rows with {modality} were touched, and no head that uses it is listed.")
        if any(modality[0] in head for head in procedure.unchanged):
            _refuse(Code.PROCEDURE_INVALID, f"A head that uses {modality} was left unchanged.")
    for modality in _withdrawn_by_all(predicate):
        if any(modality[0] in head for head in after):
            _refuse(Code.PROCEDURE_INVALID, f"A head that uses {modality}, which nobody has left, was kept.")


def _check_backbone(predicate: ModalityDeletion) -> None:
    """An entangled backbone was dealt with, unless nothing that it saw was withdrawn; a public one was let alone."""
    mechanism, entangled = predicate.procedure.mechanism, predicate.lineage.backbone_provenance == "entangled"
    if (mechanism in _OF_ENTANGLED) > entangled:
        _refuse(Code.PROCEDURE_INVALID, f"The mechanism {mechanism} is for a backbone that everybody's rows shaped.")
    solved = predicate.procedure.updated or predicate.procedure.dropped
    if entangled and mechanism not in _OF_ENTANGLED and (_touched(predicate) or solved):
        _refuse(Code.PROCEDURE_INVALID, f"The backbone saw what is withdrawn, and {mechanism} leaves it as it is.")
    if mechanism in _OF_ENTANGLED and predicate.procedure.unchanged:
        _refuse(Code.PROCEDURE_INVALID, "The backbone changed, and a head over it is called unchanged.")
    if (predicate.procedure.fine_tuning is not None) != (mechanism == "noisy-fine-tuning"):
        _refuse(Code.PROCEDURE_INVALID, "The account of noisy fine-tuning is there exactly when that is the mechanism.")


def _check_towers(statement: DeletionStatement) -> None:
    """All towers of both models are listed with their files, and none that saw the withdrawn stays without a bound."""
    predicate = statement.predicate
    procedure, guarantee = predicate.procedure, predicate.guarantee
    names = [tower.name for tower in procedure.towers]
    kept = {tower.name for tower in procedure.towers if tower.action == "kept"}
    for files, expected in ((statement.subject, kept), (predicate.before, set(names))):
        listed = {file.name for file in files if file.name.startswith(_TOWER_FILE)}
        if len(set(names)) < len(names) or listed != {f"{_TOWER_FILE}{name}.safetensors" for name in expected}:
            _refuse(Code.PROCEDURE_INVALID, "The towers are not those whose files the models have.")
    same = {file.name: file.digest for file in predicate.before}
    if any(file.name.startswith(_TOWER_FILE) and same.get(file.name) == file.digest for file in statement.subject):
        _refuse(Code.PROCEDURE_INVALID, "A tower's file is the old one; each version has random bytes of its own.")
    _check_each_tower(predicate)
    if (procedure.mechanism == "tower-drop") > (len(kept) < len(names)):
        _refuse(Code.PROCEDURE_INVALID, "The mechanism tower-drop drops a tower, and none is dropped.")
    if procedure.mechanism in _OF_ENTANGLED and names:
        _refuse(Code.PROCEDURE_INVALID, "An entangled backbone has no towers beside it.")
    accounts = [tower.tower for tower in guarantee.departed] if isinstance(guarantee, Certified) else []
    accounted = set(accounts)
    seen = {name for name in kept if name.endswith(".private") and name[0] in {m[0] for m in _touched(predicate)}}
    if not isinstance(guarantee, Empirical) and not seen <= accounted:
        _refuse(Code.CLASS_NOT_ALLOWED, "A private tower saw what is withdrawn and stays, and its account is missing.")
    if not accounted <= kept or len(accounted) < len(accounts):
        _refuse(Code.PROCEDURE_INVALID, "An account is of a tower that the model does not have.")


def _check_each_tower(predicate: ModalityDeletion) -> None:
    """A tower is of the kind that it is called; it goes with its modality, or what used it is solved from nothing."""
    procedure = predicate.procedure
    nobodys = {modality[0] for modality in _withdrawn_by_all(predicate)}
    for tower in procedure.towers:
        name, letter, dropped = tower.name, tower.name[0], tower.action == "dropped"
        if tower.provenance != ("private" if name.endswith(".private") else "sharded"):
            _refuse(Code.PROCEDURE_INVALID, f"The tower {name} is not of the provenance that its name says.")
        if not dropped and letter in nobodys:
            _refuse(Code.PROCEDURE_INVALID, f"The tower {name} sees a modality that nobody has left, and stays.")
        if dropped and letter not in nobodys and procedure.mechanism != "tower-drop":
            _refuse(Code.PROCEDURE_INVALID, f"{procedure.mechanism} goes on from heads that used the tower {name}.")
        if dropped and any(letter in head for head in procedure.unchanged):
            _refuse(Code.PROCEDURE_INVALID, f"A head that used the dropped tower {name} is called unchanged.")


def _all_heads(letters: str) -> set[str]:
    """One head for each non-empty set of these modalities."""
    ordered = [letter for letter in _LETTERS if letter in letters]
    return {"".join(some) for size in range(1, len(ordered) + 1) for some in combinations(ordered, size)}


def _withdrawn(predicate: ModalityDeletion) -> frozenset[str]:
    return frozenset(proof.modality for proof in predicate.dataset.absence)


def _withdrawn_by_all(predicate: ModalityDeletion) -> frozenset[str]:
    return frozenset(proof.modality for proof in predicate.dataset.absence if proof.subject is None)


def _touched(predicate: ModalityDeletion) -> frozenset[str]:
    return _withdrawn(predicate) - frozenset(predicate.statistics.untouched)


def _check_release(predicate: ModalityDeletion) -> None:
    """Each solved head: the sensitivity from tau, mu from the sensitivity."""
    procedure = predicate.procedure
    for head in procedure.updated:
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
    _check_at_least(guarantee.mu, _least_mu(predicate), "mu of this deletion")
    _check_at_least(guarantee.mu_total, compose(guarantee.mu_series), "mu of all deletions")
    if guarantee.mu_series[-1] != guarantee.mu:
        _refuse(Code.MU_UNDERSTATED, "The series of deletions does not end with this one.")
    if predicate.procedure.mechanism == "lattice-drop" and guarantee.mu:
        _refuse(Code.CLASS_NOT_ALLOWED, "Nothing was solved, so no Gaussian was released.")
    if guarantee.mu == 0 and not guarantee.departed:
        _refuse(Code.CLASS_NOT_ALLOWED, "A certified deletion has a bound, and this one has none.")
    _check_curve(guarantee.curve, guarantee.mu, guarantee.departed)
    _check_curve(guarantee.total_curve, guarantee.mu_total, guarantee.departed)
    for point, total in product(guarantee.curve, guarantee.total_curve):
        if point.delta == total.delta and total.epsilon < point.epsilon * (1 - RELATIVE_TOLERANCE):
            _refuse(Code.EPSILON_UNDERSTATED, "All deletions together cost less than this one alone.")
    audit = predicate.audit
    if audit is not None and audit.statistic == "mu" and audit.low > guarantee.mu:
        _refuse(Code.AUDIT_CONTRADICTS, "The audit measured more leakage than the guarantee allows.")


def _least_mu(predicate: ModalityDeletion) -> float:
    """The mu that follows from what was run: heads solved from nothing, and what fine-tuning drowned, cost nothing."""
    procedure = predicate.procedure
    if procedure.mechanism == "lattice-newton":
        return compose(head.mu for head in procedure.updated)
    tuning = procedure.fine_tuning
    if tuning is None:
        return 0.0
    recomputed = noisy_iterations_mu(**tuning.model_dump(exclude={"mu"}))
    _check_at_least(tuning.mu, recomputed, "mu of the fine-tuning")
    return tuning.mu


def _check_at_least(claimed: float, recomputed: float, what: str) -> None:
    if claimed < recomputed * (1 - RELATIVE_TOLERANCE):
        _refuse(Code.MU_UNDERSTATED, f"The claimed {what} is {claimed:.9g}; recomputed it is {recomputed:.9g}.")


def _check_curve(curve: Sequence[CurvePoint], mu: float, departed: Sequence[Departed]) -> None:
    """No (epsilon, delta) is smaller than what mu alone, or any private tower alone, makes it at least."""
    for point in curve:
        epsilon = point.epsilon * (1 + RELATIVE_TOLERANCE)
        least = gaussian_delta(epsilon, mu)
        for tower in departed:
            run = (tower.rate, tower.noise_multiplier, tower.steps)
            least = max(least, subsampled_delta(epsilon, *run, tower.subjects))
        if least > point.delta:
            _refuse(
                Code.EPSILON_UNDERSTATED,
                f"At mu {mu:.9g}, epsilon {point.epsilon:.9g} needs a larger delta than {point.delta:.9g}.",
            )


def _check_absence(statement: AbsenceStatement, window: ValidFor, at: datetime) -> None:
    """A certificate of absence: about one model, complete for its request, and every proof of it holds."""
    predicate = statement.predicate
    if predicate.request.requested_at > predicate.checked_at:
        _refuse(Code.TIME_ORDER, "It says that the check came before the request.")
    _check_made_at(predicate.checked_at, window, at, supersedes=predicate.supersedes is not None)
    if predicate.lineage.model_digest not in _files(statement.subject).values():
        _refuse(Code.MODEL_IDENTITY, _NO_MANIFEST)
    _check_proven(predicate)
    manifest = predicate.dataset.manifest
    if not manifest.rows <= manifest.leaves <= len(get_args(Modality)) * manifest.rows:
        _refuse(Code.DATASET_INVALID, "So many rows cannot have so many channels: each has one to three.")
    for proof in predicate.dataset.absence:
        verify_absence(proof, manifest)


def _check_proven(predicate: ModalityAbsence) -> None:
    """The proofs are those that the request needs: of a person in both partitions, of everybody in the revocable."""
    scope, proofs = predicate.request.scope, predicate.dataset.absence
    public = [(proof.modality, proof.subject) for proof in proofs if proof.partition == "public"]
    revocable = [(proof.modality, proof.subject) for proof in proofs if proof.partition == "revocable"]
    check_scope(scope, predicate.subject_commitments, revocable)
    if scope.kind == "subject" and set(scope.modalities) < set(get_args(Modality)):
        _refuse(Code.SCOPE_INVALID, "A request for everything of a person is about text, audio and vision.")
    if len(set(public)) < len(public) or len(set(revocable)) < len(revocable):
        _refuse(Code.SCOPE_INVALID, "An absence is proven twice.")
    if set(public) != {(modality, person) for modality, person in revocable if person is not None}:
        _refuse(Code.SCOPE_INVALID, "A person is not proven absent from both partitions, or everybody from the public.")


def _equal(claimed: float, recomputed: float) -> bool:
    return math.isclose(claimed, recomputed, rel_tol=RELATIVE_TOLERANCE)


def _refuse(code: Code, message: str) -> Never:
    raise CertificateError(
        code,
        f"The statement is signed, but contradicts itself. {message}",
        remedy="do not rely on this certificate; ask the issuer for a correct one",
    )
