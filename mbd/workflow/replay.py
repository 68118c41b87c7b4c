"""Replay a certificate against a deployment: recompute what it claims from the rows that remain, and say what matched.

It needs what the operator holds (rows, statistics, the noise secret), so it is the operator's and a chartered auditor's
tool; everyone else uses `certs.verification`. It changes nothing.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from certs.absence_statement import AbsenceStatement
from certs.statement import Artifact, CommitmentStatement, DeletionStatement, Manifest, ModalityDeletion
from certs.verification import Verified, verify
from mbd.cohort import folder
from mbd.cohort.cohort import Cohort
from mbd.cohort.modality import ModalitySet, parse_pattern, pattern_name
from mbd.errors import DeletionError
from mbd.hashing import file_digest, json_digest
from mbd.lattice.fit import training_rows
from mbd.lattice.model import LatticeModel, load_model
from mbd.lattice.release import normal_equations, remove_noise, sensitivity
from mbd.lattice.solve import residual
from mbd.lattice.statistics import Statistics
from mbd.privacy.gaussian import sigma_for
from mbd.records import certificates, requests
from mbd.records.database import begin_snapshot
from mbd.workflow.claim import batch_digest
from mbd.workflow.system import System

OnCheck = Callable[[str], None]


@dataclass(frozen=True)
class Check:
    """One thing that was recomputed.

    Attributes:
        name: what it is.
        matched: whether it is as the certificate says.
        detail: the two sides, in a few words.
    """

    name: str
    matched: bool
    detail: str


@dataclass(frozen=True)
class Replay:
    """All checks of one certificate."""

    verified: Verified
    checks: tuple[Check, ...]

    @property
    def matched(self) -> bool:
        """Whether everything is as the certificate says."""
        return all(check.matched for check in self.checks)


def replay(system: System, bundle: bytes, *, on_check: OnCheck = lambda name: None) -> Replay:
    """Verify a certificate, then recompute its manifest, statistics, residuals, sigma and noise from D'.

    Of a certificate of absence: the manifest of the live version's rows, and that none of them has the channels.

    Raises:
        VerificationError: the certificate itself is invalid.
        DeletionError: it is not about the live version of one of this deployment's lines. Earlier versions cannot be
            replayed: their rows are gone, which is what later deletions were for.
    """
    verified = verify(bundle, system.keyring.trusted_root, at=system.clock())
    statement = verified.statement
    if isinstance(statement, CommitmentStatement):
        raise DeletionError(
            "This is a noise commitment, not the certificate of a deletion.", remedy="give a deletion's certificate"
        )
    predicate = statement.predicate
    line, number = predicate.lineage.model_line, predicate.lineage.version
    live = system.live(line)
    if live.version != number:
        raise DeletionError(
            f"The certificate is about version {number} of '{line}', and version {live.version} is live: "
            "later deletions removed rows that it was made from.",
            remedy="replay the line's latest certificate; verify this one with `mbd certificate verify`",
        )
    checks = []
    found = _checks(system, statement) if isinstance(statement, DeletionStatement) else _absence(system, statement)
    for check in found:
        on_check(check.name)
        checks.append(check)
    return Replay(verified, tuple(checks))


def _checks(system: System, statement: DeletionStatement) -> Iterator[Check]:
    predicate = statement.predicate
    line, number = predicate.lineage.model_line, predicate.lineage.version
    yield _files(system, line, number, statement.subject)
    yield _manifest(system, line, number, predicate.dataset.manifest_after, "manifest of D'")

    cohort = folder.read(system.cohort_folder(line, number))
    model = load_model(system.model_folder(line, number))
    statistics = _recompute(model, cohort)
    commitment = statistics.commitment(model.salt)
    same = statistics == model.statistics and commitment == predicate.statistics.digest_after
    yield Check("statistics of D'", same, f"{statistics.rows} rows summed anew, commitment {commitment[:16]}")
    yield _heads(model, predicate)
    yield _sigma(model, predicate)
    noise = predicate.procedure.noise
    if noise is not None:
        matches = system.keyring.noise.matches(noise.commitment)
        yield Check("noise commitment", matches, "the secret is the one committed to" if matches else "another secret")
        yield _contexts(system, model, predicate)
    for pattern in model.layout.patterns:
        yield _residual(system, model, statistics, pattern)


def _absence(system: System, statement: AbsenceStatement) -> Iterator[Check]:
    dataset, lineage = statement.predicate.dataset, statement.predicate.lineage
    yield _files(system, lineage.model_line, lineage.version, statement.subject)
    yield _manifest(system, lineage.model_line, lineage.version, dataset.manifest, "manifest")
    leaves = folder.read_manifest(system.cohort_folder(lineage.model_line, lineage.version)).leaves
    held = sum(
        (leaf.partition, leaf.modality) == (proof.partition, proof.modality) and proof.subject in (leaf.subject, None)
        for leaf in leaves
        for proof in dataset.absence
    )
    yield Check("absence", not held, f"{held} of {len(leaves)} channels are what was withdrawn")


def _files(system: System, line: str, number: int, artifacts: Sequence[Artifact]) -> Check:
    where = system.model_folder(line, number)
    wrong = [a.name for a in artifacts if file_digest(where / a.name) != a.digest.sha256]
    return Check("model files", not wrong, f"changed: {', '.join(wrong)}" if wrong else "all digests are equal")


def _manifest(system: System, line: str, number: int, claimed: Manifest, name: str) -> Check:
    manifest = folder.read_manifest(system.cohort_folder(line, number))
    found = (manifest.root, len(manifest.leaves), manifest.rows)
    return Check(
        name,
        found == (claimed.root, claimed.leaves, claimed.rows),
        f"root {manifest.root[:16]} over {len(manifest.leaves)} channels of {manifest.rows} rows",
    )


def _recompute(model: LatticeModel, cohort: Cohort) -> Statistics:
    return model.featurizer.statistics(training_rows(cohort).restrict(model.layout.modalities))


def _heads(model: LatticeModel, predicate: ModalityDeletion) -> Check:
    """The heads that the certificate lists are all the heads that there are."""
    procedure = predicate.procedure
    listed = sorted([*procedure.unchanged, *(head.head for head in procedure.updated)])
    there = sorted(pattern_name(pattern) for pattern in model.heads)
    return Check("list of heads", listed == there, f"the model has {', '.join(there)}")


def _sigma(model: LatticeModel, predicate: ModalityDeletion) -> Check:
    """Every head's noise scale, recomputed from the line's public constants."""
    delta_2 = sensitivity(model.layout, model.policy)
    sigma = sigma_for(delta_2, model.policy.head_mu)
    heads = all(head.sigma == sigma for head in model.heads.values())
    claimed = all((head.sensitivity, head.sigma) == (delta_2, sigma) for head in predicate.procedure.updated)
    return Check("sigma", heads and claimed, f"{sigma:.6g} from Delta {delta_2:g} and mu {model.policy.head_mu:.4g}")


def _contexts(system: System, model: LatticeModel, predicate: ModalityDeletion) -> Check:
    """Each updated head's noise is bound to these requests, line, version, head and statistics, and to nothing else."""
    lineage = predicate.lineage
    with begin_snapshot(system.engine) as connection:
        together = certificates.of_version(connection, lineage.model_line, lineage.version)
        digests = {requests.get(connection, found.revocation_id).digest for found in together}
    bound = batch_digest(digests | {predicate.request.digest})
    expected = {
        "purpose": f"{lineage.model_line}/{lineage.version}/{bound}",
        "statistics": predicate.statistics.digest_after,
        "layout": json_digest(model.layout.as_json()),
        "tau": predicate.procedure.tau,
    }
    wrong = []
    for head in predicate.procedure.updated:
        context = json.loads(model.heads[parse_pattern(head.head)].context)
        named = {name: context[name] for name in (*expected, "head", "sigma")}
        if named != {**expected, "head": head.head, "sigma": head.sigma}:
            wrong.append(head.head)
    return Check(
        "noise contexts", not wrong, f"of another occasion: {', '.join(wrong)}" if wrong else "of this deletion"
    )


def _residual(system: System, model: LatticeModel, statistics: Statistics, pattern: ModalitySet) -> Check:
    """Subtract the replayed noise and hold the residual of what is left, over all coordinates, against tau."""
    mean_DK = remove_noise(model.heads[pattern], system.keyring.noise)
    matrix_DD, moment_DK = normal_equations(model.layout, statistics, pattern)
    _, bound = residual(matrix_DD, moment_DK, mean_DK)
    tau = model.policy.tau
    return Check(f"residual of head {pattern_name(pattern)}", bound <= tau, f"at most {bound:.3g}, tau {tau:g}")
