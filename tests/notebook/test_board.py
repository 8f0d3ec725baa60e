"""The board, its cells and its browser, driven through their widgets; curves against numbers by hand."""

import errno
import os
import time

import ipywidgets
import numpy as np
import pytest

from helpers.notebook.board import COLOURS, MARKS, Board
from helpers.notebook.browser import ALL, WINDOW, browse_figure
from helpers.notebook.run_view import MEAN
from helpers.runs.metrics import metrics_path
from helpers.runs.result_file import read_result
from helpers.seals import sealed_lines
from helpers.storage import publish_text
from helpers.studies import find_preset
from tests.simulated_results import flat_curves, write_run


def found(widget: ipywidgets.Widget, name: str) -> list[ipywidgets.Widget]:
    """The widgets of a class, in the order in which they are seen."""
    own = [widget] if name in getattr(widget, "_dom_classes", ()) else []
    return own + [inner for child in getattr(widget, "children", ()) for inner in found(child, name)]


@pytest.fixture
def preset():
    return find_preset("ergodic", "smoke")


@pytest.fixture
def show(monkeypatch):
    boards = []

    def show(board: Board) -> ipywidgets.Widget:
        shown = []
        monkeypatch.setattr("helpers.notebook.board.show_widget", lambda widget, otherwise: shown.append(widget))
        board.show()
        boards.append(board)
        return shown[0]

    yield show
    for board in boards:
        board.stop()


def finish(storage, config, xe: float = 3.0, components=("c1", "c2")) -> None:
    write_run(storage, config, flat_curves({name: xe + number for number, name in enumerate(components)}))


def test_every_run_is_a_cell_in_the_colour_of_its_status(preset, storage, show):
    finish(storage, preset.at(k=1, seed=0), components=("c1",))
    root = show(Board(preset, storage))
    assert "board" in root._dom_classes
    cells = found(root, "board-cell")
    assert [cell.description for cell in cells] == ["✓ done 3.0000", *["· missing"] * 4]
    assert [cell.style.button_color for cell in cells] == [COLOURS["done"], *[COLOURS["missing"]] * 4]
    assert found(root, "board-done") == cells[:1] and found(root, "board-missing") == cells[1:]


def test_refresh_reads_the_storage_again(preset, storage, show):
    root = show(Board(preset, storage))
    assert found(root, "board-done") == []
    finish(storage, preset.at(k=4, seed=0))
    (button,) = found(root, "board-refresh")
    button.click()
    (cell,) = found(root, "board-done")
    assert cell.description == "✓ done 3.5000" and "board-missing" not in cell._dom_classes
    assert preset.at(k=4, seed=0).run_id in cell.tooltip and "K 4, seed 0: done" in cell.tooltip


def test_a_board_follows_the_storage_without_a_click(preset, storage, show, monkeypatch):
    monkeypatch.setattr("helpers.notebook.board.LEAST_WATCH_S", 0.01)
    root = show(Board(preset, storage))
    finish(storage, preset.at(k=4, seed=0))
    deadline = time.monotonic() + 60
    while not found(root, "board-done") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [cell.description for cell in found(root, "board-done")] == ["✓ done 3.5000"]


def test_colours_of_a_status_differ_in_lightness_too_or_in_their_mark():
    assert COLOURS.keys() == MARKS.keys() and len(set(MARKS.values())) == len(MARKS)


def test_a_grids_reports_are_printed_and_refresh_the_board(preset, storage, show, capsys):
    board = Board(preset, storage)
    board.report("before it is shown")
    root = show(board)
    finish(storage, preset.at(k=2, seed=0))
    board.report("[1/5] done")
    assert capsys.readouterr().out == "before it is shown\n[1/5] done\n"
    assert len(found(root, "board-done")) == 1


def test_a_storage_that_is_away_is_said_and_raises_nothing(preset, storage, show, monkeypatch):
    board = Board(preset, storage)
    root = show(board)

    def away(*_arguments):
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))

    monkeypatch.setattr("helpers.notebook.board.grid_status", away)
    board.report("start")
    assert any("cannot be read now" in getattr(child, "value", "") for child in root.children)
    assert len(found(root, "board-missing")) == 5


def test_a_click_shows_the_runs_curve_and_table(preset, storage, show):
    config = preset.at(k=4, seed=0)
    finish(storage, config)
    rows = [{"run_id": config.run_id, "step": step, "tokens": step, "loss": 3.0} for step in (1, 2)]
    publish_text(metrics_path(storage, config.run_id), sealed_lines(rows))
    root = show(Board(preset, storage))
    detail = root.children[-2]
    found(root, "board-done")[0].click()
    title, picture, table = detail.children
    assert config.run_id in title.value
    assert picture.value.startswith(f'<img alt="training loss and XE by position of {config.run_id}"')
    assert "c1" in table.value and "3.5" in table.value and "mean" in table.value
    found(root, "board-missing")[0].click()
    (title,) = detail.children
    assert "nothing to show yet" in title.value


def test_without_a_front_end_the_board_is_a_table(preset, storage):
    finish(storage, preset.at(k=8, seed=0))
    lines = str(Board(preset, storage)).splitlines()
    assert lines[0].split() == ["K", "seed", "0"]
    assert lines[4].split() == ["8", "done", "3.5000"]


def test_the_browser_follows_row_component_and_token(preset, storage, show):
    finish(storage, preset.at(k=1, seed=0), components=("c1",))
    finish(storage, preset.at(k=2, seed=0))
    root = show(Board(preset, storage))
    (row,), (component,) = found(root, "browse-row"), found(root, "browse-component")
    assert row.options == (ALL, "1", "2") and component.options == (MEAN, "c1", "c2")
    picture = root.children[-1].children[0].children[1]
    before = picture.value
    component.value = "c2"
    assert before != picture.value and picture.value.startswith('<img alt="XE by token')
    component.value = MEAN
    assert picture.value == before
    row.value = "1"
    assert picture.value != before
    (token,) = found(root, "browse-token")
    row.value, token.value = ALL, 0
    assert token.options[0] == (WINDOW, None) and picture.value != before


def test_the_browser_keeps_its_choice_until_another_run_is_done(preset, storage, show):
    finish(storage, preset.at(k=1, seed=0), components=("c1",))
    board = Board(preset, storage)
    root = show(board)
    found(root, "browse-row")[0].value = "1"
    board.refresh()
    assert found(root, "browse-row")[0].value == "1"
    finish(storage, preset.at(k=2, seed=0))
    board.refresh()
    assert found(root, "browse-row")[0].options == (ALL, "1", "2")


def test_the_browsers_curves_are_means_over_seeds_and_its_points_are_seeds(storage):
    preset = find_preset("ergodic", "demo")
    ramp = np.linspace(4.0, 2.0, 100)
    for seed, shift in ((0, 0.0), (1, 0.5)):
        write_run(storage, preset.at(k=2, seed=seed), {"a": ramp + shift, "b": ramp + shift + 1})
    write_run(storage, preset.at(k=1, seed=0), {"b": ramp})
    results = {
        str(k): [read_result(storage.result(preset.at(k=k, seed=seed).run_id)) for seed in seeds]
        for k, seeds in ((1, (0,)), (2, (0, 1)))
    }
    left, right = browse_figure(results, "K", ALL, MEAN, None).axes
    assert left.get_ylabel() == right.get_ylabel() == "XE (nats per token)"
    np.testing.assert_allclose(right.lines[1].get_ydata(), np.array([0.5, 1.0]) + ramp[1:].mean())
    left, right = browse_figure(results, "K", ALL, MEAN, 99).axes
    curves = {line.get_label(): line.get_ydata() for line in left.lines}
    np.testing.assert_allclose(curves["1"], ramp)
    np.testing.assert_allclose(curves["2"], ramp + 0.75)
    np.testing.assert_allclose([line.get_ydata() for line in right.lines][1], [2.5, 3.0])
    (left,) = browse_figure(results, "K", ALL, "a", 0).axes  # one row has nothing to be compared with
    assert [line.get_label() for line in left.lines if line.get_label() in results] == ["2"]
