"""The results of a grid by row, component and token, as two curves that follow the widgets.

The mean over the window comes first: XE at one token, such as the last, may fall with K while the mean rises.
"""

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from helpers.notebook.run_view import MEAN, last_rows, panels, png
from helpers.notebook.widgets import picture_html
from helpers.runs.result_file import Result

if TYPE_CHECKING:
    import ipywidgets
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ALL = "all"
WINDOW = "the whole window"
"""In the place of one token: the mean over all that a run's XE averages, which leaves out the first."""
_UNIT = "XE (nats per token)"
_ALT = "XE by token, and of each row as a point for each seed; the numbers are in results/"

Results = Mapping[str, list[Result]]
"""The results of each row of the board, one for each seed that is done."""


def results_browser(results: Results, axis: str) -> "ipywidgets.VBox":
    """Choose a row, a component, and the window or one token: the figure follows. `axis` is what the rows differ in,
    such as K."""
    import ipywidgets

    row = ipywidgets.Dropdown(description=axis, options=[ALL, *results], style={"description_width": "initial"})
    component = ipywidgets.Dropdown(description="component", options=[MEAN, *_components(results)])
    most = max(len(curve) for curves in _curves(results, MEAN).values() for curve in curves)
    tokens = [(WINDOW, None), *((str(token), token) for token in range(most))]
    token = ipywidgets.Dropdown(description="token", options=tokens)
    picture = ipywidgets.HTML()

    def update(_change: object = None) -> None:
        figure = browse_figure(results, axis, row.value, component.value, token.value)
        picture.value = picture_html(png(figure), _ALT)

    for widget in (row, component, token):
        widget.observe(update, names="value")
    update()
    names = ("row", "component", "token")
    chosen = [widget.add_class(f"browse-{name}") for name, widget in zip(names, (row, component, token), strict=True)]
    return ipywidgets.VBox([ipywidgets.HBox(chosen), picture])


def browse_figure(results: Results, axis: str, row: str, component: str, token: int | None) -> "Figure":
    """Left, XE over the tokens, mean over seeds; right, where there are several rows, XE of each over the window or at
    `token`, a point for each seed, beside the exact Bayes value where it is known."""
    curves, exact = _curves(results, component), _curves(results, component, "bayes_xe_by_position")
    figure, axes = panels(2 if len(curves) > 1 else 1, (10.4, 3.6) if len(curves) > 1 else (6.4, 3.6))
    _draw_curves(axes[0], {name: curves[name] for name in curves if row in (ALL, name)}, list(curves), token)
    axes[0].set(xlabel="token of the window", ylabel=_UNIT, title=f"By token, component: {component}")
    if len(axes[0].get_legend_handles_labels()[1]) <= 12:
        axes[0].legend(title=axis, frameon=False, fontsize=8)
    if len(curves) > 1:
        _draw_rows(axes[1], curves, exact, row, token)
        where = "Mean over the window" if token is None else f"At token {token}"
        note = "; rows differ in components" if component == MEAN else ""
        axes[1].set(xlabel=axis, ylabel=_UNIT, title=f"{where}, a point for each seed{note}")
    return figure


def _draw_curves(axes: "Axes", curves: Mapping[str, list[np.ndarray]], names: list[str], token: int | None) -> None:
    from helpers.analysis.figures import MARKS

    colours = _colours(names)
    for name, seeds in curves.items():
        mean_T, mark = np.mean(seeds, axis=0), MARKS[names.index(name) % len(MARKS)]
        axes.plot(mean_T, color=colours[name], label=name, marker=mark, markevery=max(1, len(mean_T) // 8), ms=4)
    if token is not None:
        axes.axvline(token, color="0.6", lw=1, ls=":")


def _draw_rows(
    axes: "Axes",
    curves: Mapping[str, list[np.ndarray]],
    exact: Mapping[str, list[np.ndarray]],
    row: str,
    token: int | None,
) -> None:
    from helpers.analysis.figures import EXACT, MARKS

    colours = _colours(list(curves))
    for place, (name, seeds) in enumerate(curves.items()):
        values, strength = [_value(curve, token) for curve in seeds], 1.0 if row in (ALL, name) else 0.25
        mark = MARKS[place % len(MARKS)]
        axes.plot([place] * len(values), values, mark, color=colours[name], alpha=strength)
        if name in exact:
            best = np.mean([_value(curve, token) for curve in exact[name]])
            axes.plot([place - 0.3, place + 0.3], [best, best], "--", color=EXACT, alpha=strength)
    if exact:
        axes.plot([], [], "--", color=EXACT, label="exact Bayes")
        axes.legend(frameon=False, fontsize=8)
    axes.set_xticks(range(len(curves)), list(curves), rotation=30 if len("".join(curves)) > 40 else 0, fontsize=8)
    axes.margins(x=0.1)


def _value(curve_T: np.ndarray, token: int | None) -> float:
    return float(curve_T[1:].mean() if token is None else curve_T[token])


def _colours(names: list[str]) -> dict[str, np.ndarray]:
    from matplotlib import colormaps

    return dict(zip(names, colormaps["viridis"](np.linspace(0.05, 0.85, max(len(names), 2))), strict=False))


def _curves(results: Results, component: str, kind: str = "xe_by_position") -> dict[str, list[np.ndarray]]:
    """A curve by position (T,) of each seed of each row; a row without the component, or without the exact value that
    was asked for, is left out."""
    chosen = {name: [_curve(result, component, kind) for result in seeds] for name, seeds in results.items()}
    found = {name: [curve for curve in curves if curve is not None] for name, curves in chosen.items()}
    return {name: curves for name, curves in found.items() if curves}


def _curve(result: Result, component: str, kind: str) -> np.ndarray | None:
    rows = [row.get(kind) for row in last_rows(result) if component in (MEAN, row["component"])]
    return None if not rows or None in rows else np.mean(rows, axis=0)


def _components(results: Results) -> list[str]:
    names = [{row["component"] for row in last_rows(result)} for seeds in results.values() for result in seeds]
    return sorted(functools.reduce(set.union, names, set()))
