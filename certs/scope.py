"""Whether a request's kind, its people, its modalities and the proofs of absence fit each other, in any statement.

It knows neither which proofs hold (`certs.absence`) nor what was done about the request.
"""

from collections.abc import Collection, Sequence
from typing import Never, get_args

from certs.errors import CertificateError, Code
from certs.statement import Modality, Scope

Proven = tuple[str, str | None]
"""A modality that is proven absent, and of whom (a commitment; None: of everybody)."""


def check_scope(scope: Scope, commitments: Sequence[str], proven: Collection[Proven]) -> None:
    """Refuse people, modalities and proofs that do not fit each other, or leave a part of the request unproven.

    Raises:
        CertificateError: ``scope-invalid``.
    """
    if len(set(commitments)) < len(commitments) or len(set(scope.modalities)) < len(scope.modalities):
        _refuse("A person or a modality is listed twice.")
    if scope.kind in ("subject", "subject-modality") and len(commitments) != 1:
        _refuse(f"A request of kind {scope.kind} is about one person.")
    if scope.kind == "modality" and commitments:
        _refuse("A request about everybody commits to no person.")
    if scope.kind in ("modality", "subject-modality") and len(scope.modalities) != 1:
        _refuse(f"A request of kind {scope.kind} is about one modality.")
    if not set(scope.modalities) <= {modality for modality, _ in proven}:
        _refuse("A modality of the request has no proof of absence.")
    if scope.kind == "modality" and (scope.modalities[0], None) not in proven:
        _refuse("The modality is not proven absent for everybody.")
    _check_people(scope, commitments, proven)


def _check_people(scope: Scope, commitments: Sequence[str], proven: Collection[Proven]) -> None:
    """The people committed to are those proven absent, and each from what the request is about."""
    people: dict[str, set[str]] = {}
    for modality, person in proven:
        if person is not None:
            people.setdefault(person, set()).add(modality)
    if people.keys() != set(commitments):
        _refuse("The people committed to are not those proven absent.")
    if any(modalities.isdisjoint(scope.modalities) for modalities in people.values()):
        _refuse("A person is not proven absent from any modality of the request.")
    if scope.kind == "subject" and any(modalities < set(get_args(Modality)) for modalities in people.values()):
        _refuse("The person is not proven absent from text, audio and vision.")


def _refuse(message: str) -> Never:
    raise CertificateError(
        Code.SCOPE_INVALID,
        f"The statement is signed, but contradicts itself. {message}",
        remedy="do not rely on this certificate; ask the issuer for a correct one",
    )
