"""Offline verification of a certificate in the eight numbered steps of SPEC.md, each with its own failure codes.

Input is bytes, output is a report; there is no network, no file, no clock. It knows the order of the checks and where
each lives, and does none of the arithmetic itself.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeVar

from certs import bundle as bundles
from certs import checkpoint as checkpoints
from certs import dsse, entry, rules, standing, timestamp
from certs import policy as policies
from certs.bundle import Bundle
from certs.checkpoint import Checkpoint
from certs.commitment import subject_commitment
from certs.errors import CertificateError, Code, VerificationError
from certs.log_reader import Fetch
from certs.merkle import leaf_hash, verify_inclusion
from certs.note import NoteKey
from certs.payload import Statement, from_payload
from certs.policy import Policy
from certs.standing import Logged
from certs.statement import CommitmentStatement, DeletionStatement
from certs.trusted_root import TrustedLog, TrustedRoot, TrustedSigner
from certs.trusted_root import parse as parse_trusted_root

T = TypeVar("T")

STEPS = {
    1: "The files are what they must be",
    2: "The trusted root knows the key",
    3: "The issuer signed this statement",
    4: "Time stamps",
    5: "The log contains it",
    6: "Later revocation or supersession",
    7: "The statement is consistent",
    8: "The artifacts are those named",
}


@dataclass(frozen=True)
class Step:
    """What became of one numbered step.

    Attributes:
        number: 1 to 8, as in SPEC.md.
        result: ``not present`` when there was nothing to check; that is no success.
        detail: one sentence for a person.
    """

    number: int
    result: Literal["passed", "not present"]
    detail: str

    @property
    def title(self) -> str:
        """The step's name in SPEC.md."""
        return STEPS[self.number]


@dataclass(frozen=True)
class Verified:
    """A certificate that verified.

    Attributes:
        statement: what it says.
        steps: what was checked, in order.
        origin: the log's name.
        leaf_index: its place in the log, from 0.
        leaf_hash: RFC 6962 hash of its log entry, in hex: the name by which others supersede it.
        tree_size: the size of the log as of which it is valid.
        key_id: SHA-256 of the certificate key's SPKI DER, in hex.
        signed_at: when it was signed at the latest, by a time stamp; None without one.
        log_id: SHA-256 that names the log's key, in hex.
    """

    statement: Statement
    steps: tuple[Step, ...]
    origin: str
    leaf_index: int
    leaf_hash: str
    tree_size: int
    key_id: str
    signed_at: datetime | None
    log_id: str

    @property
    def verdict(self) -> str:
        """The only sentence that may be said of it: offline nobody knows what the log got later."""
        return f"valid as of checkpoint size {self.tree_size} of {self.origin}"


def verify(
    bundle: bytes,
    trusted_root: bytes,
    *,
    at: datetime,
    artifacts: Mapping[str, str] | None = None,
    openings: Mapping[str, bytes] | None = None,
    noise_commitment: bytes | None = None,
    logs: Sequence[Fetch] = (),
    policy: bytes | None = None,
) -> Verified:
    """Verify a certificate offline.

    Args:
        bundle: the certificate file.
        trusted_root: the trusted root file, from a source that the caller trusts.
        at: the time of verification, with a zone.
        artifacts: SHA-256 (hex) by name of model files that the caller holds; checked in step 8.
        openings: 32 bytes by person's name, as the issuer gave them to that person; checked in step 8.
        noise_commitment: the certificate of the noise commitment that the statement names; checked in step 8.
        logs: copies of the certificate's log and of those that took over from it, each as a function from a path of
            C2SP tlog-tiles to its bytes; read whole in step 6.
        policy: a C2SP tlog-policy file, whose quorum of witnesses the checkpoint must have; checked in step 5.

    Raises:
        VerificationError: the first step that failed, with its code.
    """
    parsed, root = _step(1, lambda: (bundles.parse(bundle), parse_trusted_root(trusted_root)))
    quorum = None if policy is None else _step(1, lambda: policies.parse(policy))
    signer = _step(2, lambda: _choose_key(parsed, root, at))
    _step(3, lambda: dsse.verify(parsed.dsse_envelope, signer.key))
    stamp = _step(4, lambda: _check_timestamps(parsed, signer, root, at))
    signed_at = stamp.at if stamp else at
    checkpoint, log = _step(5, lambda: _check_log(parsed, signer, root, signed_at))
    witnesses = _step(5, lambda: _check_witnesses(parsed, quorum)) if quorum else None
    logged = Logged(
        checkpoint.origin,
        parsed.entry.log_index,
        leaf_hash(parsed.entry.canonicalized_body).hex(),
        signer.key.key_id,
        stamp.at if stamp else None,
    )
    latest = _step(6, lambda: _check_standing(logged, checkpoint, logs, root)) if logs else None
    statement = _step(7, lambda: _check_statement(parsed, signer, signed_at))
    checked = _step(8, lambda: _check_artifacts(statement, artifacts or {}))
    checked += _step(8, lambda: _check_openings(statement, openings or {}))
    if noise_commitment is not None:
        checked += _step(8, lambda: _check_noise_commitment(statement, checkpoint, noise_commitment, trusted_root, at))
    return Verified(
        statement=statement,
        steps=_report(logged, checkpoint, stamp=stamp, witnesses=witnesses, latest=latest, checked=checked),
        origin=checkpoint.origin,
        leaf_index=logged.leaf_index,
        leaf_hash=logged.leaf_hash,
        tree_size=(latest or checkpoint).size,
        key_id=logged.key_id,
        signed_at=logged.signed_at,
        log_id=log.key.log_id.hex(),
    )


def _choose_key(bundle: Bundle, root: TrustedRoot, at: datetime) -> TrustedSigner:
    """Step 2. Without a time stamp nobody knows when a signature was made, so the key must be valid *now*."""
    signer = root.signer(bundle.hint)
    if not bundle.timestamps and not signer.valid_for.covers(at):
        raise CertificateError(
            Code.KEY_NOT_VALID,
            "The key is not valid at the time of verification, and no time stamp says that it was when it signed.",
            remedy="fetch the current trusted root; if the key was retired, ask the issuer for a certificate anew",
        )
    return signer


@dataclass(frozen=True)
class _Stamp:
    """When a signature was there, and who says so."""

    at: datetime
    by: str


def _check_timestamps(bundle: Bundle, signer: TrustedSigner, root: TrustedRoot, at: datetime) -> _Stamp | None:
    """Step 4: every time stamp verifies, and the key was valid at the first. None where there is no time stamp."""
    if len(set(bundle.timestamps)) < len(bundle.timestamps):
        raise _timestamp_error(Code.TIMESTAMP_INVALID, "A time stamp stands in it twice.")
    stamps = []
    for der in bundle.timestamps:
        token = timestamp.parse(der)
        chain = timestamp.verify(token, bundle.dsse_envelope.signature.sig, root.chains(token.made_at))
        stamps.append(_Stamp(token.made_at, chain.name))
    first = min(stamps, key=lambda stamp: stamp.at, default=None)
    if first is None:
        return None
    if first.at > at + rules.CLOCK_SKEW:
        raise _timestamp_error(Code.TIMESTAMP_INVALID, "The time stamp lies in the future of the verifier's clock.")
    if not signer.valid_for.covers(first.at):
        raise _timestamp_error(Code.KEY_NOT_VALID, "The key was not valid at the time that the time stamp states.")
    return first


def _check_log(bundle: Bundle, signer: TrustedSigner, root: TrustedRoot, at: datetime) -> tuple[Checkpoint, TrustedLog]:
    """Step 5: the entry is of this envelope, the checkpoint is the log's, and the entry is under it."""
    proof = bundle.entry.inclusion_proof
    if bundle.entry.canonicalized_body != entry.leaf(bundle.dsse_envelope, signer.key):
        raise _log_error(Code.ENTRY_MISMATCH, "The log entry is of another certificate.")
    if bundle.entry.log_index != proof.log_index:
        raise _log_error(Code.ENTRY_MISMATCH, "The certificate gives two places in the log.")
    log = root.log(bundle.entry.log_id.key_id)
    if not log.valid_for.covers(at):
        raise _log_error(Code.LOG_KEY_NOT_VALID, "The log's key was not valid when the certificate was signed.")
    same_origin = [other.key for other in root.logs if other.key.name == log.key.name]
    checkpoint, signed_by = checkpoints.verify(proof.checkpoint.envelope, same_origin)
    if log.key not in signed_by:
        raise _log_error(Code.CHECKPOINT_SIGNATURE_INVALID, "Another key of the log signed than the one named.")
    if (checkpoint.size, checkpoint.root) != (proof.tree_size, proof.root_hash):
        raise _log_error(Code.CHECKPOINT_MISMATCH, "The proof is for another size or root than the checkpoint's.")
    leaf = leaf_hash(bundle.entry.canonicalized_body)
    verify_inclusion(proof.log_index, checkpoint.size, leaf, proof.hashes, checkpoint.root)
    return checkpoint, log


def _check_witnesses(bundle: Bundle, policy: Policy) -> tuple[NoteKey, ...]:
    """Step 5: enough of the policy's witnesses cosigned the checkpoint. Returns those that did."""
    _, _, witnesses = policy.check(bundle.entry.inclusion_proof.checkpoint.envelope)
    return witnesses


def _check_standing(logged: Logged, proven: Checkpoint, logs: Sequence[Fetch], root: TrustedRoot) -> Checkpoint:
    """Step 6: nothing in the copies speaks against the certificate."""
    return standing.check(logged, proven, [standing.open_copy(fetch, root) for fetch in logs], root)


def _check_statement(bundle: Bundle, signer: TrustedSigner, at: datetime) -> Statement:
    """Step 7."""
    statement = from_payload(bundle.dsse_envelope.payload)
    rules.check(statement, signer_window=signer.valid_for, leaf_index=bundle.entry.log_index, at=at)
    return statement


def _check_artifacts(statement: Statement, artifacts: Mapping[str, str]) -> list[str]:
    """Step 8: the caller's files are files of the model that it is about. Returns what was checked."""
    named = {artifact.name: artifact.digest.sha256 for artifact in statement.subject}
    for name, digest in artifacts.items():
        if name not in named:
            raise CertificateError(
                Code.ARTIFACT_UNKNOWN,
                f"The certificate names no file {name!r}; it names {', '.join(sorted(named))}.",
                remedy="give the files under the names that the certificate has for them",
            )
        if named[name] != digest:
            raise CertificateError(
                Code.ARTIFACT_MISMATCH,
                f"The file {name!r} is not the one that the certificate is about{_where_from(statement, digest)}.",
                remedy="do not use this file as the model that the certificate is about; get it again from its issuer",
            )
    return [f"{len(artifacts)} of {len(named)} files"] if artifacts else []


def _where_from(statement: Statement, digest: str) -> str:
    if isinstance(statement, DeletionStatement) and any(
        artifact.digest.sha256 == digest for artifact in statement.predicate.before
    ):
        return ": it belongs to the model before the deletion"
    return ""


def _check_openings(statement: Statement, openings: Mapping[str, bytes]) -> list[str]:
    """Step 8: the certificate is about each of these people. Returns what was checked."""
    named = () if isinstance(statement, CommitmentStatement) else statement.predicate.subject_commitments
    for subject, opening in openings.items():
        if subject_commitment(opening, subject) not in named:
            raise CertificateError(
                Code.OPENING_MISMATCH,
                f"With this opening, no commitment of the certificate is to {subject!r}.",
                remedy="give the name exactly as the issuer knows it, with the opening for this certificate",
            )
    return [f"the certificate is about {subject!r}" for subject in openings]


def _check_noise_commitment(
    statement: Statement, checkpoint: Checkpoint, bundle: bytes, trusted_root: bytes, at: datetime
) -> list[str]:
    """Step 8: the noise commitment is the one in the other certificate, at that place of the same log."""
    try:
        commitment = verify(bundle, trusted_root, at=at)
    except VerificationError as error:
        message = f"The noise commitment's own certificate fails in step {error.step}: {error.message}"
        raise CertificateError(error.code, message, remedy=error.remedy) from error
    deletion = statement.predicate if isinstance(statement, DeletionStatement) else None
    noise = deletion.procedure.noise if deletion else None
    made = commitment.statement.predicate if isinstance(commitment.statement, CommitmentStatement) else None
    if (
        deletion is None
        or noise is None
        or made is None
        or (noise.commitment, noise.algorithm, noise.log_index, checkpoint.origin)
        != (made.commitment, made.algorithm, commitment.leaf_index, commitment.origin)
    ):
        raise CertificateError(
            Code.COMMITMENT_MISMATCH,
            "The certificate of the noise commitment is not the one that the statement names.",
            remedy="give the certificate at the log index that the statement's procedure names",
        )
    if made.created_at > deletion.request.requested_at:
        raise CertificateError(
            Code.TIME_ORDER,
            "The secret of the noise was committed to only after the request was known.",
            remedy="do not rely on this deletion; ask the issuer for a correct certificate",
        )
    return ["the noise commitment, logged before it"]


def _report(
    logged: Logged,
    proven: Checkpoint,
    *,
    stamp: _Stamp | None,
    witnesses: Sequence[NoteKey] | None,
    latest: Checkpoint | None,
    checked: list[str],
) -> tuple[Step, ...]:
    when = f"when it signed, {stamp.at:%Y-%m-%d %H:%M:%S} UTC" if stamp else "at the time of verification"
    return (
        Step(1, "passed", "Certificate and trusted root are well-formed."),
        Step(2, "passed", f"Key {logged.key_id[:16]} is trusted {when}."),
        Step(3, "passed", "The signature is over exactly these bytes."),
        Step(4, "passed", f"{stamp.by} saw the signature at {stamp.at:%Y-%m-%d %H:%M:%S} UTC.")
        if stamp
        else Step(4, "not present", "No time stamp: when it was signed rests on the issuer's word."),
        Step(
            5,
            "passed",
            f"It is entry {logged.leaf_index} of {proven.size} in {proven.origin}, under the log's signature. "
            + ("No witness policy was given." if witnesses is None else _cosigned_by(witnesses)),
        ),
        Step(6, "passed", f"None of the {latest.size} entries of the log's copy speaks against it or its key.")
        if latest
        else Step(6, "not present", f"No log entries after the first {proven.size} were given."),
        Step(7, "passed", "All rules hold, and every number that follows from others in it was recomputed."),
        Step(8, "passed", f"Checked: {'; '.join(checked)}.")
        if checked
        else Step(8, "not present", "No model files and no openings were given to compare."),
    )


def _cosigned_by(witnesses: Sequence[NoteKey]) -> str:
    names = ", ".join(key.name for key in witnesses)
    return f"By the policy enough witnesses cosigned it: {names}." if names else "The policy asks for no witness."


def _step(number: int, check: Callable[[], T]) -> T:
    try:
        return check()
    except CertificateError as error:
        raise VerificationError(number, error.code, error.message, remedy=error.remedy) from error


def _timestamp_error(code: Code, message: str) -> CertificateError:
    return CertificateError(code, message, remedy="ask the issuer for the certificate as it was issued")


def _log_error(code: Code, message: str) -> CertificateError:
    return CertificateError(code, message, remedy="ask the issuer for the certificate as it was issued")
