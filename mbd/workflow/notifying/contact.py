"""What a contact may be: one e-mail address, or ``scheme:value`` for a notifier that somebody plugs in."""

import re
from email.policy import SMTP as WIRE

from mbd.errors import FilingError
from mbd.settings import Settings

LONGEST = 254
"""Characters of a contact: the most that an address can have in SMTP (RFC 5321, section 4.5.3.1.3)."""

_LONGEST_LOCAL_PART = 64

# No quoted local part, comment, group, route or address literal: of what RFC 5322 allows, one plain address is left.
_WORD = r"""[^\s@"(),:;<>\[\]\\.]+"""
_WORDS = rf"{_WORD}(?:\.{_WORD})*"
_EMAIL = re.compile(f"({_WORDS})@{_WORDS}")
_OTHER = re.compile(r"[a-z][a-z0-9+.-]*:.+")


def check_contact(settings: Settings, contact: str) -> None:
    """Refuse a contact that this deployment could send nothing to.

    Raises:
        FilingError: it sends no messages, or the contact is of no form that it can send to.
    """
    if settings.notifier is None:
        raise FilingError(
            "This service sends no messages, so it keeps no contact.",
            remedy="leave it out; an officer attests who it is",
        )
    if is_email(contact):
        return
    if settings.notifier.startswith("smtp"):
        raise FilingError("The contact is not one e-mail address.", remedy="give it as name@example.org, and only that")
    if not (len(contact) <= LONGEST and contact.isprintable() and _OTHER.fullmatch(contact)):
        raise FilingError(
            "The contact is neither an e-mail address nor of the form scheme:value.",
            remedy=f"give one of them, in at most {LONGEST} printable characters",
        )


def is_email(contact: str) -> bool:
    """Whether it is exactly one address, with nothing around it that a mail server could read as something else."""
    match = _EMAIL.fullmatch(contact)
    if match is None or len(contact) > LONGEST or len(match[1]) > _LONGEST_LOCAL_PART or not contact.isprintable():
        return False
    read = WIRE.header_factory("To", contact)  # as others will read it
    return [address.addr_spec for address in read.addresses] == [contact]
