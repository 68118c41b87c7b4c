"""Requests as they come in over the API: filed, whose they are, and whether they repeat another.

Nobody has to be known to file: that a name is in no cohort is found by the officer who reviews, and told to nobody
whose identity was not verified. Each function works in the caller's transaction (`mbd.workflow.decisions.deciding`).
"""

import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection

from mbd.errors import FilingError
from mbd.hashing import json_digest
from mbd.naming import LONGEST, is_plain_name
from mbd.records import contacts, messages, requests
from mbd.records.lifecycle import Action
from mbd.records.messages import Message
from mbd.records.requests import WORKER, Actor, Revocation
from mbd.records.suppression import EVERYONE, Channel
from mbd.settings import Settings
from mbd.workflow.decisions import deadlines_of
from mbd.workflow.notifying import check_contact, verify_code
from mbd.workflow.office import Office

_REGIME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")


@dataclass(frozen=True)
class Filing:
    """What somebody asks.

    Attributes:
        subject_key: of the person.
        modalities: to be withdrawn.
        regime: the law or policy that it is made under.
        contact: where the person can be reached, if a notifier is there.
    """

    subject_key: str
    modalities: frozenset[str]
    regime: str
    contact: str | None = field(default=None, repr=False)


def subject_key_of(office: Office, subject: str) -> str:
    """How the database names somebody.

    Raises:
        FilingError: it can be nobody's name in a cohort.
    """
    if not is_plain_name(subject) or len(subject) > LONGEST or subject == EVERYONE:
        raise FilingError(
            "The subject can be nobody's name in a cohort.",
            remedy=f"give it as a cohort has it: at most {LONGEST} printable characters, in Unicode form NFC, without"
            " spaces around it",
        )
    return office.identities.subject_key(subject)


def new_revocation(settings: Settings, scope: Sequence[Channel], regime: str, *, requested_at: datetime) -> Revocation:
    """A request that was not asked before: asking the same again is another one."""
    text = {
        "nonce": secrets.token_hex(16),
        "regime": regime,
        "requestedAt": requested_at.isoformat(),
        "scope": [[channel.subject_key, channel.modality] for channel in scope],
    }
    digest = json_digest(text)
    due = deadlines_of(settings, regime, requested_at).answer
    return Revocation(f"rev-{digest[:16]}", digest, regime, tuple(scope), requested_at, due)


def check_regime(regime: str) -> None:
    """Refuse what cannot stand in a certificate.

    Raises:
        FilingError: it is not a short name.
    """
    if not _REGIME.fullmatch(regime):
        raise FilingError(
            "The regime cannot stand in a certificate.", remedy="use a short name, such as gdpr, ccpa or bipa"
        )


def file(
    office: Office,
    connection: Connection,
    filing: Filing,
    *,
    by: Actor,
    proof: str | None = None,
    when_filed: Callable[[Revocation], None] | None = None,
) -> Revocation:
    """Keep a request, and begin to find out whose it is.

    With a proof of identity it is verified at once; with a contact the person is asked for a code; otherwise an officer
    has to attest it.

    Args:
        office: the deployment.
        connection: that holds the lock.
        filing: what is asked.
        by: who files.
        proof: how it is known already that the person asks it, for example a login; None if it is not.
        when_filed: does what has to be there before anything follows on the request: an endpoint that is to hear of it.

    Raises:
        FilingError: something in it cannot be taken.
    """
    check_regime(filing.regime)
    now = office.clock()
    scope = sorted(Channel(filing.subject_key, modality) for modality in filing.modalities)
    revocation = new_revocation(office.settings, scope, filing.regime, requested_at=now)
    filed = requests.file(connection, revocation, by=by)
    if when_filed is not None:
        when_filed(filed)
    if filing.contact is not None:
        check_contact(office.settings, filing.contact)
        contacts.keep(connection, filed.id, office.identities.seal(filing.contact.encode(), filed.id))
        messages.enqueue(connection, filed.id, Message.RECEIVED, now)
    if proof is not None:
        return _verified(connection, filed, by=by, proof=proof, at=now)
    if filing.contact is not None:
        return ask_for_code(office, connection, filed)
    return filed


def ask_for_code(office: Office, connection: Connection, revocation: Revocation) -> Revocation:
    """Send the person a code, or another one.

    Raises:
        IdentityError: no contact was given, or too many codes were sent.
        TransitionError: the identity is verified already, or the request has ended.
    """
    now = office.clock()
    asked = requests.act(connection, revocation.id, Action.CHALLENGE, by=WORKER, at=now)
    messages.enqueue_code(connection, revocation.id, now)
    return asked


def verify_with_code(
    office: Office, connection: Connection, revocation: Revocation, code: str, *, by: Actor
) -> Revocation | None:
    """Verify an identity by a code that was sent; None where it is wrong, which was counted: commit it.

    Raises:
        IdentityError: no code was sent, it has expired, or too many wrong ones were given.
        TransitionError: the identity is verified already, or the request has ended.
    """
    now = office.clock()
    if not verify_code(office, connection, revocation, code, now):
        return None
    return _verified(connection, revocation, by=by, proof="a code that was sent to the person's contact", at=now)


def verify_with_proof(
    office: Office, connection: Connection, revocation: Revocation, proof: str, *, by: Actor
) -> Revocation:
    """Verify an identity by a login as that person, or because an officer attests it.

    Raises:
        TransitionError: the identity is verified already, or the request has ended, or it is not theirs to verify.
    """
    return _verified(connection, revocation, by=by, proof=proof, at=office.clock())


def _verified(connection: Connection, revocation: Revocation, *, by: Actor, proof: str, at: datetime) -> Revocation:
    """Only now are duplicates looked for: before, a stranger's request could have blocked the person's own."""
    verified = requests.act(connection, revocation.id, Action.VERIFY_IDENTITY, by=by, at=at, reason=proof)
    first = requests.covering(connection, verified)
    if first is None:
        return verified
    messages.enqueue(connection, revocation.id, Message.DUPLICATE, at)
    return requests.act(connection, revocation.id, Action.FIND_DUPLICATE, by=WORKER, at=at, reason=first.id)
