"""How far every run of a grid is, told from its storage alone: a second tab, or a later day, sees the same.

done: the result file is there, whole. running: a process of this machine holds the run's lock, or, where machines may
share the storage, its files were written to lately. failed: the notebook that a grid executed for it ended in an error,
and nothing was written since. missing: none of these; the run is new, or was begun and left.

What cannot be known: that a run failed in an open notebook, or was killed, before it was written down (it looks left),
and for some minutes that another machine's run has stopped (it looks running).
"""

import contextlib
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from helpers.config import RunConfig
from helpers.data.window_order import training_tokens
from helpers.grid.notebook_job import KERNEL_DIED
from helpers.grid.plan import role_of
from helpers.grid.text import aligned
from helpers.locks import is_held
from helpers.runs.metrics import metrics_path, read_metrics
from helpers.runs.result_file import Result, read_result
from helpers.settings import config_difference
from helpers.storage import Storage

State = Literal["done", "running", "failed", "missing"]
STATES: tuple[State, ...] = ("done", "running", "failed", "missing")

_NOT_FAILURES = ("TimeIsUp", "KeyboardInterrupt")  # a run that was stopped, with its checkpoint
_PERIODS = 2  # a run that writes a checkpoint a period is taken for stopped after so many without one


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    config: RunConfig
    state: State
    step: int | None = None
    """The newest step in metrics.jsonl, which appears with each checkpoint."""
    share: float | None = None
    """Of the training tokens, at that step; None where only the papers tell how many there are."""
    result: Result | None = None
    """Of a done run."""
    reason: str = ""
    """Of a failed run, in one line."""

    def __str__(self) -> str:
        if self.state == "done":
            return f"done {self.result.summaries[-1]['xe']:.4f}"
        if self.state == "missing":
            return f"begun {self.progress}" if self.progress else "new"
        return f"{self.state} {self.progress}".strip()

    @property
    def progress(self) -> str:
        if self.step is None:
            return ""
        return f"step {self.step:,}" if self.share is None else f"{100 * self.share:.0f} %"

    @property
    def role(self) -> str:
        return role_of(self.config)


@dataclass(frozen=True, kw_only=True)
class GridStatus:
    """The runs of a grid as a table: a row for each setting that varies, a column for each seed."""

    runs: tuple[RunStatus, ...]
    axes: tuple[str, ...]
    """The config's fields that name a row, such as `k`."""

    @property
    def headers(self) -> list[str]:
        names = [axis.rpartition(".")[2] for axis in self.axes]
        return ["K" if name == "k" else name for name in names]

    @property
    def rows(self) -> dict[tuple[str, ...], dict[int, RunStatus]]:
        """The grid's own runs by the values of `axes`, then by seed; baselines and controls are in none."""
        rows: dict[tuple[str, ...], dict[int, RunStatus]] = {}
        for run in self.runs:
            if run.role == "grid":
                rows.setdefault(_values(run.config, self.axes), {})[run.config.seed] = run
        return rows

    @property
    def seeds(self) -> list[int]:
        return sorted({run.config.seed for run in self.runs if run.role == "grid"})

    @property
    def is_complete(self) -> bool:
        return all(run.state == "done" for run in self.runs)

    def counts(self) -> list[str]:
        """A line for each role: how many of its runs are in which state."""
        lines = []
        for role in dict.fromkeys(run.role for run in self.runs):
            states = [run.state for run in self.runs if run.role == role]
            found = ", ".join(f"{states.count(state)} {state}" for state in STATES if state in states)
            lines.append(f"{role}: {found} (of {len(states)})")
        return lines

    def failures(self) -> list[str]:
        return [f"failed {run.config.run_id}: {run.reason}" for run in self.runs if run.state == "failed"]

    def __str__(self) -> str:
        cells = [
            [*values, *(str(row[seed]) if seed in row else "" for seed in self.seeds)]
            for values, row in self.rows.items()
        ]
        table = aligned([*self.headers, *(f"seed {seed}" for seed in self.seeds)], cells)
        return "\n".join([table, "", *self.counts(), *self.failures()])


def grid_status(configs: Iterable[RunConfig], storage: Storage, parameters: Mapping[str, str]) -> GridStatus:
    """The status of `configs`; `parameters` are the study's, whose fields name the rows."""
    runs = tuple(run_status(config, storage) for config in configs)
    grid = [run.config for run in runs if run.role == "grid"]
    return GridStatus(runs=runs, axes=_axes(grid, parameters.values()))


def run_status(config: RunConfig, storage: Storage) -> RunStatus:
    """Of one run, without a download. A result that does not read is not counted; `verify` tells why."""
    with contextlib.suppress(OSError, ValueError, LookupError):
        result = read_result(storage.result(config.run_id))
        if result.run["run_id"] == config.run_id and result.summaries:
            return RunStatus(config=config, state="done", result=result)
    progress = _progress(config, storage)
    if _is_running(config, storage):
        return RunStatus(config=config, state="running", **progress)
    reason = notebook_error(storage.notebook(config.run_id), since_s=_written_s(config, storage))
    return RunStatus(config=config, state="failed" if reason else "missing", reason=reason, **progress)


def notebook_error(path: Path, since_s: float = 0.0) -> str:
    """The error in which an executed notebook ended, in one line: empty if there is none, it only stopped, or the file
    is older than `since_s` (seconds of the epoch)."""
    try:
        if path.stat().st_mtime < since_s:
            return ""
        notebook = json.loads(path.read_bytes())
        outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
        errors = [(output["ename"], output["evalue"]) for output in outputs if output["output_type"] == "error"]
        death = notebook["metadata"].get(KERNEL_DIED, "")
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # none was executed, or it was cut
        return ""
    reasons = [f"{name}: {value}" for name, value in errors if name not in _NOT_FAILURES]
    return " ".join(" ".join([*reasons[:1], death]).split())[:500]


def _progress(config: RunConfig, storage: Storage) -> dict[str, Any]:
    rows = read_metrics(metrics_path(storage, config.run_id))
    if not rows:
        return {}
    total = training_tokens(config)
    share = rows[-1]["tokens"] / total if total and "tokens" in rows[-1] else None
    return {"step": rows[-1]["step"], "share": share}


def _is_running(config: RunConfig, storage: Storage) -> bool:
    if is_held(storage.lock(config.run_id)):
        return True
    if storage.scratch.is_relative_to(storage.root):  # then the locks are where all who share the storage see them
        return False
    quiet_s = 60 * _PERIODS * config.execution.checkpoint_every_minutes
    return time.time() - _written_s(config, storage) < quiet_s


def _written_s(config: RunConfig, storage: Storage) -> float:
    """When the run last wrote to the storage, in seconds of the epoch; 0 if it never did."""
    folder = storage.run(config.run_id)
    times = [0.0]
    for path in (*folder.glob("*.json*"), *storage.checkpoints(config.run_id).glob("step_*")):
        with contextlib.suppress(FileNotFoundError):  # a checkpoint that a newer one has replaced meanwhile
            times.append(path.stat().st_mtime)
    return max(times)


def _axes(configs: list[RunConfig], fields: Iterable[str]) -> tuple[str, ...]:
    """The study's own fields but the seed, and every other setting in which the runs differ."""
    named = [field for field in fields if field != "seed"]
    science = [config.science() for config in configs]
    lines = [line for other in science[1:] for line in config_difference(science[0], other)]
    differing = {line.partition(":")[0] for line in lines}
    return (*named, *sorted(differing - {*named, "seed"}))


def _values(config: RunConfig, axes: tuple[str, ...]) -> tuple[str, ...]:
    values = []
    for axis in axes:
        value: Any = config
        for name in axis.split("."):
            value = getattr(value, name)
        values.append(f"{value:g}" if isinstance(value, float) else str(value))
    return tuple(values)
