"""A storage that fails: what Drive and full disks do, injected below the root and nowhere else.

The primitives through which helpers.storage and its users touch files are wrapped; paths in scratch pass untouched.
"""

import errno
import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from helpers import storage as storage_module
from helpers.runs import checkpoints

Operation = Literal["write", "rename", "read"]
SHORT = "short"
"""A write that reports success and keeps half of the bytes."""


@dataclass(kw_only=True)
class Fault:
    """What happens to the first `times` operations of a kind on paths below the root that hold `where`."""

    operation: Operation
    where: str
    effect: int | Literal["short"]
    """An errno, or SHORT."""
    times: float = math.inf
    hits: int = 0

    def strikes(self, operation: Operation, path: Path, root: Path) -> bool:
        inside = path.is_relative_to(root) and self.where in str(path.relative_to(root))
        if operation != self.operation or not inside or self.hits >= self.times:
            return False
        self.hits += 1
        return True

    def error(self, path: Path) -> OSError:
        return OSError(self.effect, os.strerror(self.effect), str(path))


@contextmanager
def faulty(root: Path, fault: Fault) -> Iterator[Fault]:
    """Inject `fault` below `root` until the block ends."""
    with pytest.MonkeyPatch.context() as patch:

        def wrap(owner: Any, name: str, operation: Operation, path_of: Callable[..., Any]) -> None:
            original = getattr(owner, name, open)

            def wrapped(*arguments: Any, **named: Any) -> Any:
                path = Path(path_of(*arguments))
                if not fault.strikes(operation, path, root):
                    return original(*arguments, **named)
                if operation == "write":  # a disk that fills up has taken a part
                    original(*arguments, **named)
                    os.truncate(path, path.stat().st_size // 2)
                if fault.effect == SHORT:
                    return None
                raise fault.error(path)

            patch.setattr(owner, name, wrapped, raising=False)

        wrap(shutil, "copyfile", "write", lambda source, target: target)
        wrap(Path, "write_bytes", "write", lambda path, content: path)
        wrap(os, "replace", "rename", lambda source, target: target)
        wrap(os, "rename", "rename", lambda source, target: target)
        wrap(Path, "read_bytes", "read", lambda path: path)
        wrap(storage_module, "open", "read", lambda path, *mode, **named: path)
        wrap(checkpoints, "safe_open", "read", lambda path, **named: path)
        yield fault


@contextmanager
def lagging(folder: Path, hidden: str) -> Iterator[None]:
    """The entry `hidden` of `folder` exists, but is not listed."""
    original = Path.glob

    def glob(path: Path, *arguments: Any, **named: Any) -> Iterator[Path]:
        return (
            found for found in original(path, *arguments, **named) if (found.parent, found.name) != (folder, hidden)
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "glob", glob)
        yield


class Mount:
    """A root that can go away, leaving an empty folder in its place, and come back."""

    def __init__(self, root: Path):
        self.root, self.away = root, root.with_name(f"{root.name}-away")

    def leave(self) -> None:
        self.root.rename(self.away)
        self.root.mkdir()

    def come_back(self) -> None:
        """The place must have stayed empty: Drive refuses to mount over files."""
        self.root.rmdir()
        self.away.rename(self.root)


ERRORS = {"full": errno.ENOSPC, "input/output error": errno.EIO, "not connected": errno.ENOTCONN}
