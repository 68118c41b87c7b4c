"""A real process that appends: `appender.py URL COUNT NAME [STATEMENT]`.

With a STATEMENT, it stops for ever as soon as one that contains it has been executed and before anything follows.
"""

import sys
import time

from sqlalchemy import event

from mbd.records import ledger
from mbd.records.database import begin_locked, open_database


def main(url: str, count: str, name: str, statement: str | None = None) -> None:
    engine = open_database(url)

    def stop(_connection, _cursor, executed: str, *_rest) -> None:
        if statement is not None and statement in executed:
            say("stopped")
            time.sleep(600)

    event.listen(engine, "after_cursor_execute", stop)
    for number in range(int(count)):
        with begin_locked(engine) as connection:
            appended = ledger.append(connection, f"{name} {number}".encode())
        say(f"{appended.leaf_index} {appended.head.root.hex()}")
    engine.dispose()


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


main(*sys.argv[1:])
