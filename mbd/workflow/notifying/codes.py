"""What a code is worth that comes back. Codes are kept nowhere: they are computed to be sent, and again to be compared.

A right code says that whoever gave it can read what is sent to the contact, and nothing about whose contact that is.
"""

import hmac
from datetime import datetime, timedelta

from sqlalchemy import Connection

from mbd.errors import IdentityError
from mbd.records import contacts, messages
from mbd.records.messages import Outgoing
from mbd.records.requests import Revocation
from mbd.settings import Settings
from mbd.workflow.office import Office

MOST_WRONG = 5
"""Wrong codes that may be given for one request, however many codes are sent."""

_BETWEEN_DIGITS = str.maketrans("", "", " -")


def verify_code(office: Office, connection: Connection, revocation: Revocation, given: str, at: datetime) -> bool:
    """Whether a code is the last one that was sent for a request.

    A wrong one is counted in the caller's locked transaction, so False has to be committed. What raises has changed
    nothing. A right one stays right until it expires: whoever takes it moves the request on in the same transaction.

    Raises:
        IdentityError: no code was sent, it has expired, or too many wrong ones were given.
    """
    contact = contacts.get(connection, revocation.id)
    message = messages.current_code(connection, revocation.id)
    if contact is None or message is None:
        raise IdentityError(
            "No code was sent for this request.", remedy="ask for one, or let an officer attest who it is"
        )
    if contact.wrong_codes >= MOST_WRONG:
        raise IdentityError(
            f"{MOST_WRONG} wrong codes were given for this request, and no more are looked at.",
            remedy="let an officer attest who it is",
        )
    if at >= valid_until(office.settings, message):
        raise IdentityError("The code has expired.", remedy="ask for another one")
    expected = office.identities.code(revocation.id, message.number)
    if hmac.compare_digest(expected.encode(), given.translate(_BETWEEN_DIGITS).encode(errors="replace")):
        return True
    contacts.count_wrong_code(connection, revocation.id)
    return False


def valid_until(settings: Settings, message: Outgoing) -> datetime:
    """When the code of a message expires."""
    return message.created_at + timedelta(minutes=settings.code_minutes)
