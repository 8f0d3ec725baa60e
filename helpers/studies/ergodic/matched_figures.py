"""The figures of matched dXE, in-context curves, decomposition, components, and model size.

As in `figures`, each is drawn from a frame that is published beside it; a panel is drawn only where there are numbers
for it. Bars and bands are 95 % intervals; a single run has no bar, and less than three have no band.
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
    STYLE,
    XE_UNIT,
    log_spaced,
    titled_figure,
)

INTERVAL = "95 % t intervals over runs"
INTERVAL_WITH_PAPERS = "95 % intervals over runs and papers"
_PART_COLOURS = {
    "total": MEASURED, "identification": EXACT, "amount": SHUFFLED, "remainder": MUTED, "repetition": "#E69F00",
}  # fmt: skip
_PART_LABELS = {
    "total": "total: matched ΔXE",
    "identification": "identification (exact Bayes)",
    "amount": "amount of text (shuffled labels)",
    "remainder": "remainder: capacity, optimisation",
    "repetition": "repetition (full - constant unique)",
}
_BAR = 0.15  # of the distance between two K
_ERROR_BAR = {"capsize": 4, "elinewidth": 1.6}
_EXACT_LINE = {"color": EXACT, "linestyle": "--", "linewidth": 1.6, "marker": "s", "markersize": 5}
_MARKER = {"marker": "o", "markersize": 7, "markeredgecolor": "white"}


def matched(by_k: pd.DataFrame, runs: pd.DataFrame, condition: str) -> Figure:
    """Matched dXE against K from `Findings.by_k` and `Findings.matched`: mean with interval, each run faint, the
    exact value and the bound."""
    with mpl.rc_context(STYLE):
        caption = f"{condition}; {INTERVAL_WITH_PAPERS}, each run faint"
        figure = titled_figure("What K components cost a model", caption, (6.6, 4.8))
        axes = figure.subplots()
        axes.axhline(0.0, color=MUTED, linewidth=1.0)
        mixed = runs[runs["k"] > 1].sort_values("k")
        for _, path in mixed[mixed["dxe"].notna()].groupby("seed"):
            axes.plot(path["k"], path["dxe"], color=MEASURED, alpha=0.28, linewidth=1.0, marker="o", markersize=4)
        _draw_interval(axes, by_k["k"], by_k, "dxe", color=MEASURED, label="model", zorder=4)
        if by_k["bayes_dxe"].notna().any():
            axes.plot(by_k["k"], by_k["bayes_dxe"], label="exact Bayes", **_EXACT_LINE)
        if len(by_k):
            positions = round(float((np.log(by_k["k"]) / by_k["bound"]).iloc[0]))
            ks = np.geomspace(1, by_k["k"].max(), 100)
            axes.plot(ks, np.log(ks) / positions, color=BOUND, linestyle=":", label=f"bound ln K / {positions}")
        _k_axis(axes, {1: None} | mixed.groupby("k")["dxe"].count().to_dict())
        axes.set_ylabel("matched " + DXE_UNIT)
        handles, labels = axes.get_legend_handles_labels()
        axes.legend([handles[-1], *handles[:-1]], [labels[-1], *labels[:-1]])  # the model first
        return figure


def in_context(positions: pd.DataFrame, areas: pd.DataFrame, condition: str) -> Figure:
    """XE against the context from rows of `curves.in_context`, with bands; where a run is matched, matched dXE below it
    and the area under that against ln K, from `curves.areas`."""
    has_matched = len(areas) > 0
    with mpl.rc_context(STYLE):
        bands = f"bands: pointwise {INTERVAL}; " if positions["xe_low"].notna().any() else ""
        areas_words = "areas: over runs and papers; " if has_matched else ""
        dashed = "dashed: exact Bayes" if positions["bayes_xe"].notna().any() else "no exact value"
        caption = f"{condition}; {bands}{areas_words}{dashed}"
        height = 8.0 if has_matched else 4.6
        figure = titled_figure("Along the window: what is paid, and where", caption, (11.0, height))
        panels = [["xe", "xe"], ["dxe", "area"]] if has_matched else [["xe"]]
        axes = figure.subplot_mosaic(panels)
        looks = _looks(sorted(set(positions["k"])))
        for k, curve in positions.groupby("k"):
            _draw_curve(axes["xe"], curve, "xe", looks[k], f"K = {k} (n = {curve['num_runs'].iloc[0]})")
            if k > 1 and has_matched:
                _draw_curve(axes["dxe"], curve, "dxe", looks[k], f"K = {k} (n = {curve['num_matched'].iloc[0]})")
        _finish_context(axes["xe"], XE_UNIT, "XE by context")
        if has_matched:
            axes["dxe"].axhline(0.0, color=MUTED, linewidth=1.0)
            _finish_context(axes["dxe"], DXE_UNIT, "Matched ΔXE by context")
            _draw_areas(axes["area"], areas)
        return figure


def decomposition(parts: pd.DataFrame, condition: str) -> Figure:
    """The parts of matched dXE from rows of `decomposition.decompose`: bars beside one another for each K, with
    intervals, the seeds that each rests on, and a cross where a part is missing."""
    with mpl.rc_context(STYLE):
        caption = f"{condition}; {INTERVAL_WITH_PAPERS}; × missing; number of seeds at each bar"
        figure = titled_figure("What matched ΔXE is made of", caption, (11.0, 5.4))
        axes = figure.subplots()
        axes.axhline(0.0, color=MUTED, linewidth=1.0, zorder=3)
        ks = sorted(set(parts["k"]))
        told = [name for name in _PART_COLOURS if parts.loc[parts["part"] == name, "value"].notna().any()]
        first = -(len(told) - 1) / 2 * _BAR * 1.1
        for number, name in enumerate(told):
            rows, colour = parts[parts["part"] == name], _PART_COLOURS[name]
            x = np.array([ks.index(k) for k in rows["k"]]) + first + number * _BAR * 1.1
            _draw_part(axes, x, rows, colour, _PART_LABELS[name])
        bounds = parts[parts["bound"].notna()]
        place = told.index("identification") if "identification" in told else 0
        x = np.array([ks.index(k) for k in bounds["k"]]) + first + place * _BAR * 1.1
        half = _BAR * 0.75
        axes.hlines(
            bounds["bound"], x - half, x + half, color=BOUND, linestyle=":", linewidth=2, label="bound ln K / T"
        )
        axes.set_xticks(range(len(ks)), [f"K = {k}" for k in ks])
        axes.grid(axis="x", visible=False)
        axes.set_ylabel(DXE_UNIT)
        bound, *others = axes.get_legend_handles_labels()[0]
        axes.legend(handles=[*others, bound], ncols=3, loc="lower left", bbox_to_anchor=(-0.02, 1.0))
        axes.use_sticky_edges = False  # a cross at 0 is drawn whole
        axes.margins(y=0.06)
        return figure


def components(contrasts: pd.DataFrame, condition: str) -> Figure:
    """A forest plot of `Findings.contrasts`: each component's dXE at the largest K; filled where Holm's p < 0.05."""
    with mpl.rc_context(STYLE):
        rows = contrasts.sort_values("value").reset_index(drop=True)
        caption = f"{condition}; {INTERVAL_WITH_PAPERS}; filled: Holm-adjusted p < 0.05"
        title = f"Each component at K = {rows['k'].iloc[0]:.0f} against a model of it alone"
        figure = titled_figure(title, caption, (7.4, 1.9 + 0.34 * len(rows)))
        axes = figure.subplots()
        axes.axvline(0.0, color=MUTED, linewidth=1.0)
        for y, row in rows.iterrows():
            bar = _half_widths(rows.loc[[y]], "value")
            face = MEASURED if row["p_holm"] < 0.05 else "white"
            look = {"color": MEASURED, "marker": "o", "markersize": 7, "markerfacecolor": face, **_ERROR_BAR}
            axes.errorbar(row["value"], y, xerr=bar, **look)
        axes.set_yticks(range(len(rows)), [f"{row.component} (n = {row.num_runs})" for row in rows.itertuples()])
        for label in axes.get_yticklabels():
            label.set_parse_math(False)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlabel(DXE_UNIT)
        return figure


def size(sizes: pd.DataFrame, caption: str) -> Figure:
    """XE from rows of `findings.by_size`: against K by model size, and against non-embedding parameters by K.

    Curves are a little aside of one another, so that their bars can be told apart.
    """
    with mpl.rc_context(STYLE):
        figure = titled_figure(
            "Model size", f"{caption}; {INTERVAL}, which hold how unequal components are", (12.5, 5.0)
        )
        by_k, by_params = figure.subplots(1, 2)
        ordered = sizes.sort_values(["params_non_embedding", "k"])
        _draw_family(by_k, ordered, "size", "k", 1.025, "viridis", "{}")
        _k_axis(by_k, dict.fromkeys(sorted(set(ordered["k"]))))
        _draw_family(by_params, ordered, "k", "params_non_embedding", 1.08, "plasma", "K = {}")
        by_params.set_xscale("log")
        by_params.set_xlabel("non-embedding parameters")
        for axes, title in ((by_k, "model size"), (by_params, "components")):
            axes.set_ylabel(XE_UNIT)
            axes.legend(title=title, loc="center left", bbox_to_anchor=(1.0, 0.5), alignment="left")
        return figure


def _draw_family(axes: Axes, rows: pd.DataFrame, by: str, x: str, aside: float, colours: str, label: str) -> None:
    """A curve of XE against `x` for each value of `by`, in the order of `rows`, with the runs of its points."""
    groups = list(rows.groupby(by, sort=False))
    shades = mpl.colormaps[colours](np.linspace(0.05, 0.85, max(len(groups), 2)))
    for number, (name, own) in enumerate(groups):
        counts = sorted({own["num_runs"].min(), own["num_runs"].max()})
        shown = f"{label.format(name)} (n = {' to '.join(map(str, counts))})"
        place = own[x] * aside ** (number - (len(groups) - 1) / 2)
        _draw_interval(axes, place, own, "xe", color=shades[number], label=shown)


def _draw_interval(axes: Axes, x: pd.Series, rows: pd.DataFrame, name: str, **look: object) -> None:
    """A line through means with the bars `low` to `high`; an infinite interval has no bar."""
    if len(rows):
        axes.errorbar(x, rows[name], yerr=_half_widths(rows, name), **_MARKER, **_ERROR_BAR, **look)


def _half_widths(rows: pd.DataFrame, name: str) -> np.ndarray:
    """The lengths (2, N) of error bars down and up, NaN where the interval is not finite."""
    lengths = np.stack([rows[name] - rows["low"], rows["high"] - rows[name]]).astype(float)
    return np.where(np.isfinite(lengths), lengths, np.nan)


def _looks(ks: list[int]) -> dict[int, dict[str, Any]]:
    """A colour and a mark for each K, so that lines differ without their colours too."""
    colours = mpl.colormaps["viridis"](np.linspace(0.05, 0.85, max(len(ks), 2)))
    marks = itertools.cycle(MARKS)
    return {k: {"color": colour, "marker": next(marks)} for k, colour in zip(ks, colours, strict=False)}


def _draw_curve(axes: Axes, curve: pd.DataFrame, name: str, look: dict[str, Any], label: str) -> None:
    """A mean over runs with its band, and the exact curve dashed; nothing where there is no run."""
    if curve[name].isna().all():
        return
    context, colour = curve["position"] + 1, look["color"]
    marks = {"markevery": log_spaced(len(context)), "markersize": 5}
    axes.plot(context, curve[name], linewidth=1.8, label=label, **marks, **look)
    axes.plot(context, curve[f"bayes_{name}"], color=colour, linewidth=1.0, linestyle=(0, (4, 2)))
    axes.fill_between(context, curve[f"{name}_low"], curve[f"{name}_high"], color=colour, alpha=0.12, linewidth=0)


def _finish_context(axes: Axes, unit: str, title: str) -> None:
    axes.set_xscale("log")
    axes.margins(x=0.02)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("context (tokens before the predicted one, BOS included)")
    axes.set_ylabel(unit)
    axes.set_title(title)
    axes.legend()


def _draw_areas(axes: Axes, areas: pd.DataFrame) -> None:
    """The area under matched dXE against ln K: an ideal learner stays on or below the diagonal."""
    axes.axhline(0.0, color=MUTED, linewidth=1.0)
    end = float(areas["ln_k"].max()) * 1.08
    axes.plot([0, end], [0, end], color=BOUND, linestyle=":", label="bound ln K")
    _draw_interval(axes, areas["ln_k"], areas, "area", color=MEASURED, label="model", zorder=4)
    if areas["bayes_area"].notna().any():
        axes.plot(areas["ln_k"], areas["bayes_area"], label="exact Bayes", **_EXACT_LINE)
    axes.set_xticks(areas["ln_k"], [f"ln {k}" for k in areas["k"]])
    axes.set_title("Area under matched ΔXE, all positions")
    axes.set_xlabel("ln K (nats)")
    axes.set_ylabel("area (nats a window)")
    axes.legend()


def _draw_part(axes: Axes, x: np.ndarray, rows: pd.DataFrame, colour: str, label: str) -> None:
    bars = {"color": colour, "width": _BAR, "label": label, "zorder": 2}
    axes.bar(x, rows["value"], yerr=_half_widths(rows, "value"), ecolor="#333333", capsize=3, **bars)
    for place, row in zip(x, rows.to_dict("records"), strict=True):
        if np.isnan(row["value"]):
            axes.plot(place, 0.0, marker="x", color=colour, markersize=8, markeredgewidth=2, zorder=5)
        else:
            ends = [value for value in (row["value"], row["high"], row["bound"], 0.0) if np.isfinite(value)]
            offset = {"xytext": (0, 3), "textcoords": "offset points", "ha": "center", "fontsize": 8}
            axes.annotate(str(row["num_seeds"]), (place, max(ends)), color=MUTED, **offset)


def _k_axis(axes: Axes, num_runs: dict[int, int | None]) -> None:
    """log2 K, with a tick for each K and the runs that its mean rests on."""
    axes.set_xscale("log", base=2)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(list(num_runs), [_k_tick(k, n) for k, n in num_runs.items()])
    axes.set_xlabel("K, number of components (log₂ scale)")


def _k_tick(k: int, num_runs: int | None) -> str:
    if num_runs is None:
        return str(k)
    return f"{k}\nn = {num_runs}" if num_runs else f"{k}\nmissing"
