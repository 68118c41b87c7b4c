"""What every format of call-backs promises: to make the message of a delivery. It knows none of them by name.

A new format is one class in one file, and one entry in the mapping that `sending.Sender` is given.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from mbd.records.webhooks import Delivery, Webhook


@dataclass(frozen=True)
class Message:
    """What is posted: the body, and the headers that say what it is and who signed it."""

    body: bytes
    headers: Mapping[str, str]


class Format(Protocol):
    """How endpoints of one kind are spoken to."""

    def message(self, webhook: Webhook, delivery: Delivery, *, at: datetime) -> Message:
        """The message of a delivery, signed at a time.

        The body follows from the delivery alone, so that every try says the same; where a format has no way to tell
        old news from new, it follows from how things are now.

        Raises:
            MbdError: it cannot be made now; it is tried again later.
        """
