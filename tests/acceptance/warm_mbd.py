"""The program with its imports done: forks a process for every command line that it is sent.

Each command has a process, arguments, environment and output files of its own and runs the same ``main`` as the
installed program; only the seconds that torch takes to load, and to be taken down again, are spent once. Orders are
lines of JSON on standard input, the answers exit codes; of a command that is to stay, its process id, whose end can be
waited for by another order.
"""

import gc
import json
import os
import sys
import traceback

import mbd.workflow.predicting.predictor
import mbd.workflow.replay
import mbd.workflow.revocation
import mbd.workflow.training  # noqa: F401 - imported to be there when a command imports them
from mbd.cli.app import main


def obey(order):
    """Run one command in this process, and end the process."""
    os.environ.clear()
    os.environ.update(order["environment"])
    for stream, path in ((1, order["stdout"]), (2, order["stderr"])):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream)
    sys.argv = ["mbd", *order["arguments"]]
    try:
        code = main()
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001 - the interpreter would do the same
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


gc.freeze()
for line in sys.stdin:
    order = json.loads(line)
    child = order.get("process") or os.fork()
    if child == 0:
        obey(order)
    answer = child if order.get("stays") else os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(answer, flush=True)  # noqa: T201
