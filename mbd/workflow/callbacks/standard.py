"""The format of Standard Webhooks 1.0: registers endpoints, and signs ``id.timestamp.body`` twice.

``v1`` is HMAC-SHA256 under the secret that an endpoint's owner was shown once: it says that the message was meant for
that endpoint. ``v1a`` is Ed25519 under a key of the deployment: everybody can verify it, and it says who sent it.
"""

import base64
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection
from standardwebhooks import Webhook as Signer

from mbd.records import webhooks
from mbd.records.webhooks import Delivery, Webhook
from mbd.workflow.callbacks.formats import Message
from mbd.workflow.callbacks.policy import Target
from mbd.workflow.identities import Identities

NAME = "standard-webhooks"

_SECRET_BYTES = 32
_PURPOSE = "call-backs Ed25519 v1"


@dataclass(frozen=True)
class Registered:
    """A new endpoint, and its secret, which is shown this once."""

    webhook: Webhook
    secret: str = field(repr=False)


@dataclass(frozen=True)
class StandardWebhooks:
    """The format, under one deployment's secret."""

    identities: Identities

    def register(
        self, connection: Connection, target: Target, *, owner: str, revocation_id: str | None, at: datetime
    ) -> Registered:
        """Keep a new endpoint, in the caller's transaction.

        Args:
            connection: that holds the lock.
            target: what `UrlPolicy.admit` made of its URL, before the transaction began.
            owner: the id of who registers it.
            revocation_id: the request that it is to be told about; None for all, which takes the right to review.
            at: when.
        """
        webhook_id = f"wh_{secrets.token_hex(16)}"
        secret = f"whsec_{base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()}"
        sealed = self.identities.seal(secret.encode(), _context(webhook_id))
        webhook = Webhook(webhook_id, owner, target.url, NAME, at, sealed, revocation_id)
        webhooks.register(connection, webhook)
        return Registered(webhook, secret)

    def message(self, webhook: Webhook, delivery: Delivery, *, at: datetime) -> Message:
        """The delivery's body with both signatures.

        Raises:
            SettingsError: the endpoint's secret does not open.
        """
        assert webhook.sealed_secret is not None, "this format registers no endpoint without a secret"
        secret = self.identities.open(webhook.sealed_secret, _context(webhook.id)).decode()
        headers = {
            "content-type": "application/json",
            "webhook-id": delivery.id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": sign(delivery.id, delivery.body, at, secret=secret, key=self._key),
        }
        return Message(delivery.body.encode(), headers)

    @property
    def public_key(self) -> str:
        """What verifies ``v1a``: ``whpk_`` and the 32 bytes of the key in base64."""
        return f"whpk_{base64.b64encode(self._key.public_key().public_bytes_raw()).decode()}"

    @cached_property
    def _key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.identities.derive(_PURPOSE))


def sign(message_id: str, body: str, at: datetime, *, secret: str, key: Ed25519PrivateKey) -> str:
    """Both signatures of a message, as the header has them; ``at`` is in UTC."""
    public = key.sign(f"{message_id}.{int(at.timestamp())}.{body}".encode())
    return f"{Signer(secret).sign(message_id, at, body)} v1a,{base64.b64encode(public).decode()}"


def _context(webhook_id: str) -> str:
    return f"call-back secret {webhook_id}"
