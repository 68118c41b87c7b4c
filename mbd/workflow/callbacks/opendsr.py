"""The format of OpenDSR 2.0: tells the controller how far its request has come, signed by the processor's RSA key.

Such a call-back has no number by which the receiver could put two in order. Each therefore says how things are when it
is sent, so that one that comes late repeats the newest and does not bring back an old status.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine

from mbd.hashing import canonical_json
from mbd.records import opendsr, requests, webhooks
from mbd.records.database import begin_snapshot
from mbd.records.webhooks import Delivery, Webhook
from mbd.workflow.callbacks.formats import Message
from mbd.workflow.opendsr import Processor

NAME = "opendsr"


def register(connection: Connection, url: str, *, owner: str, revocation_id: str, at: datetime) -> None:
    """Keep an endpoint for one request, in the caller's transaction.

    Args:
        connection: that holds the lock.
        url: as the controller wrote it, because call-backs repeat it; `UrlPolicy.admit` has let it pass.
        owner: the controller's id.
        revocation_id: the request.
        at: when.
    """
    webhook = Webhook(f"wh_{secrets.token_hex(16)}", owner, url, NAME, at, revocation_id=revocation_id)
    webhooks.register(connection, webhook)


@dataclass(frozen=True)
class OpenDsr:
    """The format, as one processor speaks it.

    Attributes:
        engine: where the requests are.
        processor: who signs.
    """

    engine: Engine
    processor: Processor

    def message(self, webhook: Webhook, delivery: Delivery, *, at: datetime) -> Message:
        """The status of the endpoint's request now.

        Raises:
            RecordsError: the database cannot be reached.
        """
        assert webhook.revocation_id is not None, "this format registers endpoints of one request alone"
        with begin_snapshot(self.engine) as connection:
            submission = opendsr.of_revocation(connection, webhook.revocation_id)
            revocation = requests.get(connection, webhook.revocation_id)
        assert submission is not None, "it was kept in the transaction that registered the endpoint"
        status = self.processor.status(submission, revocation)
        body = canonical_json(status | {"status_callback_url": webhook.url})
        return Message(body, {"content-type": "application/json", **self.processor.headers(body)})
