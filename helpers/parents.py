"""A process that ends with the one that started it, by whatever means that one ends."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(parent: int) -> None:
    """Have the system kill this process when its parent ends; call it first. `parent` is the pid of the process that
    started it, and the end is at once if that has gone before. Without such a call (macOS) that look is all.

    By SIGKILL: unwinding takes its time, which a busy machine can make long, and nothing rests on an orderly end.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
