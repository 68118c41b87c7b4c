"""Real mail servers on the loopback, and what they got."""

import re
import ssl
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP as WIRE
from typing import Any

from aiosmtpd.smtp import Envelope


@dataclass
class Inbox:
    """A mail server that answers each mail with the next of `answers`, and takes it if there is none.

    Attributes:
        got: the envelope of every mail that was sent.
    """

    answers: list[str] = field(default_factory=list)
    got: list[Envelope] = field(default_factory=list)
    port: int = 0

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Envelope) -> str:
        self.got.append(envelope)
        return self.answers.pop(0) if self.answers else "250 taken"


def mails_of(inbox: Inbox) -> list[EmailMessage]:
    return [message_from_bytes(each.content, policy=WIRE) for each in inbox.got]


def codes_of(inbox: Inbox) -> list[str]:
    return [re.search(r"^    (\d{8})$", text_of(mail), re.MULTILINE)[1] for mail in mails_of(inbox)]


def text_of(mail: EmailMessage) -> str:
    return mail.get_content().replace("\r\n", "\n")


@dataclass(frozen=True)
class Tls:
    """Both sides of TLS with a certificate for localhost."""

    server: ssl.SSLContext
    client: ssl.SSLContext
