"""What theory said of the runs beside what came: XE against its forecast, and what lies between them at each K."""

import itertools

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from helpers.analysis.figures import EXACT, MEASURED, MUTED, STYLE, XE_UNIT, titled_figure

_MARKERS = "osD^vPX"


def forecasts_figure(by_run: pd.DataFrame, by_k: pd.DataFrame, condition: str) -> Figure:
    """Rows of `outcome.forecast_by_run` and `outcome.forecast_by_k`, of which there is one at least."""
    counted = by_run[(by_run["refused"] == "") & by_run["forecast"].notna()]
    with mpl.rc_context(STYLE):
        caption = f"{condition}; forecasts were written before the first step; 95 % t intervals over runs"
        figure = titled_figure("The forecast beside the outcome", caption, (11.0, 5.0))
        beside, excess = figure.subplots(1, 2)
        _draw_beside(beside, counted)
        _draw_excess(excess, counted, by_k)
        return figure


def _draw_beside(axes: Axes, counted: pd.DataFrame) -> None:
    ends = np.array([counted["forecast"].min(), counted["forecast"].max()])
    axes.plot(ends, ends, color=EXACT, linestyle="--", linewidth=1.4, label="as forecast")
    ks = sorted(set(counted["k"]))
    colours = mpl.colormaps["viridis"](np.linspace(0.05, 0.85, len(ks)))
    for k, colour, marker in zip(ks, colours, itertools.cycle(_MARKERS), strict=False):
        own = counted[counted["k"] == k]
        look = {"linestyle": "none", "color": colour, "marker": marker, "markersize": 6, "markeredgecolor": "white"}
        axes.plot(own["forecast"], own["xe"], **look, label=f"K = {k} (n = {len(own)})")
    axes.set_xlabel(f"forecast {XE_UNIT}")
    axes.set_ylabel(f"outcome {XE_UNIT}")
    axes.set_title("Each run")
    axes.legend()


def _draw_excess(axes: Axes, counted: pd.DataFrame, by_k: pd.DataFrame) -> None:
    axes.axhline(0.0, color=EXACT, linestyle="--", linewidth=1.4, label="as forecast")
    grid = counted[counted["role"] == "grid"]
    axes.plot(grid["k"], grid["excess"], linestyle="none", marker="o", color=MEASURED, alpha=0.3, markersize=5)
    bars = np.stack([by_k["excess"] - by_k["low"], by_k["high"] - by_k["excess"]]).astype(float)
    axes.errorbar(
        by_k["k"], by_k["excess"], yerr=np.where(np.isfinite(bars), bars, np.nan), color=MEASURED, marker="o",
        markersize=7, markeredgecolor="white", capsize=4, elinewidth=1.6, label="mean of the grid's runs",
    )  # fmt: skip
    axes.plot(by_k["k"], by_k["bound"], color=MUTED, linestyle=":", marker="x", label="for scale: ln K / T")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(by_k["k"], [f"{k}\nn = {n}" for k, n in zip(by_k["k"], by_k["num_runs"], strict=True)])
    axes.set_xlabel("K, number of components (log₂ scale)")
    axes.set_ylabel("outcome - forecast (nats per token)")
    axes.set_title("What was lost beyond the forecast")
    axes.legend()
