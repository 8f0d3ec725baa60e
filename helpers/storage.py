"""Where every file lies, and how a file is published: whole or not at all.

One root folder holds all outputs: a Drive folder on Colab, any folder elsewhere. A file is written under a temporary
name in the folder it belongs to, flushed to disk, and renamed; a reader never meets a half-written one. Files that
are only a faster form of published ones (flat token arrays, TensorBoard events) lie on local disk, in `scratch`,
because Drive is slow to map and loses files that are appended to. Where the outputs go to an object store, the root is
a mirror of it on local disk (`object_store.py`).
"""

import contextlib
import errno
import hashlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from helpers.object_store import ObjectStore

_TEMPORARY = ".partial-"
STEP = re.compile(r"step_(\d{9})")
"""The names of checkpoints and snapshots; a copy that a sync made beside them, `step_... (1)`, is none."""
ASIDE = "damaged_"
"""How the name of a checkpoint begins that was set aside."""
MARKER = ".ergodic-storage"
_STORAGE_ID = re.compile(r"[0-9a-f]{32}")
_LEFTOVER_S = 3600.0  # a temporary file that was not touched for so long belongs to a process that is gone


@dataclass(frozen=True)
class Storage:
    """The paths below one root. `scratch` is a local folder that may be deleted at any time between runs."""

    root: Path
    scratch: Path
    storage_id: str
    """Written into the root when it is first used: a mount that went away leaves a folder without it."""
    store: "ObjectStore | None" = None
    """What `root` is a mirror of."""

    @classmethod
    def at(cls, root: str | Path, scratch: str | Path | None = None) -> "Storage":
        """A storage at a folder or URL, made if needed; ValueError if it cannot be written to."""
        if is_url(root):
            return _mirror(str(root), scratch, make=True)
        root = Path(os.path.expanduser(root)).absolute()
        scratch = Path(os.path.expanduser(scratch)).absolute() if scratch else root / "scratch"
        try:
            scratch.mkdir(parents=True, exist_ok=True)
            root.mkdir(parents=True, exist_ok=True)
            return cls(root, scratch, _mark(root))
        except OSError as error:
            raise ValueError(
                f"storage = {str(root)!r} cannot be written to ({error.strerror or error}); nothing was written. "
                "Use a folder that you may write to, for example --storage outputs"
            ) from error

    @classmethod
    def to_read(cls, root: str | Path) -> "Storage":
        """The storage at `root` as it is, which may be not at all; nothing is made or marked. ValueError for a file."""
        if is_url(root):
            return _mirror(str(root), None, make=False)
        root = Path(os.path.expanduser(root)).absolute()
        if root.exists() and not root.is_dir():
            raise ValueError(f"storage = {str(root)!r} is a file; use a folder, for example --storage outputs")
        return cls(root, root / "scratch", _read_marker(root))

    @classmethod
    def existing(cls, root: str | Path) -> "Storage":
        """The same, where there is one; ValueError else: of nothing there is nothing to tell."""
        storage = cls.to_read(root)
        if not storage.exists:
            what = "is a folder that nothing was trained into" if storage.root.is_dir() else "does not exist"
            raise ValueError(f"storage = {storage.address!r} {what}; use the folder that `grid` or `train` wrote to")
        return storage

    @property
    def exists(self) -> bool:
        return is_marked(self.root) or any((self.root / name).is_dir() for name in ("cache", "runs", "results"))

    @property
    def is_near(self) -> bool:
        """Whether scratch lies in it: then it is a disk, of this machine or shared, and no Drive."""
        return self.scratch.is_relative_to(self.root)

    @property
    def address(self) -> str:
        return self.store.url if self.store else str(self.root)  # opens this storage in any process

    def require_present(self) -> None:
        """OSError if the root is not the folder that it was: writing there would fill a mount point's place."""
        if (self.store.read_marker() if self.store else _read_marker(self.root)) != self.storage_id:
            raise OSError(errno.ENODEV, "another storage is mounted there", str(self.root))

    def look(self, *paths: Path) -> None:
        """Before files are read: bring what an object store has of them. OSError if it is away."""
        if self.store:
            self.store.look(paths)

    def has(self, path: Path) -> bool:
        """Whether there is such a file by now."""
        self.look(path)
        return path.exists()

    def delivered(self, paths: list[Path]) -> list[Path]:
        """`paths` below the root, once an object store has them too. OSError if it is away."""
        if self.store:
            self.store.put({path: path for path in paths})
        return paths

    def delete(self, path: Path) -> None:
        """Delete a file or folder of a run; what cannot be deleted now stays."""
        with contextlib.suppress(OSError):
            if self.store:
                self.store.delete(path)
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

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
        folder = self.checkpoints(run_id)
        names = {path.name for path in folder.glob("step_*")} | (self.store.names_in(folder) if self.store else set())
        return sorted((int(name[1]) for name in map(STEP.fullmatch, names) if name), reverse=True)

    def checkpoint(self, run_id: str, step: int) -> Path:
        return self._place("runs", run_id, "checkpoints", f"step_{step:09d}")

    def snapshot(self, run_id: str, step: int) -> Path:
        return self._place("runs", run_id, "snapshots", f"step_{step:09d}.safetensors")

    def tensorboard(self, run_id: str) -> Path:
        return self.scratch / "tensorboard" / require_name(run_id)

    def outbox(self, run_id: str) -> Path:
        """Finished files of a run that are on their way to this storage, and to no other, on local disk."""
        return self.scratch / "outbox" / self.storage_id / require_name(run_id)

    def lock(self, run_id: str) -> Path:
        return self.scratch / "locks" / f"{require_name(run_id)}.lock"

    def results(self) -> Path:
        return self.root / "results"

    def result(self, run_id: str) -> Path:
        return self._place("results", f"{run_id}.jsonl")

    def notebook(self, name: str) -> Path:
        return self._place("notebooks", f"{name}.ipynb")

    def predictions(self) -> Path:
        return self.root / "predictions"

    def prediction(self, name: str) -> Path:
        """What was said of held-out runs before they were trained."""
        return self._place("predictions", f"{name}.json")

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


def is_url(root: str | Path) -> bool:
    """Whether a storage is an object store rather than a folder."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", str(root)) is not None


def _mirror(url: str, scratch: str | Path | None, *, make: bool) -> Storage:
    from helpers.mirror import open_mirror  # imports fsspec

    return open_mirror(url, Path(scratch).absolute() if scratch else None, make=make)


def _mark(root: Path) -> str:
    """The storage_id in the root's marker, written first if there is none; of several processes, one writes it."""
    probe = root / f"{_TEMPORARY}{uuid.uuid4().hex[:8]}"
    try:
        probe.write_text(uuid.uuid4().hex + "\n", encoding="utf-8")
        try:
            os.link(probe, root / MARKER)  # fails where there is a marker already: it appears whole, and once
        except OSError:  # Drive knows no links
            if not is_marked(root):
                os.replace(probe, root / MARKER)
        if is_marked(root):
            return _read_marker(root)
        raise OSError(errno.EIO, "what was written does not read back", str(root / MARKER))
    finally:
        probe.unlink(missing_ok=True)


def is_marked(root: Path) -> bool:
    """Whether a storage has been at `root`, and still is."""
    return _STORAGE_ID.fullmatch(_read_marker(root)) is not None


def _read_marker(root: Path) -> str:
    try:
        return (root / MARKER).read_text(encoding="utf-8", errors="replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        return ""


def is_name(name: object) -> bool:
    """Whether `name` names a file in a folder and nothing else: no separator, no `..`, no leading dot."""
    return isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name) is not None


def require_name(name: str) -> str:
    """`name` if it is one; ValueError otherwise."""
    if not is_name(name):
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


def publish_bytes(path: Path, content: bytes) -> Path:
    return publish(path, lambda temporary: write_verified(temporary, content))


def publish_text(path: Path, text: str) -> Path:
    return publish_bytes(path, text.encode("utf-8"))


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


def remove_unfinished(path: Path) -> None:
    """Delete what killed processes left of the folder `path`; the caller holds the lock under which it is made."""
    for unfinished in path.parent.glob(f"{_TEMPORARY}*-{path.name}"):
        shutil.rmtree(unfinished, ignore_errors=True)


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


def write_verified(path: Path, content: bytes | memoryview) -> None:
    """Write a file and read it back; OSError if it is not what was written."""
    path.write_bytes(content)
    flush(path)
    _require_written(path, hashlib.sha256(content).hexdigest())


def copy_verified(source: Path, target: Path) -> None:
    """Copy a file and read the copy back; OSError if it is not what was written."""
    shutil.copyfile(source, target)
    flush(target)
    _require_written(target, file_sha256(source))


def _require_written(path: Path, sha256: str) -> None:
    if file_sha256(path) != sha256:
        raise OSError(errno.EIO, "what was written does not read back", str(path))
