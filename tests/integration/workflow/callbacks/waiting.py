"""Deliveries that wait for a receiver, a sender for them, and what is recorded of them."""

import ssl
from datetime import date, datetime

from sqlalchemy import Engine, select

from mbd.records import requests, tables, webhooks
from mbd.records.database import begin_locked, begin_snapshot
from mbd.records.lifecycle import Action, Role
from mbd.records.requests import Actor, Revocation
from mbd.records.suppression import Channel
from mbd.records.webhooks import Delivery, Webhook
from mbd.workflow.callbacks.policy import UrlPolicy
from mbd.workflow.callbacks.sending import Sender
from mbd.workflow.callbacks.standard import NAME, Registered, StandardWebhooks
from mbd.workflow.identities import Identities
from tests.integration.workflow.callbacks.receivers import Receiver

FORMAT = StandardWebhooks(Identities(b"i" * 32))
OFFICER = Actor(Role.OFFICER, "key-1")


class Clock:
    """A time that tests move."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


def sender_of(engine: Engine, receiver: Receiver, clock: Clock, **other) -> Sender:
    policy = UrlPolicy(hosts=frozenset({("127.0.0.1", receiver.port)}))
    chosen = {"policy": policy, "tls": ssl.create_default_context(), "chance": lambda: 0.0} | other
    return Sender(engine, {NAME: FORMAT}, clock=clock, **chosen)


def announce(engine: Engine, url: str, policy: UrlPolicy, now: datetime) -> Registered:
    """File a request, register an endpoint for it, and verify the identity."""
    asked = Revocation("r1", "d1", "gdpr", (Channel("anna-key", "audio"),), now, date(2027, 4, 1))
    target = policy.admit(url)
    with begin_locked(engine) as connection:
        requests.file(connection, asked, by=OFFICER)
        registered = FORMAT.register(connection, target, owner="key-1", revocation_id="r1", at=now)
        requests.act(connection, "r1", Action.VERIFY_IDENTITY, by=OFFICER, at=now)
    return registered


def wait_for(engine: Engine, receiver: Receiver, clock: Clock, **other) -> tuple[Sender, Registered]:
    """A sender for whom one delivery to the receiver waits."""
    sender = sender_of(engine, receiver, clock, **other)
    return sender, announce(engine, f"http://127.0.0.1:{receiver.port}/hook?t=token", sender.policy, clock())


def delivery(engine: Engine) -> Delivery:
    with begin_snapshot(engine) as connection:
        return Delivery(**connection.execute(select(tables.delivery)).one()._asdict())


def endpoint(engine: Engine) -> Webhook:
    with begin_snapshot(engine) as connection:
        (found,) = webhooks.of_owner(connection, "key-1")
    return found
