"""A storage in an object store: any fsspec URL, such as s3://BUCKET/FOLDER, gs://BUCKET/FOLDER or memory://FOLDER.

All work stays on local disk: the storage's root is a mirror of the store, everything reads and writes plain files in
it, and this module moves them. Nothing is renamed, appended to, or believed from a listing:

- A file by itself (a result, a notebook, a table) is one object, put whole, and asked for by its name.
- A folder (a run, a token cache) is its files and one last object that names them with their sizes and SHA-256:
  files.json of a run, the manifest of a cache. What that does not name does not exist for a reader.
- Listings only find what has no known name: results to make tables of, and objects that a killed process left.
- The mirror is never ahead of the store. What a run has written waits in its outbox until the store has taken it, and
  a machine that goes on with a run first makes its mirror of it what the store says.

An object is put with the store's own checksum and its size is read back; whoever reads a file hashes it.
"""

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

from helpers.seals import read_sealed, sealed
from helpers.storage import ASIDE, MARKER, file_sha256, is_name, publish, publish_bytes, publish_text

INDEX = "files.json"
RECORDS = ("metrics.jsonl", "measurements.jsonl", "provenance.json", INDEX)
"""Of a run: what tells how far it is, and what its study reads beside the result."""
_LIBRARIES = ("botocore", "aiobotocore", "aiohttp", "gcsfs", "google", "requests", "urllib3", "adlfs", "azure")
"""Whose errors are of the store, and not all of them are OSErrors: botocore's EndpointConnectionError is none."""
Facts = dict[str, Any]
"""`bytes` and `sha256` of a file."""


@dataclass(frozen=True, kw_only=True)
class ObjectStore:
    """The store behind a mirror. Every method raises OSError if the store is away, full, or closed to us."""

    url: str
    files: fsspec.AbstractFileSystem
    folder: str
    """The URL's place in `files`."""
    mirror: Path

    def require_shared(self, who: str) -> None:
        """ValueError for a store that other processes, `who` in words, do not see."""
        if self.url.startswith("memory:"):
            raise ValueError(f"storage = {self.url!r} lives in one process, and {who} run in others; use another")

    def read_marker(self) -> str:
        """The storage_id that the store holds now; empty if there is none."""
        with self._errors(), contextlib.suppress(FileNotFoundError):
            return self.files.cat_file(f"{self.folder}/{MARKER}").decode("utf-8", "replace").strip()
        return ""

    def mark(self, storage_id: str) -> None:
        """Write the marker, unless there is one by now."""
        with self._errors(), contextlib.suppress(FileExistsError):
            self.files.pipe_file(f"{self.folder}/{MARKER}", f"{storage_id}\n".encode(), mode="create")

    def look(self, paths: Sequence[Path]) -> None:
        """Make these files of the mirror what the store has under their names, or absent; their times are the store's.

        The objects are read whole, several at once.
        """
        with self._errors():
            found = self.files.cat([self._key(path) for path in paths], on_error="return") if paths else {}
            for path in paths:
                content = found[self._key(path)]
                if isinstance(content, FileNotFoundError):
                    path.unlink(missing_ok=True)
                elif isinstance(content, Exception):
                    raise content
                elif not path.exists() or path.read_bytes() != content:
                    publish_bytes(path, content)
                    self._keep_time(path)

    def pull(self, folder: Path, named: Mapping[str, Facts]) -> None:
        """Bring the files of a folder that `named` names, where the mirror has not the same. An object that is lost or
        other than named is left to the reader of the file, who hashes it and has words for that."""
        for name, facts in named.items():
            path = folder / name
            if not _is_same(path, facts):
                with contextlib.suppress(FileNotFoundError):
                    self._get_file(path)

    def pull_run(self, run: Path) -> None:
        """Make the mirror's folder of a run what the store has of it, but for what was set aside."""
        named = self._index(run)
        self.pull(run, named)
        for path in sorted(run.rglob("*"), reverse=True):  # what is in a folder before the folder
            parts = path.relative_to(run).parts
            if any(part.startswith((ASIDE, ".")) for part in parts):
                continue
            if path.is_dir():
                with contextlib.suppress(OSError):  # not empty
                    path.rmdir()
            elif "/".join(parts) not in named and path.name != INDEX:
                path.unlink()

    def put(self, sources: Mapping[Path, Path]) -> None:
        """Put files, by their places in the mirror, and name those of a run in its index, last."""
        named: dict[Path, dict[str, Facts]] = {}
        for target, source in sources.items():
            facts = self._put_file(target, source)
            if run := self._run_of(target):
                named.setdefault(run, {})[target.relative_to(run).as_posix()] = facts
        for run, added in named.items():
            self._put_index(run, self._index(run) | added)

    def delete(self, path: Path) -> None:
        """Take a file or folder of a run out of its index, then delete its objects."""
        run = self._run_of(path)
        assert run is not None, path
        name, named = path.relative_to(run).as_posix(), self._index(run)
        gone = [other for other in named if other == name or other.startswith(f"{name}/")]
        if gone:
            self._put_index(run, {other: facts for other, facts in named.items() if other not in gone})
        self._remove([self._key(run / other) for other in gone])

    def tidy(self, run: Path) -> None:
        """Delete the objects in a run's folder that its index does not name: a killed process left them."""
        named = {self._key(run / name) for name in self._index(run)} | {self._key(run / INDEX)}
        with self._errors():
            listed = [self._as_key(found) for found in self.files.find(self._key(run))]
        self._remove([key for key in listed if key not in named])

    def gather(self) -> None:
        """Bring what tables are made from: every result and prediction that is listed or was known here before, and
        the records of their runs."""
        results, predictions = (self._known(self.mirror / name) for name in ("results", "predictions"))
        self.look([*results, *predictions])
        self.look([self.mirror / "runs" / path.stem / name for path in results for name in RECORDS])

    def copy_to(self, folder: Path) -> None:
        """Every object that is listed, or named by the index of a run, as a file below a local folder; those whose
        names could lead out of it are left."""
        with self._errors():
            listed = [self._as_key(found) for found in self.files.find(self.folder)]
            self._copy([key.removeprefix(f"{self.folder}/") for key in listed], folder)
            for index in folder.glob(f"runs/*/{INDEX}"):
                with contextlib.suppress(ValueError):  # damaged: whoever verifies the copy tells it
                    run_id, named = index.parent.name, _read_index(index.parent)
                    self._copy([f"results/{run_id}.jsonl", *(f"runs/{run_id}/{name}" for name in named)], folder)

    def _copy(self, names: Sequence[str], folder: Path) -> None:
        for name in names:
            path = folder / name
            if all(is_name(part) or part == MARKER for part in name.split("/")) and not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(FileNotFoundError):
                    self.files.get_file(f"{self.folder}/{name}", str(path))

    def names_in(self, folder: Path) -> set[str]:
        """The names of the entries of a run's folder, such as checkpoints, by the index as the mirror has it."""
        run = self._run_of(folder)
        assert run is not None, folder
        prefix = folder.relative_to(run).as_posix() + "/"
        return {name.removeprefix(prefix).split("/")[0] for name in _read_index(run) if name.startswith(prefix)}

    def _get_file(self, path: Path) -> None:
        with self._errors():
            publish(path, lambda temporary: self.files.get_file(self._key(path), str(temporary)))
            self._keep_time(path)

    def _put_file(self, target: Path, source: Path) -> Facts:
        facts = {"bytes": source.stat().st_size, "sha256": file_sha256(source)}
        with self._errors():
            self.files.put_file(str(source), self._key(target))
            if self.files.info(self._key(target))["size"] != facts["bytes"]:
                raise OSError(errno.EIO, "what was written does not read back", self._key(target))
        return facts

    def _index(self, run: Path) -> dict[str, Facts]:
        self.look([run / INDEX])
        return _read_index(run)

    def _put_index(self, run: Path, named: Mapping[str, Facts]) -> None:
        text = sealed({"files": dict(sorted(named.items()))})
        with self._errors():
            self.files.pipe_file(self._key(run / INDEX), text.encode("utf-8"))
        publish_text(run / INDEX, text)

    def _remove(self, keys: Sequence[str]) -> None:
        for key in keys:
            with self._errors(), contextlib.suppress(FileNotFoundError):
                self.files.rm_file(key)

    def _known(self, folder: Path) -> list[Path]:
        """The files of a folder of single ones, as listed and as the mirror has them."""
        with self._errors(), contextlib.suppress(FileNotFoundError):
            listed = [Path(found).name for found in self.files.find(self._key(folder))]
            return sorted({folder / name for name in listed if is_name(name)} | set(folder.glob("[!.]*")))
        return sorted(folder.glob("[!.]*"))

    def _keep_time(self, path: Path) -> None:
        # Not every store tells it, and another machine may have removed the object since it was read: the mirror then
        # has the time of the copy.
        with contextlib.suppress(NotImplementedError, FileNotFoundError):
            os.utime(path, (self.files.modified(self._key(path)).timestamp(),) * 2)

    def _run_of(self, path: Path) -> Path | None:
        parts = path.relative_to(self.mirror).parts
        return self.mirror / "runs" / parts[1] if parts[0] == "runs" else None

    def _key(self, path: Path) -> str:
        return f"{self.folder}/{path.relative_to(self.mirror).as_posix()}"

    def _as_key(self, found: str) -> str:
        """A name as a listing has it."""
        return self.files._strip_protocol(found)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Whatever a store's library raises, as OSError."""
        try:
            yield
        except OSError:
            raise
        except Exception as error:
            if type(error).__module__.partition(".")[0] not in _LIBRARIES:
                raise
            words = " ".join(str(error).split())
            raise OSError(errno.EIO, f"{type(error).__name__}: {words}", self.url) from error


def index_fault(run: Path) -> str | None:
    """What is wrong with a run's index, or None: each file that it names has to be there, and knows itself whether it
    is whole."""
    missing = [name for name in _read_index(run) if not (run / name).is_file()]
    return f"names {missing[0]}, which is missing" if missing else None


def _read_index(run: Path) -> dict[str, Facts]:
    """What the mirror's copy of a run's index names. ValueError if it is damaged, or names a file elsewhere."""
    try:
        named = read_sealed(run / INDEX)["files"]
    except FileNotFoundError:
        return {}
    for name in named:
        if not all(map(is_name, name.split("/"))):
            raise ValueError(f"{run / INDEX} names the file {name!r}, which lies outside of its folder")
    return named


def _is_same(path: Path, facts: Facts) -> bool:
    return path.is_file() and path.stat().st_size == facts["bytes"] and file_sha256(path) == facts["sha256"]
