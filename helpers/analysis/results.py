"""Result files -> two tables: one row a run, and one row a run and component, both at the end of the run.

Only runs that share a condition may be averaged (`conditions`). A file that cannot be used is named with the reason,
and the others are read.
"""

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from helpers.analysis.conditions import Condition, condition_names, condition_of, without
from helpers.config import RunConfig, portable_name
from helpers.runs.result_file import Result, read_result
from helpers.settings import from_json
from helpers.storage import Storage, require_name

GRID, BASELINE, CONTROL = "grid", "baseline", "control"

RUN_COLUMNS = (
    "run_id", "condition", "role", "k", "seed", "source", "size", "components", "allocation", "order", "sampling",
    "shuffle", "is_baseline", "window_tokens", "step", "xe", "ppl", "bayes_xe", "bayes_known_xe", "tokens_seen",
    "unique_tokens", "repetition", "params_total", "params_non_embedding", "params_matmul", "flops_exact", "flops_6nd",
    "device", "precision",
)  # fmt: skip
XE_COLUMNS = (
    "run_id", "condition", "role", "k", "seed", "component", "split", "windows", "unique_tokens", "xe", "ppl", "se",
    "bayes_xe", "bayes_known_xe", "xe_by_position", "bayes_xe_by_position", "bayes_known_xe_by_position",
    "paper_windows", "paper_xe",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Results:
    """What the result files of one study hold."""

    study: str
    runs: pd.DataFrame
    """One row a run (RUN_COLUMNS); XE in nats per token, the mean over its components at the last step. Exact Bayes
    values are NaN where they are not known."""
    xe: pd.DataFrame
    """One row a run and component (XE_COLUMNS); `*_by_position` are arrays of shape (T,), or None if not known;
    `paper_*` of shape (P,), one value a test paper, in an order that all runs share."""
    run_lines: dict[str, dict[str, Any]]
    """What each counted file says of its run as a whole, by run_id: settings and provenance."""
    settings: dict[str, Condition]
    """What the runs of a condition share, by its name."""
    left_out: list[str]
    """`file: reason`, for every file that is not counted."""

    @property
    def conditions(self) -> list[str]:
        """The conditions, that with most runs first."""
        counts = self.runs["condition"].value_counts()
        return sorted(counts.index, key=lambda condition: (-counts[condition], condition))

    def runs_of(self, condition: str) -> pd.DataFrame:
        """The rows of `runs` of one condition, of every role."""
        return self.runs[self.runs["condition"] == condition]

    def of(self, condition: str, role: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The rows of `runs` and of `xe` of one condition and role: grid, baseline (one named component) or control
        (shuffled labels)."""
        return _rows(self.runs, condition, role), _rows(self.xe, condition, role)

    def alike_but_for(self, condition: str, setting: str) -> list[str]:
        """The conditions that equal `condition` but for one setting such as `model.size`; itself first."""
        shared = {name: without(settings, setting) for name, settings in self.settings.items()}
        others = [name for name in self.conditions if name != condition and shared[name] == shared[condition]]
        return [condition, *others]


def load_results(storage: Storage, study: str) -> Results:
    """Every usable result of `study` in `storage`; what is not usable is named in `left_out`."""
    found: dict[str, tuple[Result, RunConfig]] = {}
    left_out = []
    for path in _result_paths(storage):
        try:
            _require_inside(path, storage)
            result, config = _read(path, study)
            run_id = result.run["run_id"]
            if run_id in found:
                raise ValueError(f"is a second file of run {run_id}")
            found[run_id] = (result, config)
        except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
            left_out.append(_printable(f"{path.name}: {_reason(error, path)}"))
    settings = [condition_of(config) for _, config in found.values()]
    names = condition_names(settings)
    runs, xe = [], []
    for (result, config), condition in zip(found.values(), names, strict=True):
        shared = {"run_id": result.run["run_id"], "condition": condition, "role": _role(config)}
        shared |= {"k": config.k, "seed": config.seed}
        runs.append(shared | _run_row(result, config))
        xe += [shared | row for row in _xe_rows(result)]
    return Results(
        study=study,
        runs=_frame(runs, RUN_COLUMNS),
        xe=_frame(xe, XE_COLUMNS),
        run_lines={run_id: result.run for run_id, (result, _) in found.items()},
        settings=dict(zip(names, settings, strict=True)),
        left_out=left_out,
    )


def usable_results(storage: Storage, study: str) -> Results:
    """`load_results`; ValueError if there is no usable one, with the reason for each file that was left out."""
    results = load_results(storage, study)
    if results.runs.empty:
        left_out = "".join(f"\n  left out: {line}" for line in results.left_out)
        raise ValueError(
            f"no result of study {study!r} in {storage.results()}; make some with "
            f"`python -m helpers grid --study {study} --storage {storage.root}`{left_out}"
        )
    return results


def _rows(frame: pd.DataFrame, condition: str, role: str) -> pd.DataFrame:
    return frame[(frame["condition"] == condition) & (frame["role"] == role)]


def _result_paths(storage: Storage) -> list[Path]:
    """The result files; of several of one run, the one with the run's own name comes first. Names that begin with a
    dot are files that are being written."""
    folder = storage.results()
    paths = [path for path in folder.glob("*.jsonl") if not path.name.startswith(".")]
    return sorted(paths, key=lambda path: (len(path.name), path.name))


def _require_inside(path: Path, storage: Storage) -> None:
    """ValueError for what is no file, or a link that leads out of the storage."""
    if Path(os.path.realpath(storage.root)) not in Path(os.path.realpath(path)).parents:
        raise ValueError("is a link that leads out of the storage")
    if not path.is_file():
        raise ValueError("is a directory or a device, not a file")


def _read(path: Path, study: str) -> tuple[Result, RunConfig]:
    """The result and its config; ValueError, LookupError, TypeError or AttributeError if it cannot be counted."""
    result = read_result(path)
    require_name(result.run["run_id"])
    if result.run["study"] != study:
        raise ValueError(f"belongs to study {result.run['study']!r}")
    if not result.run["schedule_complete"]:
        raise ValueError("its learning-rate schedule had not ended, so it cannot be compared with runs that ended")
    if not result.summaries:
        raise ValueError("holds no summary")
    config = from_json(RunConfig, result.run["config"])
    _run_row(result, config)
    rows = _xe_rows(result)
    if any(len(row["xe_by_position"]) != config.data.window_tokens for row in rows):
        raise ValueError(f"has curves that are not of {config.data.window_tokens} positions")
    evaluated = sorted(row["component"] for row in rows)
    if evaluated != sorted(result.run["components"]):
        raise ValueError(f"evaluates {evaluated} at its last step, but was trained on {result.run['components']}")
    return result, config


def _reason(error: Exception, path: Path) -> str:
    if isinstance(error, KeyError):
        return f"has no field {error}"
    if isinstance(error, TypeError | AttributeError):
        return f"holds a value of a wrong type ({error})"
    return str(error).removeprefix(str(path)).strip()


def _printable(text: str) -> str:
    """`text` in one line that every file and terminal takes: names of files may be any bytes."""
    return " ".join(text.encode("utf-8", "backslashreplace").decode("utf-8").split())


def _role(config: RunConfig) -> str:
    if config.data.shuffle_labels:
        return CONTROL
    return BASELINE if config.data.components and config.k == 1 else GRID


def _run_row(result: Result, config: RunConfig) -> dict[str, Any]:
    run, last, data = result.run, result.summaries[-1], config.data
    return {
        "source": portable_name(data.source),
        "size": config.model.size,
        "components": tuple(map(_text, run["components"])),
        "allocation": data.allocation,
        "order": data.order,
        "sampling": data.sampling,
        "shuffle": data.shuffle_labels,
        "is_baseline": _role(config) == BASELINE,
        "window_tokens": data.window_tokens,
        "step": _number(last["step"]),
        "xe": _number(last["xe"]),
        "ppl": _number(last["ppl"]),
        "bayes_xe": _number_or_nan(last["bayes_xe"]),
        "bayes_known_xe": _number_or_nan(last["bayes_known_xe"]),
        "tokens_seen": _number(run["tokens_seen"]),
        "unique_tokens": _number(run["unique_tokens"]),
        "repetition": _number(run["tokens_seen_per_unique_token"]),
        "params_total": _number(run["params"]["total"]),
        "params_non_embedding": _number(run["params"]["non_embedding"]),
        "params_matmul": _number(run["params"]["matmul"]),
        "flops_exact": _number(run["flops"]["exact"]),
        "flops_6nd": _number(run["flops"]["6ND"]),
        "device": _text(run["provenance"]["device"]),
        "precision": _text(run["provenance"]["precision"]),
    }


def _xe_rows(result: Result) -> list[dict[str, Any]]:
    """The rows of the last step, in the run's order of components."""
    last_step = result.summaries[-1]["step"]
    return [_xe_row(row, result) for row in result.xe if row["step"] == last_step]


def _xe_row(row: dict[str, Any], result: Result) -> dict[str, Any]:
    texts = {name: _text(row[name]) for name in ("component", "split")}
    numbers = {name: _number(row[name]) for name in ("windows", "xe", "ppl")}
    numbers["unique_tokens"] = _number(result.run["unique_tokens_by_component"][texts["component"]])
    numbers |= {name: _number_or_nan(row[name]) for name in ("se", "bayes_xe", "bayes_known_xe")}
    curve = _array(row["xe_by_position"])
    bayes = {name: row[name] for name in ("bayes_xe_by_position", "bayes_known_xe_by_position")}
    curves = {name: None if values is None else _array(values, len(curve)) for name, values in bayes.items()}
    papers = {"paper_windows": _array(row["by_paper"]["windows"])}
    papers["paper_xe"] = _array(row["by_paper"]["xe"], len(papers["paper_windows"]))
    return texts | numbers | curves | papers | {"xe_by_position": curve}


def _text(value: Any) -> str:
    """`value`, which has to be text that a file can hold; TypeError or ValueError otherwise."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is not text")
    if re.search("[\ud800-\udfff]", value):
        raise ValueError(f"names {value!r:.40}, which no file can hold")
    return value


def _number(value: Any) -> float:
    """`value`, which has to be a finite number; TypeError or ValueError otherwise."""
    if type(value) not in (int, float):
        raise TypeError(f"{value!r:.40} is not a number")
    if not abs(value) <= sys.float_info.max:
        raise ValueError(f"holds {value!r:.40}, which is no finite number")
    return value


def _number_or_nan(value: Any) -> float:
    return float("nan") if value is None else _number(value)


def _array(values: Any, num_positions: int | None = None) -> np.ndarray:
    """A curve of finite numbers, of `num_positions` where that is known."""
    if not isinstance(values, list):
        raise TypeError(f"{values!r:.40} is not a curve")
    if num_positions not in (None, len(values)):
        raise ValueError(f"has curves of {num_positions} and of {len(values)} positions")
    return np.array([_number(value) for value in values], dtype=float)


def _frame(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=list(columns))
    by = [name for name in ("condition", "role", "k", "seed", "run_id", "component") if name in columns]
    return frame.sort_values(by).reset_index(drop=True)
