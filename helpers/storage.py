"""Where every file lies, and how a file is published: whole or not at all.

One root folder holds all outputs: a Drive folder on Colab, any folder elsewhere. A file is written under a temporary
name in the folder it belongs to, flushed to disk, and renamed; a reader never meets a half-written one. Files that
are only a faster form of published ones (flat token arrays, TensorBoard events) lie on local disk, in `scratch`,
because Drive is slow to map and loses files that are appended to.
"""

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TEMPORARY = ".partial-"


@dataclass(frozen=True)
class Storage:
    """The paths below one root. `scratch` is a local folder that may be deleted at any time between runs."""

    root: Path
    scratch: Path

    @classmethod
    def at(cls, root: str | Path, scratch: str | Path | None = None) -> "Storage":
        """A storage at `root`, made if needed; ValueError if it cannot be written to."""
        root = Path(root).expanduser().absolute()
        storage = cls(root, Path(scratch).expanduser().absolute() if scratch else root / "scratch")
        probe = root / f"{_TEMPORARY}{uuid.uuid4().hex[:8]}"
        try:
            storage.scratch.mkdir(parents=True, exist_ok=True)
            root.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"probe")
            probe.unlink()
        except OSError as error:
            raise ValueError(
                f"storage = {str(root)!r} cannot be written to ({error.strerror or error}); nothing was written. "
                "Use a folder that you may write to, for example --storage outputs"
            ) from error
        return storage

    def cache(self, cache_id: str) -> Path:
        return self.root / "cache" / cache_id

    def flat_tokens(self, cache_id: str) -> Path:
        """The memory-mapped form of a cache, on local disk."""
        return self.scratch / "tokens" / cache_id

    def run(self, run_id: str) -> Path:
        return self.root / "runs" / run_id

    def checkpoints(self, run_id: str) -> Path:
        return self.run(run_id) / "checkpoints"

    def checkpoint_steps(self, run_id: str) -> list[int]:
        """The steps of a run's checkpoint folders, newest first, not verified."""
        folders = self.checkpoints(run_id).glob("step_*")
        return sorted((int(folder.name.removeprefix("step_")) for folder in folders), reverse=True)

    def checkpoint(self, run_id: str, step: int) -> Path:
        return self.checkpoints(run_id) / f"step_{step:09d}"

    def snapshot(self, run_id: str, step: int) -> Path:
        return self.run(run_id) / "snapshots" / f"step_{step:09d}.safetensors"

    def tensorboard(self, run_id: str) -> Path:
        return self.scratch / "tensorboard" / run_id

    def result(self, run_id: str) -> Path:
        return self.root / "results" / f"{run_id}.jsonl"

    def notebook(self, name: str) -> Path:
        return self.root / "notebooks" / f"{name}.ipynb"

    def figure(self, name: str) -> Path:
        return self.root / "fig" / name

    def table(self, name: str) -> Path:
        return self.root / "tables" / name


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


def publish_json(path: Path, value: Any) -> Path:
    return publish_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


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
    """Delete the temporary files and folders that a killed process left in `folder`."""
    for leftover in folder.glob(f"{_TEMPORARY}*"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


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
