"""Tables and figures of a run, and pictures that stay small."""

import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from helpers.notebook.run_view import component_table, png, position_figure, run_figure, small_png
from helpers.runs.result_file import Result


@pytest.fixture
def rows() -> list[dict]:
    return [
        {"kind": "xe", "step": 9, "component": name, "xe": xe, "se": 0.1, "ppl": 2.0, "bayes_xe": 1.0,
         "xe_by_position": [xe] * 3, "bayes_xe_by_position": [1.0] * 3}
        for name, xe in (("a", 1.5), ("b", 2.5))
    ]  # fmt: skip


@pytest.fixture
def result(rows) -> Result:
    early = [row | {"step": 1, "xe": 99.0} for row in rows]
    return Result(
        run={"run_id": "r"}, rows=early + rows, summaries=[{"step": 9, "xe": 2.0, "ppl": 7.4, "bayes_xe": 1.0}]
    )


@pytest.fixture
def text_result(rows) -> Result:
    """Of a source whose exact Bayes value is not known."""
    unknown = [row | {"bayes_xe": None, "bayes_xe_by_position": None} for row in rows]
    return Result(run={"run_id": "r"}, rows=unknown, summaries=[{"step": 9, "xe": 2.0, "ppl": 7.4, "bayes_xe": None}])


def test_component_table_ends_with_the_mean(result, text_result):
    table = component_table(result)
    assert list(table.index) == ["a", "b", "mean"]
    assert list(table["gap"]) == [0.5, 1.5, 1.0]
    assert list(component_table(text_result).columns) == ["xe", "se", "ppl"]


def test_position_figure_draws_the_mean_and_the_bayes_value_where_it_is_known(result, text_result):
    (axes,) = position_figure(result).axes
    assert [list(line.get_ydata()) for line in axes.lines] == [[2.0] * 3, [1.0] * 3]
    (axes,) = position_figure(text_result).axes
    assert len(axes.lines) == 1


def test_run_figure_draws_the_loss_and_waits_for_the_result(result):
    metrics = [{"step": 10, "loss": 4.0}, {"step": 20, "loss": 3.0}]
    loss, positions = run_figure(metrics, None).axes
    assert [list(values) for values in loss.lines[0].get_data()] == [[10, 20], [4.0, 3.0]]
    assert "once the run is done" in positions.texts[0].get_text()
    _, positions = run_figure(metrics, result).axes
    assert len(positions.lines) == 2


def test_a_picture_keeps_its_size_and_its_colours_nearly(result):
    figure = position_figure(result)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    small = Image.open(io.BytesIO(png(figure))).convert("RGB")
    exact = Image.open(buffer).convert("RGB")
    assert small.size == exact.size
    error = np.abs(np.asarray(small, int) - np.asarray(exact, int))  # of 255
    assert error.mean() < 1.0 and (error > 24).mean() < 1e-3


def test_a_large_picture_becomes_small_and_no_picture_becomes_larger(tmp_path):
    figure = Figure(figsize=(8, 4))
    axes = figure.subplots()
    for shift in range(8):
        axes.plot(np.sin(np.linspace(0, 20, 400) + shift))
    figure.savefig(tmp_path / "f.png", dpi=200)
    small = small_png(tmp_path / "f.png", 740)
    assert Image.open(io.BytesIO(small)).size == (740, 370)
    assert len(small) < 0.25 * (tmp_path / "f.png").stat().st_size
    assert Image.open(io.BytesIO(small_png(tmp_path / "f.png", 5000))).size == (1600, 800)
