"""Where every file lies, and how a file is published: whole or not at all.

One root folder holds all outputs: a Drive folder on Colab, any folder elsewhere. A file is written under a temporary
name in the folder it belongs to, flushed to disk, and renamed; a reader never meets a half-written one. Files that
are only a faster form of published ones (flat token arrays, TensorBoard events) lie on local disk, in `scratch`,
because Drive is slow to map and loses files that are appended to.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.config import canonical_json

_TEMPORARY = ".partial-"
_STEP = re.compile(r"step_(\d{9})")
_SEAL = "sha256"
_MARKER = ".ergodic-storage"
_LEFTOVER_S = 3600.0  # a temporary file that was not touched for so long belongs to a process that is gone


@dataclass(frozen=True)
class Storage:
    """The paths below one root. `scratch` is a local folder that may be deleted at any time between runs."""

    root: Path
    scratch: Path
    storage_id: str
    """Written into the root when it is first used: a mount that went away leaves a folder without it."""

    @classmethod
    def at(cls, root: str | Path, scratch: str | Path | None = None) -> "Storage":
        """A storage at `root`, made if needed; ValueError if it cannot be written to."""
        root = Path(root).expanduser().absolute()
        scratch = Path(scratch).expanduser().absolute() if scratch else root / "scratch"
        probe = root / f"{_TEMPORARY}{uuid.uuid4().hex[:8]}"
        try:
            scratch.mkdir(parents=True, exist_ok=True)
            root.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"probe")
            probe.unlink()
            if not (root / _MARKER).exists():
                publish_text(root / _MARKER, uuid.uuid4().hex + "\n")
            return cls(root, scratch, (root / _MARKER).read_text(encoding="utf-8").strip())
        except OSError as error:
            raise ValueError(
                f"storage = {str(root)!r} cannot be written to ({error.strerror or error}); nothing was written. "
                "Use a folder that you may write to, for example --storage outputs"
            ) from error

    def require_present(self) -> None:
        """OSError if the root is not the folder that it was: writing there would fill a mount point's place."""
        if (self.root / _MARKER).read_text(encoding="utf-8").strip() != self.storage_id:
            raise OSError(errno.ENODEV, "another storage is mounted there", str(self.root))

    def cache(self, cache_id: str) -> Path:
        return self._place("cache", cache_id)

    def flat_tokens(self, cache_id: str) -> Path:
        """The memory-mapped form of a cache, on local disk."""
        return self.scratch / "tokens" / require_name(cache_id)

    def run(self, run_id: str) -> Path:
        return self._place("runs", run_id)

    def checkpoints(self, run_id: str) -> Path:
        return self._place("runs", run_id, "checkpoints")

    def checkpoint_steps(self, run_id: str) -> list[int]:
        """The steps of a run's checkpoint folders, newest first, not verified."""
        names = (_STEP.fullmatch(folder.name) for folder in self.checkpoints(run_id).glob("step_*"))
        return sorted((int(name[1]) for name in names if name), reverse=True)

    def checkpoint(self, run_id: str, step: int) -> Path:
        return self._place("runs", run_id, "checkpoints", f"step_{step:09d}")

    def snapshot(self, run_id: str, step: int) -> Path:
        return self._place("runs", run_id, "snapshots", f"step_{step:09d}.safetensors")

    def tensorboard(self, run_id: str) -> Path:
        return self.scratch / "tensorboard" / require_name(run_id)

    def outbox(self, run_id: str) -> Path:
        """Finished files of a run that are on their way to the storage, on local disk."""
        return self.scratch / "outbox" / require_name(run_id)

    def lock(self, run_id: str) -> Path:
        return self.scratch / "locks" / f"{require_name(run_id)}.lock"

    def results(self) -> Path:
        return self.root / "results"

    def result(self, run_id: str) -> Path:
        return self._place("results", f"{run_id}.jsonl")

    def notebook(self, name: str) -> Path:
        return self._place("notebooks", f"{name}.ipynb")

    def figure(self, name: str) -> Path:
        return self._place("fig", name)

    def table(self, name: str) -> Path:
        return self._place("tables", name)

    def _place(self, *names: str) -> Path:
        """The path of `names` below the root. ValueError for a name, or a link on the way, that leads out of it."""
        path = self.root.joinpath(*map(require_name, names))
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise ValueError(f"{path} is a link that leads out of the storage {self.root}; remove it")
        return path


def require_name(name: str) -> str:
    """`name` if it names a file in a folder and nothing else; ValueError for separators, `..`, a leading dot."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name):
        raise ValueError(f"{name!r} is not a name of a run, cache or file; use letters, digits, '.', '_' and '-'")
    return name


def publish(path: Path, write: Callable[[Path], object]) -> Path:
    """Make the file `path` whole: `write` fills a temporary file beside it, which is flushed and renamed.

    An error in `write` leaves `path` as it was and no temporary file behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{_TEMPORARY}{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        write(temporary)
        flush(temporary)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    flush(path.parent)
    return path


def publish_text(path: Path, text: str) -> Path:
    return publish(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def publish_sealed(path: Path, value: dict[str, Any]) -> Path:
    """Publish `value` as JSON with the SHA-256 of its own content, which `read_sealed` checks."""
    return publish_text(path, sealed(value))


def sealed(value: dict[str, Any]) -> str:
    return json.dumps(value | {_SEAL: _digest(value)}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_sealed(path: Path) -> dict[str, Any]:
    """What `publish_sealed` wrote. ValueError if the file was cut or altered, OSError if it cannot be read."""
    try:
        value = json.loads(path.read_bytes())
        seal = value.pop(_SEAL)
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{path} is damaged: it is not a whole JSON file of this project") from error
    if seal != _digest(value):
        raise ValueError(f"{path} is damaged: its content does not have the SHA-256 that it names")
    return value


def _digest(value: dict[str, Any]) -> str:
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()


@contextlib.contextmanager
def publish_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that becomes `path` when the block ends, every file in it flushed; nothing on an error.

    A folder that another process published meanwhile stays: both hold the same content, for a path names its content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{_TEMPORARY}{uuid.uuid4().hex[:8]}-{path.name}")
    temporary.mkdir()
    try:
        yield temporary
        for file in [*temporary.rglob("*"), temporary]:
            flush(file)
        try:
            os.rename(temporary, path)
        except OSError:
            if not path.is_dir():
                raise
        flush(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files and folders that killed processes left in `folder`, not those of living ones."""
    for leftover in folder.glob(f"{_TEMPORARY}*"):
        with contextlib.suppress(OSError):
            if time.time() - leftover.stat().st_mtime < _LEFTOVER_S:
                continue
            if leftover.is_dir():
                shutil.rmtree(leftover)
            else:
                leftover.unlink()


def flush(path: Path) -> None:
    """fsync a file or a folder; folders cannot be flushed everywhere (Drive, Windows), and then it does nothing."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        if path.is_dir():
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def file_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy_verified(source: Path, target: Path) -> None:
    """Copy a file and read the copy back; OSError if it is not what was written."""
    shutil.copyfile(source, target)
    flush(target)
    if file_sha256(target) != file_sha256(source):
        raise OSError(errno.EIO, "what was written does not read back", str(target))


@contextlib.contextmanager
def exclusive(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file `path` on local disk; RuntimeError if another process has it. A killed process lets go."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise RuntimeError(
                f"{what} is already at work in process {file.read().strip() or 'unknown'} of this machine; "
                "nothing was changed. Wait for it, or end it, and run again"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
