"""Workers of ``mbd`` with their imports done: forks a process for every order, and may have it die at one place.

Orders are lines of JSON on standard input. ``{"start": ...}`` runs a command line and answers with the process id;
``{"poll": id}`` answers with its exit code, or null while it runs. `at`: a function (module, dotted name), a moment
before or after its n-th call, and what happens then: a signal to the own process, or "disk full" while the call lasts.
"""

import functools
import gc
import importlib
import json
import os
import resource
import signal
import sys
import threading
from itertools import count

import mbd.workflow.jobs.dbos_engine
import mbd.workflow.jobs.worker
import mbd.workflow.revocation
from tests.forked import be_the_program


def with_a_full_disk(function, *args, **kwargs):
    """No file may grow beyond some kilobytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 13, before[1]))
    try:
        return function(*args, **kwargs)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


rounds = threading.Lock()


def fall_asleep_outside_of_a_round(look_after=mbd.workflow.jobs.worker.Worker._look_after):
    """A process that sleeps in a transaction keeps the lock of the records; that is another story than its job's."""

    def guarded(self, reaper):
        with rounds:
            look_after(self, reaper)

    mbd.workflow.jobs.worker.Worker._look_after = guarded


def happen(what):
    """Send the signal to the own process; one that puts to sleep to the own thread, which would else go on a little."""
    with rounds:
        if what == signal.SIGSTOP:
            signal.raise_signal(what)
        else:
            os.kill(os.getpid(), what)  # the main thread handles it


def watch(module, name, when, nth, what):
    """Let it happen at the n-th call of a function."""
    place, (*owners, name) = importlib.import_module(module), name.split(".")
    for owner in owners:
        place = getattr(place, owner)
    function, calls = getattr(place, name), count(1)

    @functools.wraps(function)
    def watched(*args, **kwargs):
        meant = next(calls) == nth
        if meant and what == "disk full":
            return with_a_full_disk(function, *args, **kwargs)
        if meant and when == "before":
            happen(what)
        returned = function(*args, **kwargs)
        if meant and when == "after":
            happen(what)
        return returned

    setattr(place, name, watched)


def break_at(at):
    """Have it happen there, if anywhere."""
    if at:
        watch(*at)
        if signal.SIGSTOP in at:
            fall_asleep_outside_of_a_round()


gc.freeze()
for line in sys.stdin:
    order = json.loads(line)
    if "poll" in order:
        ended, status = os.waitpid(order["poll"], os.WNOHANG)
        answer = os.waitstatus_to_exitcode(status) if ended else None
    else:
        answer = os.fork()
        if answer == 0:
            before = functools.partial(break_at, order["at"])
            be_the_program(order["start"], order["environment"], order["output"], order["output"], before)
    print(json.dumps(answer), flush=True)  # noqa: T201 - the answer
