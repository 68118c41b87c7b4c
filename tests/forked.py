"""What a forked child does that is to be the installed program: for processes that keep ``mbd`` loaded."""

import os
import sys
import traceback


def be_the_program(arguments, environment, stdout, stderr, before=lambda: None):
    """Run ``mbd`` in this process with an environment and output files of its own, and end the process.

    Args:
        before: done first, when all that is set.
    """
    from mbd.cli.app import main

    os.environ.clear()
    os.environ.update(environment)
    for stream, path in ((1, stdout), (2, stderr)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), stream)
    sys.argv = ["mbd", *arguments]
    try:
        before()
        code = main()
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001 - the interpreter would do the same
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)
