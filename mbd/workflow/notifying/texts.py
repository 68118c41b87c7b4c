"""What people are told, in plain English: every text of every message. It knows no names and no addresses."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from textwrap import TextWrapper
from types import MappingProxyType

from mbd.records.lifecycle import Denial
from mbd.records.messages import Message
from mbd.records.requests import Revocation

_CHANNELS = {"text": "your words", "audio": "your voice", "vision": "your face"}

_DENIALS: Mapping[str, str] = MappingProxyType(
    {
        Denial.SUSPECTED_FRAUD: "There are signs that it was not made by the person whom it is about.",
        Denial.INSUFFICIENT_VERIFICATION: "It could not be verified that it comes from the person whom it is about.",
        Denial.NO_MATCH: "Under the name that it gives, nothing of this kind is in our models.",
        Denial.CLAIM_NOT_COVERED: "The rules under which it was made do not cover what it asks for.",
        Denial.OUTSIDE_JURISDICTION: "The law under which it was made does not apply to the person whom it is about.",
        Denial.TOO_MANY_REQUESTS: "Too many requests were made for the same person in a short time.",
        Denial.OTHER: "It is none of the usual reasons. Ask us for it: we have to tell you.",
    }
)

_SUBJECTS: Mapping[Message, str] = MappingProxyType(
    {
        Message.CODE: "Your code for the {}",
        Message.RECEIVED: "We have received the {}",
        Message.EXTENDED: "We need more time for the {}",
        Message.DENIED: "The {} was denied",
        Message.DUPLICATE: "The {} repeats another one",
        Message.COMPLETED: "The {} was carried out",
    }
)

_NOT_YOURS = "If you have made no such request"
_RIGHTS = (
    "If you think that this is wrong, tell us. Depending on where you live, you can also complain to a data protection "
    "authority, or go to court."
)
_LINES = TextWrapper(76, break_long_words=False, break_on_hyphens=False)
_INDENT = "    "  # of what is not to be broken into lines


@dataclass(frozen=True)
class Facts:
    """What a message may speak of.

    Attributes:
        revocation: the request.
        origin: how the deployment's log is called.
        public_url: where people reach the service, if it is known.
        code: of a message with a code, and until when it is valid.
        valid_until: the latter, in UTC.
        reason: of an extension and a denial; of a duplicate, the request that it repeats.
        certificates: ids, of a request that was carried out.
    """

    revocation: Revocation
    origin: str
    public_url: str | None = None
    code: str | None = field(default=None, repr=False)
    valid_until: datetime | None = None
    reason: str | None = None
    certificates: tuple[str, ...] = ()


def subject_of(kind: Message, facts: Facts) -> str:
    """The subject line. It shows on locked screens, so it says neither what is asked nor the code."""
    return _SUBJECTS[kind].format(f"request {facts.revocation.id}")


def text_of(kind: Message, facts: Facts) -> str:
    """The whole text, in lines that any screen shows, ended by a newline."""
    said = "\n\n".join(each if each.startswith(_INDENT) else _LINES.fill(each) for each in _TEXTS[kind](facts))
    return f"Hello,\n\n{said}\n\n{_signature(facts)}\n"


def _code(facts: Facts) -> Sequence[str]:
    assert facts.code is not None, "only codes that there are, are sent"
    assert facts.valid_until is not None, "a code expires"
    until = f"{facts.valid_until:%H:%M} UTC on {_day(facts.valid_until)}"
    return (
        f"Your code for the request {facts.revocation.id} is",
        f"{_INDENT}{facts.code}",
        f"Enter it where the request was made, before {until}. It shows that you can read what we send you here.",
        f"{_NOT_YOURS}, give the code to nobody. You need not do anything else.",
    )


def _received(facts: Facts) -> Sequence[str]:
    return (
        f"We have received {_what(facts)}.",
        f"You will have an answer by {_day(facts.revocation.due)} at the latest.",
        f"{_NOT_YOURS}, please tell us.",
    )


def _extended(facts: Facts) -> Sequence[str]:
    return (
        f"We need more time for {_what(facts)}.",
        f"You will have an answer by {_day(facts.revocation.due)} at the latest.",
        f"The reason: {_one_line(facts.reason)}",
        _RIGHTS,
    )


def _denied(facts: Facts) -> Sequence[str]:
    why = _DENIALS.get(facts.reason or "", _DENIALS[Denial.OTHER])
    return f"We have denied {_what(facts)}.", f"The reason: {why}", _RIGHTS


def _duplicate(facts: Facts) -> Sequence[str]:
    return (
        f"We have closed {_what(facts)}, because you have asked for all of that before, in the request",
        f"{_INDENT}{_one_line(facts.reason)}",
        "That one counts, with its earlier date. You need not do anything.",
    )


def _completed(facts: Facts) -> Sequence[str]:
    base = "" if facts.public_url is None else f"{facts.public_url.rstrip('/')}/v1/certificates/"
    places = "\n".join(f"{_INDENT}{base}{each}" for each in facts.certificates)
    where = "You can fetch them where the request was made. " if facts.public_url is None else ""
    done = (
        f"We no longer use {_channels(facts.revocation)}, and have made our models forget what they had learned. What "
        "exactly was done, and how far that is guaranteed, stands in a certificate for each model:"
    )
    proof = (
        f"{where}They are recorded in the log {facts.origin}. Anybody can verify them with the program mbd, without "
        "having to trust us."
    )
    return f"We have carried out {_what(facts)}.", done, places, proof


def _signature(facts: Facts) -> str:
    why = (
        f"You get this because your address was given with the request {facts.revocation.id}. It is deleted here when "
        "the request has ended."
    )
    return f"-- \n{facts.public_url or facts.origin}\n{_LINES.fill(why)}"


def _what(facts: Facts) -> str:
    request = facts.revocation
    return f"the request {request.id} of {_day(request.requested_at)} to stop using {_channels(request)}"


def _channels(request: Revocation) -> str:
    asked = {channel.modality for channel in request.scope}
    names = [name for modality, name in _CHANNELS.items() if modality in asked]
    names += sorted(asked - set(_CHANNELS))
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _day(moment: date | datetime) -> str:
    return f"{moment.day} {moment:%B %Y}"


def _one_line(reason: str | None) -> str:
    return " ".join((reason or "").split())


_TEXTS: Mapping[Message, Callable[[Facts], Sequence[str]]] = MappingProxyType(
    {
        Message.CODE: _code,
        Message.RECEIVED: _received,
        Message.EXTENDED: _extended,
        Message.DENIED: _denied,
        Message.DUPLICATE: _duplicate,
        Message.COMPLETED: _completed,
    }
)
