"""How far a run is, told from its storage alone: any process, tab or later day sees the same.

done: the result file is there, whole. running: a process of this machine holds the run's lock, or, where machines may
share the storage, its files were written to lately. failed: the notebook that a grid executed for it ended in an error,
and nothing was written since. begun: it has trained for some steps, and nobody is at it. missing: none of these.

What cannot be known: that a run failed in an open notebook, or was killed, before it was written down (it looks left),
and for some minutes that another machine's run has stopped (it looks running).
"""

import contextlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from helpers.config import RunConfig
from helpers.locks import is_held
from helpers.runs.length import training_tokens
from helpers.runs.metrics import metrics_path, read_metrics
from helpers.runs.result_file import Result, read_result
from helpers.storage import Storage

Status = Literal["done", "running", "failed", "begun", "missing"]
STATUSES: tuple[Status, ...] = ("done", "running", "failed", "begun", "missing")

FAILURE = "failure"
"""In the metadata of a notebook that did not end and none of whose cells says why: the reason in words."""
_FAILURE_BEFORE = "kernel_died"
"""The same in notebooks of earlier versions."""

_NOT_FAILURES = ("TimeIsUp", "KeyboardInterrupt")  # a run that was stopped, with its checkpoint
_PERIODS = 2  # a run that writes a checkpoint a period is taken for stopped after so many without one


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    config: RunConfig
    status: Status
    step: int | None = None
    """The newest checkpoint; without one, the newest step in metrics.jsonl."""
    share: float | None = None
    """Of the training tokens, as far as metrics.jsonl goes; None where only the papers tell how many there are."""
    logged: dict[str, Any] | None = None
    """The newest row of metrics.jsonl of a run that is not done."""
    result: Result | None = None
    """Of a done run."""
    reason: str = ""
    """Of a failed run, in one line."""

    def __str__(self) -> str:
        if self.status == "done":
            return f"done {self.xe:.4f}"
        return f"{self.status} {self.progress}".strip()

    @property
    def xe(self) -> float | None:
        """Nats per token at the end of a done run."""
        return self.result.summaries[-1]["xe"] if self.result else None

    @property
    def tokens(self) -> int | None:
        """Training tokens consumed, as far as metrics.jsonl goes."""
        return self.logged and self.logged.get("tokens")

    @property
    def tokens_per_s(self) -> float | None:
        """Measured last; None if it was not."""
        return self.logged and self.logged.get("tokens_per_s")

    @property
    def progress(self) -> str:
        if self.step is None:
            return ""
        return f"step {self.step:,}" if self.share is None else f"{100 * self.share:.0f} %"


def run_status(config: RunConfig, storage: Storage) -> RunStatus:
    """Of one run, without a download. A result that does not read is not counted; `verify` tells why."""
    look_at_run(config.run_id, storage)
    with contextlib.suppress(OSError, ValueError, LookupError):
        result = read_result(storage.result(config.run_id))
        if result.run["run_id"] == config.run_id:
            return RunStatus(config=config, status="done", result=result)
    progress = _progress(config, storage)
    if _is_running(config, storage):
        return RunStatus(config=config, status="running", **progress)
    reason = notebook_error(storage.notebook(config.run_id), since_s=_written_s(config, storage))
    if reason:
        return RunStatus(config=config, status="failed", reason=reason, **progress)
    return RunStatus(config=config, status="begun" if progress else "missing", **progress)


def look_at_run(run_id: str, storage: Storage) -> None:
    """What an object store has by now of the files that tell a status; as it was known before while it is away."""
    with contextlib.suppress(OSError):
        storage.look(storage.result(run_id))
        if not storage.result(run_id).exists():
            records = (storage.run(run_id) / name for name in ("metrics.jsonl", "provenance.json", "files.json"))
            storage.look(storage.notebook(run_id), *records)


def notebook_error(path: Path, since_s: float = 0.0) -> str:
    """The error in which an executed notebook ended, in one line: empty if there is none, it only stopped, or the file
    is older than `since_s` (seconds of the epoch)."""
    try:
        if path.stat().st_mtime < since_s:
            return ""
        notebook = json.loads(path.read_bytes())
        outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
        errors = [(output["ename"], output["evalue"]) for output in outputs if output["output_type"] == "error"]
        failure = notebook["metadata"].get(FAILURE) or notebook["metadata"].get(_FAILURE_BEFORE, "")
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # none was executed, or it was cut
        return ""
    reasons = [f"{name}: {value}" for name, value in errors if name not in _NOT_FAILURES]
    return " ".join(" ".join([*reasons[:1], failure]).split())[:500]


def _progress(config: RunConfig, storage: Storage) -> dict[str, Any]:
    checkpoints = storage.checkpoint_steps(config.run_id)
    rows = read_metrics(metrics_path(storage, config.run_id))
    if not rows:
        return {"step": checkpoints[0]} if checkpoints else {}
    total = training_tokens(config)
    share = rows[-1]["tokens"] / total if total and "tokens" in rows[-1] else None
    return {"step": checkpoints[0] if checkpoints else rows[-1]["step"], "share": share, "logged": rows[-1]}


def _is_running(config: RunConfig, storage: Storage) -> bool:
    if is_held(storage.lock(config.run_id)):
        return True
    if storage.is_near:  # then the locks are where all who share the storage see them
        return False
    quiet_s = 60 * _PERIODS * config.execution.checkpoint_every_minutes
    return time.time() - _written_s(config, storage) < quiet_s


def _written_s(config: RunConfig, storage: Storage) -> float:
    """When the run last wrote to the storage, in seconds of the epoch; 0 if it never did."""
    folder = storage.run(config.run_id)  # whose config.json is written when a run is planned
    records = (folder / "provenance.json", folder / "metrics.jsonl")
    times = [0.0]
    for path in (*records, *storage.checkpoints(config.run_id).glob("step_*")):
        with contextlib.suppress(FileNotFoundError):  # not begun, or replaced meanwhile
            times.append(path.stat().st_mtime)
    return max(times)
