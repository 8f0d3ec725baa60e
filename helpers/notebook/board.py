"""The grid as a board of coloured cells, read from the storage alone: a second tab or a later day sees the same.

A click on a cell shows its run. Without a front end, `str(board)` is the same as a table.
"""

import contextlib
import datetime
import html
from typing import TYPE_CHECKING

from helpers.grid.status_table import GridStatus, grid_status
from helpers.notebook.browser import results_browser
from helpers.notebook.run_view import component_table, run_figure, show_figure
from helpers.runs.metrics import metrics_path, read_metrics
from helpers.runs.result_file import Result
from helpers.runs.status import RunStatus
from helpers.storage import Storage
from helpers.studies import find_study
from helpers.studies.preset import Preset
from helpers.studies.run_preset import known_runs

if TYPE_CHECKING:
    import ipywidgets

COLOURS = {"done": "#b5e3d3", "running": "#bcdcf2", "failed": "#f7c9ac", "begun": "#f5eab5", "missing": "#e9e9e9"}
_STYLE = """<style>
.board-cell {color: #222 !important; font-size: 12px}
.board td, .board th {padding: 2px 10px; text-align: right}
</style>"""  # dark letters on light cells, in a dark theme too
_WIDTH = "128px"


class Board:
    """The runs of a preset in a storage. ComponentsUnknown if it takes the token cache to tell them."""

    def __init__(self, preset: Preset, storage: Storage) -> None:
        self._storage = storage
        self._configs = known_runs(preset, storage)
        self._axes, self._role_of = tuple(preset.axes), find_study(preset.config.study).role_of
        self._cells: dict[str, ipywidgets.Button] = {}
        self._runs: dict[str, RunStatus] = {}
        self._num_browsed = 0

    @property
    def status(self) -> GridStatus:
        """What the storage says now."""
        return grid_status(self._configs, self._storage, self._axes, self._role_of)

    def __str__(self) -> str:
        return str(self.status)

    def show(self) -> None:
        """Display the board, a button that reads the storage again, and room for a run."""
        import ipywidgets
        from IPython.display import display

        status = self.status
        self._lines, self._detail, self._browser = ipywidgets.HTML(), ipywidgets.VBox(), ipywidgets.VBox()
        head = ipywidgets.HBox(
            [_label(header) for header in status.headers] + [_label(f"seed {seed}") for seed in status.seeds]
        )
        rows = [
            ipywidgets.HBox([*map(_label, values), *(self._cell(row.get(seed)) for seed in status.seeds)])
            for values, row in status.rows.items()
        ]
        button = ipywidgets.Button(description="Refresh", icon="refresh").add_class("board-refresh")
        button.on_click(lambda _button: self.refresh())
        parts = [head, *rows, self._lines, button, self._detail, self._browser]
        display(ipywidgets.VBox(parts).add_class("board"))
        self.refresh()

    def refresh(self) -> None:
        """Read the storage again; without a board on the screen it does nothing."""
        if not self._cells:
            return
        try:
            status = self.status
        except (OSError, ValueError) as error:  # an error in a callback would be lost, and one in a report end a grid
            self._say([f"the storage cannot be read now ({error}); the cells are as they were"])
            return
        self._runs = {run.config.run_id: run for run in status.runs}
        for run_id, cell in self._cells.items():
            _paint(cell, self._runs[run_id])
        read = f"read from {self._storage.address} at {datetime.datetime.now():%H:%M:%S}"
        self._say([*status.counts(), *status.failures(), read])
        results = _results(status)
        num_results = sum(map(len, results.values()))
        if num_results != self._num_browsed:  # else what is chosen in the browser stays
            self._num_browsed = num_results
            self._browser.children = [results_browser(results, ", ".join(status.headers))]

    def report(self, text: str) -> None:
        """Print what a grid reports, and show where its runs are now."""
        print(text, flush=True)
        self.refresh()

    def _say(self, lines: list[str]) -> None:
        text = "<br>".join(map(html.escape, lines))
        self._lines.value = f"{_STYLE}<div style='line-height:1.5'>{text}</div>"

    def _cell(self, run: RunStatus | None) -> "ipywidgets.Widget":
        import ipywidgets

        if run is None:
            return _label("")
        cell = ipywidgets.Button(layout=ipywidgets.Layout(width=_WIDTH)).add_class("board-cell")
        cell.on_click(lambda _button: self._show_run(run.config.run_id))
        self._cells[run.config.run_id] = cell
        return cell

    def _show_run(self, run_id: str) -> None:
        """The curve and the table of a run, as far as there are any."""
        import ipywidgets

        result, metrics, shown = self._runs[run_id].result, [], []
        with contextlib.suppress(OSError):  # without its curve
            metrics = read_metrics(metrics_path(self._storage, run_id))
        if metrics or result:
            shown.append(show_figure(run_figure(metrics, result)))
        if result:
            shown.append(ipywidgets.HTML(component_table(result).to_html(border=0)))
        words = run_id if shown else f"{run_id}: nothing to show yet"
        self._detail.children = [ipywidgets.HTML(f"<b>{html.escape(words)}</b>"), *shown]


def _results(status: GridStatus) -> dict[str, list[Result]]:
    """The results of each row that has any with XE by component."""
    by_row = {", ".join(values): [run.result for run in row.values()] for values, row in status.rows.items()}
    found = {name: [own for own in results if own and own.rows_of("xe")] for name, results in by_row.items()}
    return {name: results for name, results in found.items() if results}


def _label(text: str) -> "ipywidgets.HTML":
    import ipywidgets

    return ipywidgets.HTML(html.escape(text), layout=ipywidgets.Layout(width=_WIDTH))


def _paint(cell: "ipywidgets.Button", run: RunStatus) -> None:
    for status in COLOURS:
        cell.remove_class(f"board-{status}")
    cell.add_class(f"board-{run.status}")
    cell.style.button_color = COLOURS[run.status]
    cell.description = str(run)
    cell.tooltip = " ".join([run.config.run_id, run.reason]).strip()
