"""The result files of one study: those that can be counted, and the reason for each that cannot."""

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from helpers.config import RunConfig
from helpers.runs.result_file import Result, read_result
from helpers.settings import from_json
from helpers.storage import Storage, require_name


class Found(NamedTuple):
    result: Result
    config: RunConfig


Check = Callable[[Result, RunConfig], None]
"""ValueError, LookupError or TypeError for a result that its study cannot count."""


@dataclass(frozen=True, kw_only=True)
class ResultFiles:
    study: str
    found: dict[str, Found]
    """Every usable result, by run_id."""
    left_out: list[str]
    """`file: reason`, for every file that is not counted."""


def read_results(storage: Storage, study: str, check: Check) -> ResultFiles:
    """Every usable result of `study` in `storage`; what is not usable is named in `left_out`."""
    found: dict[str, Found] = {}
    left_out = []
    for path in _result_paths(storage):
        try:
            _require_inside(path, storage)
            result, config = _read(path, study)
            check(result, config)
            run_id = result.run["run_id"]
            if run_id in found:
                raise ValueError(f"is a second file of run {run_id}")
            found[run_id] = Found(result, config)
        except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
            left_out.append(_printable(f"{path.name}: {_reason(error, path)}"))
    return ResultFiles(study=study, found=found, left_out=left_out)


def require_results(files: ResultFiles, storage: Storage) -> None:
    """ValueError if there is no usable result, with the reason for each file that was left out."""
    if not files.found:
        left_out = "".join(f"\n  left out: {line}" for line in files.left_out)
        raise ValueError(
            f"no result of study {files.study!r} in {storage.results()}; make some with "
            f"`python -m helpers grid --study {files.study} --storage {storage.address}`{left_out}"
        )


def text(value: Any) -> str:
    """`value`, which has to be text that a file can hold; TypeError or ValueError otherwise."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is not text")
    if re.search("[\ud800-\udfff]", value):
        raise ValueError(f"names {value!r:.40}, which no file can hold")
    return value


def number(value: Any) -> float:
    """`value`, which has to be a finite number; TypeError or ValueError otherwise."""
    if type(value) not in (int, float):
        raise TypeError(f"{value!r:.40} is not a number")
    if not abs(value) <= sys.float_info.max:
        raise ValueError(f"holds {value!r:.40}, which is no finite number")
    return value


def number_or_nan(value: Any) -> float:
    return float("nan") if value is None else number(value)


def array(values: Any, num_positions: int | None = None) -> np.ndarray:
    """A curve of finite numbers, of `num_positions` where that is known."""
    if not isinstance(values, list):
        raise TypeError(f"{values!r:.40} is not a curve")
    if num_positions not in (None, len(values)):
        raise ValueError(f"has curves of {num_positions} and of {len(values)} positions")
    if set(map(type, values)) == {float} and np.isfinite(curve := np.array(values)).all():
        return curve
    return np.array([number(value) for value in values], dtype=float)  # which says what is no number


def _result_paths(storage: Storage) -> list[Path]:
    """The result files; of several of one run, the one with the run's own name comes first. Names that begin with a
    dot are files that are being written."""
    if storage.store:
        storage.store.gather()
    folder = storage.results()
    paths = [path for path in folder.glob("*.jsonl") if not path.name.startswith(".")]
    return sorted(paths, key=lambda path: (len(path.name), path.name))


def _require_inside(path: Path, storage: Storage) -> None:
    """ValueError for what is no file, or a link that leads out of the storage."""
    if Path(os.path.realpath(storage.root)) not in Path(os.path.realpath(path)).parents:
        raise ValueError("is a link that leads out of the storage")
    if not path.is_file():
        raise ValueError("is a directory or a device, not a file")


def _read(path: Path, study: str) -> Found:
    result = read_result(path)
    require_name(result.run["run_id"])
    if result.run["study"] != study:
        raise ValueError(f"belongs to study {result.run['study']!r}")
    if not result.run["schedule_complete"]:
        raise ValueError("its learning-rate schedule had not ended, so it cannot be compared with runs that ended")
    return Found(result, from_json(RunConfig, result.run["config"]))


def _reason(error: Exception, path: Path) -> str:
    if isinstance(error, KeyError):
        return f"has no field {error}"
    if isinstance(error, TypeError | AttributeError):
        return f"holds a value of a wrong type ({error})"
    return str(error).removeprefix(str(path)).strip()


def _printable(text: str) -> str:
    """`text` in one line that every file and terminal takes: names of files may be any bytes."""
    return " ".join(text.encode("utf-8", "backslashreplace").decode("utf-8").split())
