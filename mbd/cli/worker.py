"""``mbd worker``: carries out what was approved, until SIGTERM."""

import os
import signal
import sys
import threading
from types import FrameType

from mbd.cli.options import Home
from mbd.cli.output import command, settings_for


def worker(home: Home = None) -> None:
    """Carry out approved requests, until SIGTERM.

    Deletes, certifies and destroys, all requests that wait together; sends messages and call-backs. It may be killed at
    any time: the next one goes on where it was. On SQLite there is one worker; on PostgreSQL there may be several on
    one state folder, and what a dead one had begun is taken over. Prints its id when it is ready.
    """
    with command(as_json=False) as out:
        import secrets

        from mbd.telemetry import logs
        from mbd.workflow.clerk import Clerk
        from mbd.workflow.jobs.dbos_engine import DbosJobs
        from mbd.workflow.jobs.worker import Worker
        from mbd.workflow.system import open_system

        stopping = threading.Event()

        def stop(_number: int, _frame: FrameType | None) -> None:
            stopping.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        settings = settings_for(home)
        logs.begin(sys.stderr, settings.log_level)
        worker_id = f"worker-{secrets.token_hex(8)}"

        def ready() -> None:
            out.unbroken("Worker", worker_id)
            sys.stdout.flush()

        with open_system(settings, create=False) as system, DbosJobs(settings) as jobs, Clerk(system):
            if not Worker(system, jobs, worker_id, stopping).run(ready):
                os._exit(0)  # a step that cannot be left now: to be killed in it is what it is made for
