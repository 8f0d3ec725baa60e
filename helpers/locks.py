"""Locks between the processes of one machine: files on local disk, let go of by the system when a process dies.

Drive knows no locks. Machines that share a storage may do the same work twice; what they publish is whole either way.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

_GLANCE_S = 0.1


@contextlib.contextmanager
def exclusive(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file `path` on local disk; RuntimeError if another process has it. A killed process lets go."""
    with _lock_file(path) as file:
        if not _try_lock(file):
            time.sleep(_GLANCE_S)  # `is_held` may have been looking
            if not _try_lock(file):
                raise RuntimeError(
                    f"{what} is already at work in process {_holder(file)} of this machine; "
                    "nothing was changed. Wait for it, or end it, and run again"
                )
        _sign(file)
        yield


def is_held(path: Path) -> bool:
    """Whether a process of this machine, or this one, holds the lock file `path`. Looking holds it for an instant."""
    try:
        with open(path, encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def wait_until_free(path: Path, patience_s: float) -> None:
    """Return once no process of this machine holds the lock file `path`, or after `patience_s` seconds."""
    deadline = time.monotonic() + patience_s
    while is_held(path) and time.monotonic() < deadline:
        time.sleep(_GLANCE_S)


@contextlib.contextmanager
def in_turn(path: Path, what: str, report: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock file `path` on local disk, after the process that has it; that one waits is reported."""
    with _lock_file(path) as file:
        if not _try_lock(file):
            report(f"{what} is at work in process {_holder(file)} of this machine; this one waits for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        _sign(file)
        yield


def _lock_file(path: Path) -> IO[str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return open(path, "a+", encoding="utf-8")


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(file: IO[str]) -> str:
    file.seek(0)
    return file.read().strip() or "unknown"


def _sign(file: IO[str]) -> None:
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
