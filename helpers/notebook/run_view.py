"""A run, or all of them, at a glance: tables and figures for a notebook."""

import base64
import html
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.notebook.widgets import picture_widget
from helpers.runs.result_file import Result, read_result
from helpers.storage import Storage

if TYPE_CHECKING:
    import ipywidgets
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from helpers.notebook.picker import Picker

MEAN = "mean"
"""Of a run's components, beside their own names."""
_DPI = 100
_COLOURS = 64  # of a palette: more cannot be told from the exact picture, fewer can


def show_result(picker: "Picker", storage: Storage, *, interactive: bool) -> None:
    """The results of the run that is picked, by its name; with widgets they follow the pick."""
    import ipywidgets
    from IPython.display import display

    if not interactive:
        result = read_result(storage.result(picker.config.run_id))
        print(picker.config.run_id)
        display(component_table(result))
        display({"image/png": base64.b64encode(png(position_figure(result))).decode(), "text/plain": ""}, raw=True)
        return
    box = ipywidgets.VBox().add_class("picked-result")

    def update() -> None:
        box.children = _result_widgets(picker, storage)

    picker.follow(update)
    display(box)


def _result_widgets(picker: "Picker", storage: Storage) -> "list[ipywidgets.Widget]":
    import ipywidgets

    try:
        run_id = picker.config.run_id
        result = read_result(storage.result(run_id))
    except (OSError, ValueError, LookupError) as error:
        words = "the picked run has no result yet" if isinstance(error, FileNotFoundError) else str(error)
        return [ipywidgets.HTML(f"<i>{html.escape(words)}</i>")]
    alt = f"XE by position of {run_id}; the numbers are in results/{run_id}.jsonl"
    table = component_table(result).to_html(border=0)
    shown = [ipywidgets.HTML(f"<b>{html.escape(run_id)}</b>{table}")]
    return [*shown, picture_widget(png(position_figure(result)), alt)] if last_rows(result) else shown


def component_table(result: Result) -> "pd.DataFrame":
    """A row for each component at the run's end and their mean last; nats per token."""
    import pandas as pd

    columns = ("component", "xe", "se", "ppl", "bayes_xe")
    rows = [*last_rows(result), {"component": MEAN, **result.summaries[-1]}]
    frame = pd.DataFrame(rows).reindex(columns=list(columns))
    frame["gap"] = frame["xe"] - frame["bayes_xe"].astype(float)
    frame = frame.dropna(axis="columns", how="all").set_index("component").round(4).astype(object)
    return frame.where(frame.notna(), "")


def last_rows(result: Result) -> list[dict[str, Any]]:
    """The rows of each component at the end of the run; none where its study measures something else."""
    return [row for row in result.rows_of("xe") if row["step"] == result.summaries[-1]["step"]]


def position_figure(result: Result) -> "Figure":
    """XE over the position in the window, mean of the components; dashed: the Bayes value where it is known."""
    figure, (axes,) = panels(1, (6.4, 3.4))
    _draw_positions(axes, result)
    return figure


def run_figure(metrics: list[dict[str, Any]], result: Result | None) -> "Figure":
    """The training loss over the steps, as metrics.jsonl has it, and where the result has it XE over the position."""
    from helpers.analysis.figures import MEASURED

    figure, (loss, positions) = panels(2, (10.4, 3.4))
    loss.plot([row["step"] for row in metrics], [row["loss"] for row in metrics], color=MEASURED)
    loss.set(xlabel="step", ylabel="nats per token", title="Training loss")
    if result is None or not last_rows(result):
        words = "XE by position: once the run is done" if result is None else "this study measures no XE by position"
        positions.set_axis_off()
        positions.text(0.5, 0.5, words, ha="center", color="0.4")
    else:
        _draw_positions(positions, result)
    return figure


def panels(num_panels: int, size: tuple[float, float]) -> "tuple[Figure, list[Axes]]":
    """A figure of `size` (inches) with empty panels in a row, in the style of the analysis."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from helpers.analysis.figures import STYLE

    with mpl.rc_context(STYLE | {"font.size": 9, "axes.titlesize": 10, "axes.labelsize": 9}):
        figure = Figure(figsize=size, layout="constrained")
        return figure, list(figure.subplots(1, num_panels, squeeze=False)[0])


def png(figure: "Figure") -> bytes:
    """A figure as a small image: a notebook shows no figure that pyplot did not make."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    return _with_palette(buffer)


def small_png(path: Path, width: int) -> bytes:
    """The picture at `path`, `width` pixels wide at most, in a tenth of its bytes."""
    return _with_palette(path, width)


def _with_palette(picture: Path | io.BytesIO, width: int | None = None) -> bytes:
    from PIL import Image

    with Image.open(picture) as opened:
        image = opened.convert("RGB")
    if width and width < image.width:
        image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.BOX)
    # Maximal coverage keeps the colour of a thin line, k-means then that of a faint band.
    few = image.quantize(_COLOURS, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    few.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def _draw_positions(axes: "Axes", result: Result) -> None:
    import numpy as np

    from helpers.analysis.figures import EXACT, MEASURED

    rows = last_rows(result)
    axes.plot(np.mean([row["xe_by_position"] for row in rows], axis=0), color=MEASURED, label="model")
    exact = [row["bayes_xe_by_position"] for row in rows]
    if None not in exact:
        axes.plot(np.mean(exact, axis=0), "--", color=EXACT, lw=1.2, label="exact Bayes")
    axes.set(xlabel="token of the window", ylabel="XE (nats per token)", title="XE by position")
    axes.legend(frameon=False)
