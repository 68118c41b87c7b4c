"""Whose request is whose. One that is not the caller's is one that there is not: both are answered alike."""

from sqlalchemy import Connection

from api.principals import Principal
from api.problems import Kind, ProblemError
from mbd.records import requests
from mbd.records.requests import Revocation


def visible(connection: Connection, principal: Principal, revocation_id: str) -> Revocation:
    """A request that the caller may see.

    Raises:
        ProblemError: there is none of that id, or it is not theirs.
    """
    found = requests.find(connection, revocation_id)
    if found is not None and principal.sees_all:
        return found
    if found is None or not is_mine(found, principal):
        raise ProblemError(Kind.NOT_FOUND, "There is no request of that id, or it is not yours.")
    return found


def is_mine(revocation: Revocation, principal: Principal) -> bool:
    """Whether the caller filed it, or is the person whom it is about."""
    if revocation.filed_by == principal.id:
        return True
    return principal.subject_key is not None and revocation.subject_key == principal.subject_key
