"""The grid: its notebook once for each run that is not done, by an engine; a failed run stops no other."""

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from helpers.config import RunConfig
from helpers.data.cache_id import cache_id
from helpers.grid.engines import LOCAL, EngineOptions
from helpers.grid.live import LiveTable
from helpers.grid.notebook_job import Job
from helpers.grid.shard import WHOLE, Shard
from helpers.grid.text import aligned, duration
from helpers.locks import exclusive, is_held
from helpers.outbox import Outbox
from helpers.runs.config_file import record_config
from helpers.runs.result_file import read_result, require_same_data
from helpers.runs.status import RunStatus, look_at_run, run_status
from helpers.storage import Storage

Report = Callable[[str], None]

_GLANCE_S = 1.0  # between two looks at an engine
_TIME_IS_UP = "TimeIsUp:"  # how the reason of a run begins that stopped at its execution.max_minutes


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run of the grid ended."""

    config: RunConfig
    status: Literal["done", "failed", "left"]
    xe: float | None = None
    """Nats per token of a done run."""
    reason: str = ""
    """One line, for a run that failed or whose time was up."""
    kept_step: int | None = None
    """The newest checkpoint of a run that is not done."""


@dataclass(frozen=True, kw_only=True)
class GridReport:
    outcomes: tuple[Outcome, ...]
    shard: Shard = WHOLE

    @property
    def complete(self) -> bool:
        return len(self.of("done")) == len(self.outcomes)

    def joined(self, other: "GridReport") -> "GridReport":
        """Both parts of one grid."""
        return dataclasses.replace(self, outcomes=self.outcomes + other.outcomes)

    def with_left(self, configs: Iterable[RunConfig], reason: str) -> "GridReport":
        """With runs that were not begun for a reason."""
        left = tuple(Outcome(config=config, status="left", reason=reason) for config in configs)
        return dataclasses.replace(self, outcomes=self.outcomes + left)

    def of(self, status: str) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.status == status]

    def __str__(self) -> str:
        rows = [
            [end.config.run_id, end.status, "-" if end.xe is None else f"{end.xe:.4f}", _remark(end)]
            for end in self.outcomes
        ]
        totals = ", ".join(f"{len(self.of(status))} {status}" for status in ("done", "failed", "left"))
        unfinished = "" if self.complete else "; the same call again goes on with what is not done"
        return f"{aligned(['run', 'status', 'XE', 'remark'], rows)}\n\n{self.shard}: {totals}{unfinished}"


def run_grid(
    configs: Iterable[RunConfig], storage: Storage, *,
    notebook: Path, engine: EngineOptions = LOCAL, shard: Shard = WHOLE, report: Report = print,
) -> GridReport:  # fmt: skip
    """Execute `notebook` for each of `configs` that is not done by an engine, and say how every run ended.

    `configs` are the runs of `shard`. A run travels as its config.json, which is written first; the notebook is told
    its name. A KeyboardInterrupt ends the children; the runs that it stopped are reported as left, like those whose
    `execution.max_minutes` were over.
    """
    configs = list(configs)
    engine.require_possible()
    outcomes = {config.run_id: _found(config, storage) for config in configs}
    pending = [config for config in configs if outcomes[config.run_id].status != "done"]
    if len(pending) < len(configs):
        report(f"{len(configs) - len(pending)} of {len(configs)} runs are done already")
    jobs = [_job(config, notebook, storage) for config in pending]
    for config in pending:
        _send_off(config, storage, report)
    ended = {outcome.config.run_id: outcome for outcome in _execute(pending, jobs, storage, engine, report)}
    stopped = {c.run_id: _found(c, storage) for c in pending if c.run_id not in ended}  # a checkpoint later, perhaps
    return GridReport(outcomes=tuple((outcomes | stopped | ended).values()), shard=shard)


def _job(config: RunConfig, notebook: Path, storage: Storage) -> Job:
    parameters = {"RUN": config.run_id, "STORAGE": storage.address, "INTERACTIVE": False}
    return Job(name=config.run_id, notebook=notebook, storage=storage, parameters=parameters)


def _send_off(config: RunConfig, storage: Storage, report: Report) -> None:
    """Write the config.json that the run travels as. A run that another process has is left as it is."""
    if not is_held(storage.lock(config.run_id)):
        with exclusive(storage.lock(config.run_id), f"run {config.run_id}"):
            outbox = Outbox(storage=storage, run_id=config.run_id, report=report)
            record_config(config, cache_id(config.data), outbox)
            outbox.finish(60 * config.execution.storage_patience_minutes)


def _execute(
    configs: list[RunConfig], jobs: list[Job], storage: Storage, options: EngineOptions, report: Report
) -> list[Outcome]:
    """Run every job; the outcomes of those that ended, in that order."""
    if not jobs:
        return []
    config_of = {config.run_id: config for config in configs}
    queue, num_running, outcomes, begin = deque(jobs), 0, [], time.monotonic()
    live = LiveTable(report=report)
    engine = options.open(live.say)

    def look() -> list[RunStatus]:
        ended = {outcome.config.run_id for outcome in outcomes}
        return [run_status(config, storage) for config in configs if config.run_id not in ended]

    try:
        while queue or num_running:
            free = len(queue) if engine.at_once is None else min(len(queue), engine.at_once - num_running)
            if free:
                engine.start([queue.popleft() for _ in range(free)])
                num_running += free
            for job, failure in engine.wait(_GLANCE_S):
                num_running -= 1
                outcomes.append(_ended(config_of[job.name], storage, failure))
                live.say(_progress(outcomes, len(jobs), time.monotonic() - begin))
            live.show(look)
    except KeyboardInterrupt:
        live.say("stopping; checkpoints are kept")
    finally:
        live.erase()
        engine.stop()
    return outcomes


def _found(config: RunConfig, storage: Storage) -> Outcome:
    """A run that is not being executed. ValueError if it is done, but on other data than its source holds now."""
    status = run_status(config, storage)
    if status.result:
        require_same_data(config, status.result)
    ended = "done" if status.result else "left"
    return Outcome(config=config, status=ended, xe=status.xe, kept_step=_newest_step(config, storage))


def _ended(config: RunConfig, storage: Storage, failure: str | None) -> Outcome:
    """A run is done when the result file that was planned exists and reads; nothing else is asked."""
    path = storage.result(config.run_id)
    look_at_run(config.run_id, storage)
    try:
        return Outcome(config=config, status="done", xe=read_result(path).summaries[-1]["xe"], reason=failure or "")
    except FileNotFoundError:
        reason = f"the notebook ended, but not with the result file {path.name}"
    except (OSError, ValueError, LookupError) as error:
        reason = f"its result file cannot be read: {error}"
    kept_step = _newest_step(config, storage)
    ended = "left" if failure and failure.startswith(_TIME_IS_UP) else "failed"
    return Outcome(config=config, status=ended, reason=failure or reason, kept_step=kept_step)


def _newest_step(config: RunConfig, storage: Storage) -> int | None:
    return next(iter(storage.checkpoint_steps(config.run_id)), None)


def _progress(outcomes: list[Outcome], total: int, elapsed_s: float) -> str:
    last = outcomes[-1]
    words = f"XE {last.xe:.4f}" if last.status == "done" else _remark(last)
    return f"[{len(outcomes)}/{total}] {last.status} {last.config.run_id}: {words} (after {duration(elapsed_s)})"


def _remark(outcome: Outcome) -> str:
    if outcome.status == "done":
        return outcome.reason
    kept = "no checkpoint yet" if outcome.kept_step is None else f"checkpoint of step {outcome.kept_step:,} kept"
    return f"{outcome.reason}; {kept}" if outcome.reason else kept
