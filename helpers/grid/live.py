"""The runs that are trained now, a line each, and how long the grid still takes: told from the storage alone, so that
every engine, another terminal and another machine show the same."""

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

from helpers.grid.makespan import makespan_s
from helpers.grid.text import aligned, duration
from helpers.models.families import count_non_embedding
from helpers.runs.length import training_tokens
from helpers.runs.status import RunStatus

_REDRAW_S = 2.0
_FIRST_PRINT_S, _PRINT_S = 30.0, 300.0


def live_table(runs: Sequence[RunStatus]) -> str:
    """The running ones of `runs`, and the time left of all that are not done; empty if none is running."""
    running = [run for run in runs if run.status == "running"]
    if not running:
        return ""
    table = aligned(["running", "step", "loss", "tokens/s", "time left"], list(map(_row, running)))
    left = time_left_s(runs, len(running))
    words = "not known before a run has logged" if left is None else f"about {duration(left)}"
    return f"{table}\ntime left for all, {len(running)} at a time: {words}"


def time_left_s(runs: Sequence[RunStatus], workers: int) -> float | None:
    """Seconds until all runs are done, from the speeds that were measured; None without any, or where only the papers
    tell how long a run is. A run of a shape that was not measured is taken to be as fast as the measured ones, by its
    parameters."""
    if not any(run.tokens_per_s for run in runs):
        return None
    order = ["running", "begun", "failed", "missing"]
    left = [
        _seconds(run, runs) for run in sorted(runs, key=lambda r: order.index(r.status) if r.result is None else -1)
    ]
    return None if None in left else makespan_s(left, workers)


def _seconds(run: RunStatus, runs: Sequence[RunStatus]) -> float | None:
    """Of what is still to do of a run."""
    total = training_tokens(run.config)
    if run.result is not None:
        return 0.0
    if total is None:
        return None
    speed = run.tokens_per_s or _speed_like(run, runs)
    return max(0, total - (run.tokens or 0)) / speed


def _speed_like(run: RunStatus, runs: Sequence[RunStatus]) -> float:
    """Tokens a second of the runs of the same shape; of all measured ones, in parameters times tokens, if none is."""
    measured = [other for other in runs if other.tokens_per_s]
    alike = [other.tokens_per_s for other in measured if _shape(other) == _shape(run)]
    if alike:
        return median(alike)
    work = [other.tokens_per_s * count_non_embedding(other.config.model) for other in measured]
    return median(work) / count_non_embedding(run.config.model)


def _shape(run: RunStatus) -> tuple:
    config = run.config
    return config.model, config.train.batch_size, config.data.window_tokens


def _row(run: RunStatus) -> list[str]:
    if run.logged is None:
        return [run.config.run_id, "begins", "", "", ""]
    share = "" if run.share is None else f" ({100 * run.share:.0f} %)"
    left = _seconds(run, [run]) if run.tokens_per_s else None
    return [
        run.config.run_id, f"{run.logged['step']:,}{share}",
        f"{run.logged['loss']:.4f}", f"{run.tokens_per_s or 0:,.0f}", "-" if left is None else duration(left),
    ]  # fmt: skip


@dataclass(kw_only=True)
class LiveTable:
    """A table below what a grid reports: redrawn on a terminal, reported once in a while elsewhere."""

    report: Callable[[str], None]
    is_terminal: bool = field(default_factory=lambda: sys.stdout.isatty())
    _num_lines: int = 0
    _due: float = field(default_factory=lambda: time.monotonic())

    def __post_init__(self) -> None:
        self._due += _REDRAW_S if self.is_terminal else _FIRST_PRINT_S

    def say(self, text: str) -> None:
        """Report a line above the table."""
        self.erase()
        self.report(text)

    def show(self, look: Callable[[], Sequence[RunStatus]]) -> None:
        """Show the table of the runs that `look` reads from the storage, if it is time to. A storage that cannot be
        read now is looked at next time."""
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + (_REDRAW_S if self.is_terminal else _PRINT_S)
        try:
            table = live_table(look())
        except (OSError, ValueError):
            return
        if table and not self.is_terminal:
            self.report(table)
        elif self.is_terminal:
            self.erase()
            width = shutil.get_terminal_size().columns - 1
            lines = [line[:width] for line in table.splitlines()]
            self._num_lines = len(lines)
            print("".join(f"{line}\n" for line in lines), end="", flush=True)

    def erase(self) -> None:
        if self._num_lines:
            print(f"\x1b[{self._num_lines}F\x1b[J", end="", flush=True)
        self._num_lines = 0
