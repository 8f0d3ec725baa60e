"""The results of a grid by row, component and position, as two curves that follow three widgets."""

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from helpers.notebook.run_view import MEAN, last_rows, panels, png
from helpers.runs.result_file import Result

if TYPE_CHECKING:
    import ipywidgets
    from matplotlib.figure import Figure

ALL = "all"

Results = Mapping[str, list[Result]]
"""The results of each row of the board, one for each seed that is done."""


def results_browser(results: Results, axis: str) -> "ipywidgets.VBox":
    """Choose a row, a component and a position: the figure follows. `axis` is what the rows differ in, such as K."""
    import ipywidgets

    row = ipywidgets.Dropdown(description=axis, options=[ALL, *results], style={"description_width": "initial"})
    component = ipywidgets.Dropdown(description="component", options=[MEAN, *_components(results)])
    most = max(len(curve) for curves in _curves(results, MEAN).values() for curve in curves) - 1
    position = ipywidgets.IntSlider(description="position", value=most, min=0, max=most, continuous_update=False)
    picture = ipywidgets.Image(format="png", layout=ipywidgets.Layout(align_self="flex-start"))

    def update(_change: object = None) -> None:
        picture.value = png(browse_figure(results, axis, row.value, component.value, position.value))

    for widget in (row, component, position):
        widget.observe(update, names="value")
    update()
    controls = ipywidgets.HBox([row.add_class("browse-row"), component.add_class("browse-component"), position])
    return ipywidgets.VBox([controls, picture])


def browse_figure(results: Results, axis: str, row: str, component: str, position: int) -> "Figure":
    """Left, XE over the position, mean over seeds; right, XE at `position` of every row, a point for each seed."""
    from matplotlib import colormaps

    curves = _curves(results, component)
    figure, (left, right) = panels(2, (10.4, 3.6))
    colours = dict(zip(curves, colormaps["viridis"](np.linspace(0.05, 0.85, max(len(curves), 2))), strict=False))
    for name in [name for name in curves if row in (ALL, name)]:
        left.plot(np.mean(curves[name], axis=0), color=colours[name], label=name)
    left.axvline(position, color="0.6", lw=1, ls=":")
    left.set(xlabel="token of the window", ylabel="XE (nats per token)", title=f"By position, component: {component}")
    if len(left.lines) <= 12:
        left.legend(title=axis, frameon=False, fontsize=8)
    for place, (name, seeds) in enumerate(curves.items()):
        values = [curve[position] for curve in seeds]
        right.plot([place] * len(values), values, "o", color=colours[name], alpha=1.0 if row in (ALL, name) else 0.25)
    right.set_xticks(range(len(curves)), list(curves), rotation=30 if len("".join(curves)) > 40 else 0, fontsize=8)
    right.set(xlabel=axis, title=f"At token {position}, a point for each seed")
    right.margins(x=0.1)
    return figure


def _curves(results: Results, component: str) -> dict[str, list[np.ndarray]]:
    """XE by position (T,) of each seed of each row; a row without the component is left out."""
    chosen = {name: [_curve(result, component) for result in seeds] for name, seeds in results.items()}
    found = {name: [curve for curve in curves if curve is not None] for name, curves in chosen.items()}
    return {name: curves for name, curves in found.items() if curves}


def _curve(result: Result, component: str) -> np.ndarray | None:
    rows = [row["xe_by_position"] for row in last_rows(result) if component in (MEAN, row["component"])]
    return np.mean(rows, axis=0) if rows else None


def _components(results: Results) -> list[str]:
    names = [{row["component"] for row in last_rows(result)} for seeds in results.values() for result in seeds]
    return sorted(functools.reduce(set.union, names, set()))
