"""Statements to the bytes that are signed and back: the one list of the predicate types that a verifier knows."""

from typing import TypeAlias

from certs.absence_statement import MODALITY_ABSENCE, AbsenceStatement
from certs.encoding import parse_json, shown
from certs.errors import CertificateError, Code
from certs.statement import MODALITY_DELETION, NOISE_COMMITMENT, CommitmentStatement, DeletionStatement

Statement: TypeAlias = DeletionStatement | CommitmentStatement | AbsenceStatement

_REMEDY = "ask the issuer which version of the statement this is, and use a verifier of that version"


def to_payload(statement: Statement) -> bytes:
    """The bytes to sign: RFC 8785.

    Raises:
        CertificateError: when reading the bytes back would not give the same statement.
    """
    payload = statement.canonical()
    if from_payload(payload) != statement:
        raise CertificateError(
            Code.STATEMENT_MALFORMED,
            "The statement changes when it is written and read again.",
            remedy="build it with the types that its fields declare",
        )
    return payload


def from_payload(payload: bytes) -> Statement:
    """The statement that signed bytes say.

    Raises:
        CertificateError: ``json-*``, ``predicate-unknown`` or ``statement-malformed``.
    """
    value = parse_json(payload)
    predicate_type = value.get("predicateType") if isinstance(value, dict) else None
    if predicate_type == MODALITY_DELETION:
        return DeletionStatement.parse(payload, Code.STATEMENT_MALFORMED, remedy=_REMEDY)
    if predicate_type == NOISE_COMMITMENT:
        return CommitmentStatement.parse(payload, Code.STATEMENT_MALFORMED, remedy=_REMEDY)
    if predicate_type == MODALITY_ABSENCE:
        return AbsenceStatement.parse(payload, Code.STATEMENT_MALFORMED, remedy=_REMEDY)
    raise CertificateError(
        Code.PREDICATE_UNKNOWN, f"The statement's predicate type is {shown(predicate_type)}.", remedy=_REMEDY
    )
