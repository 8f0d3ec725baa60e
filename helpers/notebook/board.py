"""The grid as a board of coloured cells, read from the storage alone: a second tab or a later day sees the same.

A click on a cell shows its run. Without a front end, `str(board)` is the same as a table.
"""

import contextlib
import datetime
import html
import threading
import time
from typing import TYPE_CHECKING

from helpers.grid.status_table import GridStatus, grid_status
from helpers.notebook.browser import results_browser
from helpers.notebook.run_view import component_table, png, run_figure
from helpers.notebook.widgets import picture_widget, show_widget
from helpers.runs.metrics import metrics_path, read_metrics
from helpers.runs.result_file import Result
from helpers.runs.status import RunStatus
from helpers.storage import Storage
from helpers.studies import find_study
from helpers.studies.preset import Preset
from helpers.studies.run_preset import known_runs

if TYPE_CHECKING:
    import ipywidgets

COLOURS = {"done": "#8fd6bd", "running": "#a9d3f0", "failed": "#f5b895", "begun": "#f5eab5", "missing": "#ffffff"}
MARKS = {"done": "✓", "running": "▶", "failed": "✗", "begun": "◐", "missing": "·"}
"""Before a cell's words, for those to whom the colours are alike."""
LEAST_WATCH_S, WATCH_SHARE = 5.0, 0.05
"""How often a board that is watched reads the storage again: at most this share of the time goes into that."""
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
        self._names: dict[str, str] = {}
        self._runs: dict[str, RunStatus] = {}
        self._num_browsed = 0
        self._stopped, self._reading = threading.Event(), threading.Lock()

    @property
    def status(self) -> GridStatus:
        """What the storage says now."""
        return grid_status(self._configs, self._storage, self._axes, self._role_of)

    def __str__(self) -> str:
        return str(self.status)

    def show(self) -> None:
        """Display the board, a button that reads the storage again, and room for a run."""
        import ipywidgets

        status = self.status
        self._lines, self._detail, self._browser = ipywidgets.HTML(), ipywidgets.VBox(), ipywidgets.VBox()
        head = ipywidgets.HBox(
            [_label(header) for header in status.headers] + [_label(f"seed {seed}") for seed in status.seeds]
        )
        rows = [
            ipywidgets.HBox(
                [
                    *map(_label, values),
                    *(self._cell(row.get(seed), self._name(status, values, seed)) for seed in status.seeds),
                ]
            )
            for values, row in status.rows.items()
        ]
        button = ipywidgets.Button(description="Refresh", icon="refresh").add_class("board-refresh")
        button.on_click(lambda _button: self.refresh())
        button.tooltip = "read the storage again now; the board does so by itself while a run is going"
        parts = [head, *rows, self._lines, button, self._detail, self._browser]
        show_widget(ipywidgets.VBox(parts).add_class("board"), str(status))
        self.refresh()
        self._watch()

    def refresh(self) -> None:
        """Read the storage again; without a board on the screen it does nothing."""
        if self._cells:
            with self._reading:  # the thread that watches, and a cell that reports
                self._refresh()

    def _refresh(self) -> None:
        try:
            status = self.status
        except (OSError, ValueError) as error:  # an error in a callback would be lost, and one in a report end a grid
            self._say([f"the storage cannot be read now ({error}); the cells are as they were"])
            return
        self._runs = {run.config.run_id: run for run in status.runs}
        for run_id, cell in self._cells.items():
            _paint(cell, self._runs[run_id], self._names[run_id])
        read = f"read from {self._storage.address} at {datetime.datetime.now():%H:%M:%S}"
        self._say([*status.counts(), *status.failures(), read])
        results = _results(status)
        num_results = sum(map(len, results.values()))
        if num_results != self._num_browsed:  # else what is chosen in the browser stays
            self._num_browsed = num_results
            self._browser.children = [results_browser(results, ", ".join(status.headers))]

    def _watch(self) -> None:
        """Refresh now and then for as long as this kernel lives, in a thread: a cell that trains does not wait, and
        the board moves while it runs. Ends once every run is done."""

        def watch() -> None:
            pause_s = LEAST_WATCH_S
            while not self._stopped.wait(pause_s):
                began = time.monotonic()
                self.refresh()
                pause_s = max(LEAST_WATCH_S, (time.monotonic() - began) / WATCH_SHARE)
                if self._runs and all(run.status == "done" for run in self._runs.values()):
                    return

        self.stop()
        self._stopped = threading.Event()
        threading.Thread(target=watch, name="board", daemon=True).start()

    def stop(self) -> None:
        """Stop following the storage by itself."""
        self._stopped.set()

    def report(self, text: str) -> None:
        """Print what a grid reports, and show where its runs are now."""
        print(text, flush=True)
        self.refresh()

    def _say(self, lines: list[str]) -> None:
        text = "<br>".join(map(html.escape, lines))
        self._lines.value = f"{_STYLE}<div style='line-height:1.5'>{text}</div>"

    def _name(self, status: GridStatus, values: tuple[str, ...], seed: int) -> str:
        """A cell in words, such as `K 4, seed 0`, for those who do not see where it stands."""
        axes = [f"{header} {value}" for header, value in zip(status.headers, values, strict=True)]
        return ", ".join([*axes, f"seed {seed}"])

    def _cell(self, run: RunStatus | None, name: str) -> "ipywidgets.Widget":
        import ipywidgets

        if run is None:
            return _label("")
        cell = ipywidgets.Button(layout=ipywidgets.Layout(width=_WIDTH)).add_class("board-cell")
        cell.on_click(lambda _button: self._show_run(run.config.run_id))
        self._cells[run.config.run_id] = cell
        self._names[run.config.run_id] = name
        return cell

    def _show_run(self, run_id: str) -> None:
        """The curve and the table of a run, as far as there are any."""
        import ipywidgets

        result, metrics, shown = self._runs[run_id].result, [], []
        with contextlib.suppress(OSError):  # without its curve
            metrics = read_metrics(metrics_path(self._storage, run_id))
        if metrics or result:
            alt = f"training loss and XE by position of {run_id}"
            shown.append(picture_widget(png(run_figure(metrics, result)), alt))
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


def _paint(cell: "ipywidgets.Button", run: RunStatus, name: str) -> None:
    for status in COLOURS:
        cell.remove_class(f"board-{status}")
    cell.add_class(f"board-{run.status}")
    cell.style.button_color = COLOURS[run.status]
    cell.description = f"{MARKS[run.status]} {run}"
    cell.tooltip = " ".join([f"{name}: {run.status}", run.config.run_id, run.reason]).strip()
