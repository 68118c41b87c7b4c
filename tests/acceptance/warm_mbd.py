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

import mbd.workflow.predicting.predictor
import mbd.workflow.replay
import mbd.workflow.revocation
import mbd.workflow.training  # noqa: F401 - imported to be there when a command imports them
from tests.forked import be_the_program

gc.freeze()
for line in sys.stdin:
    order = json.loads(line)
    child = order.get("process") or os.fork()
    if child == 0:
        be_the_program(order["arguments"], order["environment"], order["stdout"], order["stderr"])
    answer = child if order.get("stays") else os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(answer, flush=True)  # noqa: T201 - the answer
