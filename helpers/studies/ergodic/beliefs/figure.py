"""Held-out R2 of the posterior: against K after the last layer, and along the layers at the largest K."""

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from helpers.analysis.figures import EXACT, MEASURED, MUTED, SHUFFLED, STYLE, titled_figure
from helpers.studies.ergodic.beliefs.table import READINGS, half_widths, last_layers

_LOOK = {"r2": (MEASURED, "o"), "r2_untrained": (MUTED, "s"), "r2_shuffled": (SHUFFLED, "D")}
_LABELS = {
    "r2": "trained",
    "r2_untrained": "untrained, same initialisation",
    "r2_shuffled": "shuffled: of other windows",
}


def beliefs_figure(table: pd.DataFrame, condition: str) -> Figure:
    """Rows of `table.beliefs`, of which there is one at least."""
    with mpl.rc_context(STYLE):
        caption = f"{condition}; ridge regression, fitted on validation papers, scored on test papers; 95 % t intervals"
        figure = titled_figure("How much of the exact posterior the residual stream holds", caption, (10.6, 4.8))
        by_k, by_layer = figure.subplots(1, 2, sharey=True)
        last, largest = last_layers(table), table["k"].max()
        _draw(by_k, last, "k")
        by_k.set_xscale("log", base=2)
        by_k.xaxis.set_minor_locator(NullLocator())
        by_k.set_xticks(last["k"], [f"{k}\nn = {n}" for k, n in zip(last["k"], last["num_runs"], strict=True)])
        by_k.set_xlabel("K, number of components (log₂ scale)")
        by_k.set_ylabel("held-out R²")
        by_k.set_title(f"After layer {table['layer'].max()}, the last")
        at_largest = table[table["k"] == largest]
        _draw(by_layer, at_largest, "layer")
        by_layer.set_xticks(at_largest["layer"])
        by_layer.set_xlabel("after layer")
        by_layer.set_title(f"Along the layers at K = {largest}")
        by_layer.margins(x=0.15)
        by_layer.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        return figure


def _draw(axes: Axes, rows: pd.DataFrame, x: str) -> None:
    axes.axhline(1.0, color=EXACT, linestyle="--", linewidth=1.2)
    axes.axhline(0.0, color=MUTED, linewidth=1.0)
    for name in READINGS:
        colour, marker = _LOOK[name]
        axes.errorbar(
            rows[x], rows[name], yerr=half_widths(rows, name), color=colour, marker=marker, markersize=7,
            markeredgecolor="white", capsize=4, elinewidth=1.6, label=_LABELS[name],
        )  # fmt: skip
