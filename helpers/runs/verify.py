"""Every file of a storage against its hashes: which are damaged, and what makes each whole again.

    python -m helpers verify --storage outputs

Nothing is written. Figures, tables and reports have no hash: `analyse` makes them again from the results. What may be
absent by design cannot be missed: checkpoints, and all but the last snapshot of a run that is done, are thinned, and
the tokens in scratch are unpacked when they are needed.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.data.flat_tokens import flat_fault
from helpers.data.token_cache import MANIFEST, file_fault, read_manifest
from helpers.mirror import copied
from helpers.object_store import INDEX, index_fault
from helpers.runs.checkpoints import best_path, checkpoint_fault, read_best, read_snapshot, snapshots, weights_sha256
from helpers.runs.metrics import check_rows, measurements_path
from helpers.runs.result_file import Result, read_result
from helpers.seals import read_sealed
from helpers.storage import Storage, is_marked, is_name, is_url

_FETCH = "delete it and fetch or run again: the cache is mended"
_RUN = "run the same again: it is written anew"
_GO_ON = "run the same again: it goes on from the checkpoint before it, or begins anew"
_PREDICTION = "delete it: what was said of its held-out runs then counts for nothing"
_TRAIN = (
    "delete it and the run's result, and run the same again: it is trained anew. The result itself does not need it"
)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One file, or one checkpoint, that was looked at."""

    path: Path | str
    """A file, or the URL of an object."""
    fault: str | None
    remedy: str

    def __str__(self) -> str:
        return f"{self.path} {self.fault}; {self.remedy}"

    def at(self, folder: Path, address: str) -> "Finding":
        """The same of a copy in `folder`, told of the place that it was copied from."""
        place = f"{address.rstrip('/')}/{Path(self.path).relative_to(folder).as_posix()}"
        return Finding(path=place, fault=self.fault and self.fault.replace(str(folder), address), remedy=self.remedy)


@dataclass(frozen=True)
class Verified:
    findings: tuple[Finding, ...]

    @property
    def damaged(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.fault]

    def __str__(self) -> str:
        total = f"{len(self.damaged)} damaged" if self.damaged else "all whole"
        return "\n".join([*map(str, self.damaged), f"{len(self.findings)} files and checkpoints checked: {total}"])


def verify_storage(root: str | Path) -> Verified:
    """Read and hash every file of the storage at `root`. ValueError if there is no such folder.

    Of an object store a copy is verified that ends with this: nothing of it may be believed from this machine.
    """
    if is_url(root):
        with copied(str(root)) as folder:
            return Verified(tuple(found.at(folder, str(root)) for found in verify_storage(folder).findings))
    root = Path(root).expanduser().absolute()
    if not root.is_dir():
        raise ValueError(f"storage = {str(root)!r} is not a folder; use one that a run has written to")
    storage = Storage(root, root / "scratch", storage_id="")
    findings = [_look(root, _RUN, lambda: None if is_marked(root) else "has lost its marker")]
    for folder in _folders(root / "cache"):
        findings += _look_into(folder, _look_at_cache, storage)
    for path in _files(storage.results(), "*.jsonl"):
        findings.append(_look(path, "delete it and " + _RUN, _result_fault, path))
    for folder in _folders(root / "runs"):
        findings += _look_into(folder, _look_at_run, storage)
    for path in _files(storage.predictions(), "*.json"):
        findings.append(_look(path, _PREDICTION, _prediction_fault, path))
    for path in _files(root / "notebooks", "*.ipynb"):
        findings.append(_look(path, "delete it: the result does not need it", _notebook_fault, path))
    return Verified(tuple(findings))


def _look(path: Path, remedy: str, find: Callable[..., str | None], *arguments: Any) -> Finding:
    """What `find` says, or raises, about `path`."""
    try:
        fault = find(*arguments)
    except FileNotFoundError:
        fault = "is missing"
    except OSError as error:
        fault = f"cannot be read ({error.strerror or error})"
    except ValueError as error:
        fault = str(error).removeprefix("snapshot ").removeprefix(f"{path} ")
    return Finding(path=path, fault=fault, remedy=remedy)


def _look_into(folder: Path, look: Callable[[Storage, Path], Iterator[Finding]], storage: Storage) -> Iterator[Finding]:
    """What `look` finds in `folder`, as far as it can be listed: a link out of the storage ends it."""
    try:
        yield from look(storage, folder)
    except (OSError, ValueError) as error:
        yield Finding(path=folder, fault=f"cannot be listed ({error})", remedy="then verify again")


def _folders(place: Path) -> list[Path]:
    """The folders in `place` whose names can be those of a cache or a run."""
    return sorted(path for path in place.glob("*") if path.is_dir() and is_name(path.name))


def _files(folder: Path, pattern: str) -> list[Path]:
    """The files of a kind. What begins with a dot is being written."""
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))


def _look_at_cache(storage: Storage, folder: Path) -> Iterator[Finding]:
    manifest = _look(folder / MANIFEST, _FETCH, _manifest_fault, storage, folder)
    yield manifest
    if manifest.fault:
        return
    cache = read_manifest(storage, folder.name)
    for name, facts in cache.files().items():
        yield _look(folder / name, _FETCH, file_fault, folder / name, facts)
    for split in cache.manifest["splits"]:
        flat = storage.flat_tokens(cache.cache_id) / split
        if flat.exists():
            yield _look(flat, "the next run unpacks it again", flat_fault, cache, split, flat)


def _manifest_fault(storage: Storage, folder: Path) -> str | None:
    read_sealed(folder / MANIFEST)
    return None if read_manifest(storage, folder.name) else f"is not the manifest of cache {folder.name}"


def _result_fault(path: Path) -> str | None:
    run_id = read_result(path).run["run_id"]
    return None if run_id == path.stem else f"is the result of run {run_id}"


def _prediction_fault(path: Path) -> str | None:
    read_sealed(path)
    return None


def _notebook_fault(path: Path) -> str | None:
    try:
        cells = json.loads(path.read_bytes())["cells"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return "was cut: it is not a whole notebook"
    return None if isinstance(cells, list) else "was cut: it is not a whole notebook"


def _look_at_run(storage: Storage, folder: Path) -> Iterator[Finding]:
    run_id = folder.name
    checkpoints = [storage.checkpoint(run_id, step) for step in storage.checkpoint_steps(run_id)]
    kept, result = dict(snapshots(storage, run_id)), _whole_result(storage.result(run_id))
    if (folder / INDEX).exists():
        yield _look(folder / INDEX, _RUN, index_fault, folder)
    records = ["config.json", *(["provenance.json"] if checkpoints or kept else [])]
    records += ["forecast.json"] * (folder / "forecast.json").exists()
    for path in (folder / name for name in records):
        yield _look(path, _RUN, _record_fault, path, run_id)
    if checkpoints or kept:
        path = folder / "metrics.jsonl"
        yield _look(path, _RUN if checkpoints else _TRAIN, _rows_fault, path, run_id)
    path = measurements_path(storage, run_id)
    if path.exists():
        yield _look(path, _RUN if checkpoints else _TRAIN, _rows_fault, path, run_id)
    for path in checkpoints:
        yield _look(path, _GO_ON, _checkpoint_fault, path, run_id)
    if result is not None:
        kept[result.run["steps"]] = storage.snapshot(run_id, result.run["steps"])
    for step, path in kept.items():
        yield _look(path, _TRAIN, _snapshot_fault, path, run_id, step, result)
    if best_path(storage, run_id).exists():
        yield _look(best_path(storage, run_id), _TRAIN, _best_fault, storage, run_id)
    path = storage.result(run_id)
    if kept and not checkpoints and not path.exists():  # checkpoints are deleted after the result is there
        yield _look(path, "run the same again: only the evaluation is repeated", lambda: "is missing")


def _whole_result(path: Path) -> Result | None:
    try:
        return None if _result_fault(path) else read_result(path)
    except (OSError, ValueError):
        return None


def _rows_fault(path: Path, run_id: str) -> str | None:
    check_rows(path, run_id)
    return None


def _record_fault(path: Path, run_id: str) -> str | None:
    owner = read_sealed(path).get("run_id")
    return None if owner == run_id else f"belongs to run {owner}"


def _checkpoint_fault(folder: Path, run_id: str) -> str | None:
    fault = checkpoint_fault(folder, run_id)
    return fault and f"is damaged ({fault})"


def _best_fault(storage: Storage, run_id: str) -> None:
    read_best(storage, run_id)


def _snapshot_fault(path: Path, run_id: str, step: int, result: Result | None) -> str | None:
    weights = read_snapshot(path, run_id, step)
    is_last = result is not None and result.run["steps"] == step
    if is_last and result.run["weights_sha256"] != weights_sha256(weights):
        return "is not what the result was measured on"
    return None
