"""A real process that sends messages and is killed before it records it: `notify_and_die.py URL HOME PORT`."""

import os
import signal
import sys
from pathlib import Path

from sqlalchemy import event

from mbd.records.database import open_database
from mbd.settings import Settings
from mbd.workflow.identities import load_identities
from mbd.workflow.notifying import open_notifier, send_due
from mbd.workflow.office import Office, utc_now


def main(url: str, home: str, port: str) -> None:
    engine = open_database(url)

    def die(_connection, _cursor, statement: str, *_rest) -> None:
        if statement.startswith("UPDATE message SET") and "sent_at=" in statement.partition("WHERE")[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(engine, "before_cursor_execute", die)
    settings = Settings(notifier=f"smtp://127.0.0.1:{port}", mail_from="Privacy desk <privacy@example.org>")
    office = Office(settings, Path(home), engine, load_identities(Path(home)), utc_now)
    send_due(office, open_notifier(settings), limit=10)


main(*sys.argv[1:])
