"""Sends what waits to be said, to people and to programs, beside a worker's work. It decides nothing.

Any number of clerks may run: each claims what it sends. One that dies leaves its claims, and they are sent again.
"""

import threading

from mbd.telemetry.logs import logger
from mbd.workflow.callbacks.opening import open_sender
from mbd.workflow.notifying import open_notifier, send_due
from mbd.workflow.office import Office

_ROUND_SECONDS = 1.0
_AT_ONCE = 50
_log = logger("mbd.clerk")


class Clerk:
    """A thread that sends, from ``with`` to its end.

    Raises:
        SettingsError: the notifier or a key of call-backs cannot be used; before anything is sent.
    """

    def __init__(self, office: Office) -> None:
        self._office, self._notifier, self._sender = office, open_notifier(office.settings), open_sender(office)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="clerk")

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        """What is being sent is sent to its end, which takes seconds: every try has a limit."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(_ROUND_SECONDS):
            for send in (self._send_messages, self._send_callbacks):
                try:
                    send()
                except Exception as error:  # noqa: BLE001 - the database may be back in the next round
                    _log.error("nothing was sent", error=error)

    def _send_messages(self) -> None:
        send_due(self._office, self._notifier, limit=_AT_ONCE)

    def _send_callbacks(self) -> None:
        self._sender.send_due(limit=_AT_ONCE)
