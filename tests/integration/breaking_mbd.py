"""Runs commands of ``mbd`` one after another, each in a fork that logs everything and may have one function broken.

Reads one JSON object a line: `broken` (module and dotted name, or null), `words`, `environment`, `stdout`, `stderr`.
Writes the exit code of each.
"""

import importlib
import json
import logging
import os
import sys

import mbd.workflow.log  # noqa: F401 - what every command here would load
from mbd.cli.app import main


def broken(*args, **kwargs):
    raise RuntimeError("planted")


def run(order):
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(order[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.environ.clear()
    os.environ.update(order["environment"])
    logging.basicConfig(level=logging.DEBUG)
    if order["broken"]:
        module, name = order["broken"]
        place, (*owners, name) = importlib.import_module(module), name.split(".")
        for owner in owners:
            place = getattr(place, owner)
        setattr(place, name, broken)
    sys.argv = ["mbd", *order["words"]]
    try:
        main()
    except SystemExit as end:
        return end.code or 0
    except BaseException:  # noqa: BLE001 - as the interpreter does with what nobody caught
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


for line in sys.stdin:
    child = os.fork()
    if child == 0:
        code = run(json.loads(line))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)  # noqa: T201 - the answer
