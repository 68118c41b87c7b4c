"""Hands a person the opening of a certificate that is about them. It knows who is asked about only by what it is told.

Whoever has the opening can show that the certificate is about that name (`certs.verification.verify`), offline.
"""

from certs.commitment import Opening, subject_commitment
from certs.payload import from_payload
from certs.statement import CommitmentStatement
from mbd.errors import RecordsError, UnknownSubjectError
from mbd.records import certificates, commitments
from mbd.records.certificates import Certificate
from mbd.records.database import begin_snapshot
from mbd.workflow.issuance import envelope_of
from mbd.workflow.system import System


def opening_for(system: System, certificate_id: str, subject: str) -> Opening:
    """The opening that ties a certificate to a name.

    Raises:
        RecordsError: there is no such certificate, or this opening was destroyed.
        UnknownSubjectError: it is not about that name.
    """
    with begin_snapshot(system.engine) as connection:
        certificate = certificates.get(connection, certificate_id)
        openings = commitments.openings_of(connection, [certificate_id]).get(certificate_id, ())
    named = commitments_in(certificate)
    for opening in openings:
        if subject_commitment(opening, subject) in named:
            return Opening(opening=opening.hex(), subject=subject)
    if len(openings) < len(named):
        raise RecordsError(
            f"Of certificate '{certificate_id}' {len(named) - len(openings)} of {len(named)} openings were destroyed, "
            f"and none that is left is for '{subject}'.",
            remedy="a destroyed opening cannot be made again: only who was given it has it",
        )
    raise UnknownSubjectError(
        f"The certificate '{certificate_id}' is not about '{subject}'.",
        remedy="give the name exactly as the cohort has it; `mbd lineage --subject` lists a person's certificates",
    )


def commitments_in(certificate: Certificate) -> tuple[str, ...]:
    """How a certificate names its people (hex); none where it is about everyone.

    Raises:
        CertificateError: the stored envelope is damaged.
    """
    statement = from_payload(envelope_of(certificate).payload)
    assert not isinstance(statement, CommitmentStatement), "the table of certificates holds answers to requests alone"
    return statement.predicate.subject_commitments
