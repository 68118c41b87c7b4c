"""A real process that sends what is due and is killed before it records it: `send_and_die.py URL SECRET HOST:PORT`."""

import os
import signal
import ssl
import sys
from datetime import UTC, datetime

from sqlalchemy import event

from mbd.records.database import open_database
from mbd.workflow.callbacks.policy import UrlPolicy
from mbd.workflow.callbacks.sending import Sender
from mbd.workflow.callbacks.standard import NAME, StandardWebhooks
from mbd.workflow.identities import Identities


def main(url: str, secret: str, host: str) -> None:
    engine = open_database(url)

    def die(_connection, _cursor, statement: str, *_rest) -> None:
        if statement.startswith("UPDATE delivery SET") and "delivered_at=" in statement.partition("WHERE")[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(engine, "before_cursor_execute", die)
    name, port = host.split(":")
    Sender(
        engine,
        {NAME: StandardWebhooks(Identities(bytes.fromhex(secret)))},
        UrlPolicy(hosts=frozenset({(name, int(port))})),
        ssl.create_default_context(),
        lambda: datetime.now(UTC),
    ).send_due(limit=10)


main(*sys.argv[1:])
