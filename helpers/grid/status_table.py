"""How far every run of a grid is, as a table: a row for each combination of the axes, a column for each seed."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from helpers.config import RunConfig
from helpers.grid.live import live_table
from helpers.grid.text import aligned
from helpers.runs.status import STATUSES, RunStatus, run_status
from helpers.settings import field_value
from helpers.storage import Storage

GRID = "grid"
"""The role of a run that is a cell of the table; the others are counted."""
_COLUMN = "seed"


@dataclass(frozen=True, kw_only=True)
class GridStatus:
    runs: tuple[RunStatus, ...]
    roles: tuple[str, ...]
    """Of each of the runs."""
    axes: tuple[str, ...]
    """The config's fields that name a row, such as `k`."""

    @property
    def headers(self) -> list[str]:
        return [axis_word(axis) for axis in self.axes]

    @property
    def rows(self) -> dict[tuple[str, ...], dict[int, RunStatus]]:
        """The grid's own runs by the values of `axes`, then by seed."""
        rows: dict[tuple[str, ...], dict[int, RunStatus]] = {}
        for run in self._cells:
            values = tuple(_words(field_value(run.config, axis)) for axis in self.axes)
            rows.setdefault(values, {})[run.config.seed] = run
        return rows

    @property
    def seeds(self) -> list[int]:
        return sorted({run.config.seed for run in self._cells})

    @property
    def is_complete(self) -> bool:
        return all(run.status == "done" for run in self.runs)

    def counts(self) -> list[str]:
        """A line for each role: how many of its runs have which status."""
        lines = []
        for role in dict.fromkeys(self.roles):
            found = [run.status for run, own in zip(self.runs, self.roles, strict=True) if own == role]
            words = ", ".join(f"{found.count(status)} {status}" for status in STATUSES if status in found)
            lines.append(f"{role}: {words} (of {len(found)})")
        return lines

    def failures(self) -> list[str]:
        return [f"failed {run.config.run_id}: {run.reason}" for run in self.runs if run.status == "failed"]

    def __str__(self) -> str:
        cells = [
            [*values, *(str(row[seed]) if seed in row else "" for seed in self.seeds)]
            for values, row in self.rows.items()
        ]
        table = aligned([*self.headers, *(f"seed {seed}" for seed in self.seeds)], cells)
        live = live_table(self.runs)
        return "\n".join([table, "", *self.counts(), *self.failures(), *(["", live] if live else [])])

    @property
    def _cells(self) -> list[RunStatus]:
        return [run for run, role in zip(self.runs, self.roles, strict=True) if role == GRID]


def grid_status(
    configs: Iterable[RunConfig], storage: Storage, axes: Iterable[str], role_of: Callable[[RunConfig], str]
) -> GridStatus:
    """The status of the runs of a grid over `axes`."""
    configs = list(configs)
    return GridStatus(
        runs=tuple(run_status(config, storage) for config in configs),
        roles=tuple(map(role_of, configs)),
        axes=tuple(axis for axis in axes if axis != _COLUMN),
    )


def axis_word(axis: str) -> str:
    """An axis as the heading of a column."""
    name = axis.rpartition(".")[2]
    return "K" if name == "k" else name


def axis_cells(config: RunConfig, axes: Sequence[str]) -> dict[str, str]:
    """The values of the axes of one run, by their headings."""
    return {axis_word(axis): _words(field_value(config, axis)) for axis in axes}


def _words(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
