"""The figures of XE: against K, its difference from K = 1, and by position; each drawn from a frame of numbers.

A figure shows nothing that is not in its frame, and the frame is published as CSV beside the PNG.
"""

import itertools
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from helpers.analysis.figures import (
    BOUND,
    DXE_UNIT,
    EXACT,
    MARKS,
    MEASURED,
    MUTED,
    SHUFFLED,
    SIGMA,
    STYLE,
    XE_UNIT,
    log_spaced,
    titled_figure,
)  # fmt: skip
from helpers.studies.ergodic.contrasts import over_seeds
from helpers.studies.ergodic.roles import CONTROL, GRID


def xe_vs_k(cells: pd.DataFrame, condition: str) -> Figure:
    """XE against log2 K from rows of `by_seed`: mean ± sigma over seeds, each seed faint, exact Bayes XE where known,
    the shuffle control, and the number of seeds at each K."""
    with mpl.rc_context(STYLE):
        title = "Cross entropy against the number of components"
        figure, (axes,) = _figure(title, _caption(cells, condition), (7.4, 5.0))
        _draw_all(axes, cells, "xe")
        _finish_k_axis(axes, cells[cells["role"] == GRID], "xe", XE_UNIT)
        return figure


def dxe_vs_k(cells: pd.DataFrame, condition: str) -> Figure:
    """dXE(K) from rows of `by_seed`, in a panel each where there is any: each run over its own components, and over the
    same components, where the bound ln K / T applies."""
    with mpl.rc_context(STYLE):
        title = "Cross entropy against that of one component"
        grid = cells[cells["role"] == GRID]
        titles = differences(cells)
        figure, panels = _figure(title, _caption(cells, condition), (5.8 * len(titles), 5.0), len(titles))
        for axes, (name, panel_title) in zip(panels, titles.items(), strict=True):
            axes.axhline(0.0, color=MUTED, linewidth=1.0)
            _draw_all(axes, cells, name)
            if name == "dxe_same":
                _draw_bound(axes, grid)
            _finish_k_axis(axes, grid, name, DXE_UNIT)
            axes.set_title(panel_title)
        return figure


def differences(cells: pd.DataFrame) -> dict[str, str]:
    """The differences from K = 1 that rows of `by_seed` hold at some K above 1, with the title of each."""
    mixed = cells[(cells["role"] == GRID) & (cells["k"] > 1)]
    titles = {"dxe": "XE(K) - XE(1) at the same seed", "dxe_same": "… and over the same components"}
    return {name: title for name, title in titles.items() if mixed[name].notna().any()}


def xe_by_position(positions: pd.DataFrame, condition: str) -> Figure:
    """XE against the length of the context from rows of `by_position`: a curve for each K, exact Bayes thin.

    Position n is predicted from BOS and n tokens, a context of n + 1; the scale is logarithmic, for most of the
    descent happens in the first tokens.
    """
    with mpl.rc_context(STYLE):
        caption = f"{condition}; the XE of a run averages contexts from 2 tokens on"
        figure, (axes,) = _figure("Cross entropy along the window", caption, (7.4, 5.0))
        ks = sorted(set(positions["k"]))
        colours = mpl.colormaps["viridis"](np.linspace(0.05, 0.85, max(len(ks), 2)))
        for k, colour, mark in zip(ks, colours, itertools.cycle(MARKS), strict=False):
            curve = positions[positions["k"] == k]
            context = curve["position"] + 1
            marks = {"marker": mark, "markersize": 5, "markevery": log_spaced(len(context))}
            axes.plot(context, curve["xe"], color=colour, linewidth=1.8, label=f"K = {k}", **marks)
            axes.plot(context, curve["bayes_xe"], color=colour, linewidth=0.9, linestyle=(0, (4, 2)))
        if positions["bayes_xe"].notna().any():
            axes.plot([], [], color=MUTED, linewidth=0.9, linestyle=(0, (4, 2)), label="exact Bayes")
        axes.set_xscale("log")
        axes.margins(x=0.02)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlabel("context (tokens before the predicted one, BOS included)")
        axes.set_ylabel(XE_UNIT)
        _legend(axes)
        return figure


def _figure(title: str, caption: str, size: tuple[float, float], num_panels: int = 1) -> tuple[Figure, list[Axes]]:
    """A titled figure with its panels in a row."""
    figure = titled_figure(title, caption, size)
    return figure, list(figure.subplots(1, num_panels, squeeze=False)[0])


def _caption(cells: pd.DataFrame, condition: str) -> str:
    """The condition, and what the error bars are."""
    num_seeds = cells.loc[cells["xe"].notna(), "seed"].nunique()
    if num_seeds < 2:
        return f"{condition}; one seed (n = 1), so no error bars"
    return f"{condition}; mean ± 1 {SIGMA} over n seeds, each seed faint"


def _draw_all(axes: Axes, cells: pd.DataFrame, name: str) -> None:
    """The model with its seeds, exact Bayes where known, and the control a little aside."""
    grid, shuffled = (cells[cells["role"] == role] for role in (GRID, CONTROL))
    _draw_seeds(axes, grid, name)
    _draw_mean(axes, grid, name, color=MEASURED, marker="o", label="model", zorder=4)
    _draw_exact(axes, grid, f"bayes_{name}")
    _draw_mean(axes, shuffled.assign(k=shuffled["k"] * 1.04), name, color=SHUFFLED, marker="D", label="shuffled labels")


def _draw_seeds(axes: Axes, grid: pd.DataFrame, name: str) -> None:
    """Each seed's own path, so that the pairing over K can be seen."""
    for _, path in grid.groupby("seed"):
        axes.plot(path["k"], path[name], color=MEASURED, alpha=0.28, linewidth=1.0, marker="o", markersize=4)


def _draw_mean(axes: Axes, cells: pd.DataFrame, name: str, **look: Any) -> None:
    """Mean ± sigma over seeds; a mean of one seed has no bar, and a missing K interrupts the line."""
    means = over_seeds(cells)
    if means[name].notna().any():
        bar = {"markersize": 7, "markeredgecolor": "white", "capsize": 4, "elinewidth": 1.6}
        axes.errorbar(means["k"], means[name], yerr=means[f"{name}_sigma"], **bar, **look)


def _draw_exact(axes: Axes, grid: pd.DataFrame, name: str) -> None:
    exact = over_seeds(grid)
    if exact[name].notna().any():
        axes.plot(exact["k"], exact[name], color=EXACT, linestyle="--", marker="s", markersize=5, label="exact Bayes")


def _draw_bound(axes: Axes, grid: pd.DataFrame) -> None:
    """The bound ln K / T, between the runs' K too."""
    mixed = grid[grid["k"] > 1]
    if not mixed.empty:
        positions = round(float((np.log(mixed["k"]) / mixed["bound"]).iloc[0]))
        ks = np.geomspace(1, mixed["k"].max(), 100)
        axes.plot(ks, np.log(ks) / positions, color=BOUND, linestyle=":", label=f"bound ln K / {positions}")


def _finish_k_axis(axes: Axes, grid: pd.DataFrame, name: str, unit: str) -> None:
    """log2 K with a tick for each K that tells how many seeds its mean rests on; a K without any is crossed out."""
    counts = grid.groupby("k")[name].agg(["count", "size"])
    axes.set_xscale("log", base=2)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(counts.index, [_tick(k, row["count"], row["size"]) for k, row in counts.iterrows()])
    for label, (_, row) in zip(axes.get_xticklabels(), counts.iterrows(), strict=True):
        label.set_fontsize(10)
        label.set_color("black" if row["count"] == row["size"] else BOUND)
    for k in counts.index[counts["count"] == 0]:
        # On the axis itself, half outside the panel, which the layout must not make room for.
        cross = {"marker": "x", "color": BOUND, "markersize": 9, "markeredgewidth": 2, "clip_on": False}
        (line,) = axes.plot(k, 0.0, transform=axes.get_xaxis_transform(), linestyle="none", **cross)
        line.set_in_layout(False)
    axes.set_xlabel("K, number of components (log₂ scale)")
    axes.set_ylabel(unit)
    _legend(axes)


def _legend(axes: Axes) -> None:
    """The model first, whatever was drawn first."""
    entries = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    labels = sorted(entries, key=lambda label: label != "model")
    if labels:
        axes.legend([entries[label] for label in labels], labels)


def _tick(k: int, num_seeds: int, num_expected: int) -> str:
    if num_seeds == 0:
        return f"{k}\nmissing"
    return f"{k}\nn = {num_seeds}" + (f" of {num_expected}" if num_seeds < num_expected else "")
