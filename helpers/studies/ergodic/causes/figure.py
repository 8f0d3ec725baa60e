"""The causes of matched dXE as points with intervals: a row a cause, a mark a K, filled where it is supported."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from helpers.analysis.figures import DXE_UNIT, MUTED, STYLE, titled_figure
from helpers.studies.ergodic.causes.parts import CONTRADICTED, PARTS, SUPPORTED

_MARKERS = "osD^vP"
_APART = 0.16
_PALE = "#C4C4C4"


def causes_figure(parts: pd.DataFrame, condition: str) -> Figure:
    """Rows of `parts.causes` that have a value; the band is what theory allows an ideal learner, ln K / T either way,
    at the largest K."""
    known = parts[parts["value"].notna()]
    rows = [cause for cause in PARTS if cause in set(known["cause"])]
    ks = sorted(set(known["k"]))
    with mpl.rc_context(STYLE):
        caption = f"{condition}; 95 % intervals over runs and papers; none from a single seed"
        figure = titled_figure("What matched ΔXE is made of", caption, (9.4, 1.9 + 0.62 * len(rows)))
        axes = figure.subplots()
        margin = float(known["margin"].max())
        axes.axvspan(-margin, margin, color=MUTED, alpha=0.12, linewidth=0)
        axes.axvline(0, color=MUTED, linewidth=1)
        for number, k in enumerate(ks):
            at_k = known[known["k"] == k].set_index("cause")
            _draw(axes, at_k.reindex(rows), (number - (len(ks) - 1) / 2) * _APART, number, len(ks))
        axes.set_yticks(range(len(rows)), [_label(cause, known) for cause in rows])
        axes.set_ylim(len(rows) - 0.45, -0.55)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(DXE_UNIT)
        band = Patch(color=MUTED, alpha=0.12, linewidth=0, label=f"±ln {ks[-1]} / T")
        axes.legend(handles=[*_legend(ks), band], loc="center left", bbox_to_anchor=(1.0, 0.5))
        return figure


def _draw(axes: Axes, at_k: pd.DataFrame, offset: float, number: int, num_ks: int) -> None:
    colour = _colour(number, num_ks)
    for y, row in enumerate(at_k.to_dict("records")):
        if np.isnan(row["value"]):
            continue
        ends = np.array([[row["value"] - row["low"]], [row["high"] - row["value"]]])
        face = {SUPPORTED: colour, CONTRADICTED: _PALE}.get(row["verdict"], "white")
        axes.errorbar(
            row["value"], y + offset, xerr=ends if np.isfinite(ends).all() else None, color=colour, capsize=3,
            marker=_MARKERS[number % len(_MARKERS)], markersize=7, markerfacecolor=face, elinewidth=1.6,
        )  # fmt: skip


def _label(cause: str, known: pd.DataFrame) -> str:
    """The cause, and its verdict at the largest K that has one."""
    last = known[known["cause"] == cause].sort_values("k").iloc[-1]
    return "total: matched ΔXE" if cause == "total" else f"{cause}\n{last['verdict']} at K = {last['k']}"


def _legend(ks: list[int]) -> list[Line2D]:
    marks = [
        Line2D([], [], color=_colour(n, len(ks)), marker=_MARKERS[n % len(_MARKERS)], label=f"K = {k}")
        for n, k in enumerate(ks)
    ]
    faces = {"supported": "#444444", "cannot tell": "white", "contradicted": _PALE}
    look = {"color": "#444444", "linestyle": "none", "marker": "o"}
    return [*marks, *(Line2D([], [], **look, markerfacecolor=face, label=word) for word, face in faces.items())]


def _colour(number: int, num_ks: int) -> tuple[float, ...]:
    return mpl.colormaps["viridis"](np.linspace(0.05, 0.85, max(num_ks, 2)))[number]
