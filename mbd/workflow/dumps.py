"""Keeps the process's memory out of files: no core dump, no debugger of another process. It knows no secret itself."""

import ctypes
import os
import resource
import sys

_PR_SET_DUMPABLE = 4


def forbid_core_dumps() -> None:
    """From now on this process leaves no core dump, and on Linux no other process of this user can read its memory.

    Programs that it starts are not covered: they hold none of its memory. See setrlimit(2), and PR_SET_DUMPABLE in
    prctl(2), which also covers systems that pipe dumps to a program and ignore the limit.

    Raises:
        OSError: the system refuses.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
