"""The figures of the dataset analysis: how much text each category has, and how far the categories are apart."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from helpers.analysis.figures import BOUND, MEASURED, MUTED, STYLE, titled_figure
from helpers.config import SPLITS

_SHADES = dict(zip(SPLITS, (1.0, 0.6, 0.32), strict=True))
_LABEL_CHARS = 24
_ABOVE = {
    "loc": "lower left", "bbox_to_anchor": (-0.02, 1.0), "ncols": 3, "columnspacing": 1.2, "handletextpad": 0.5,
}  # fmt: skip


def dataset(sizes: pd.DataFrame, window_tokens: int, origin: str) -> Figure:
    """Tokens, papers and lengths of each category, the one with most train tokens on top.

    `sizes` has the columns of `Dataset.counts` and `Dataset.lengths`, sorted by rank; lengths may be NaN.
    """
    with mpl.rc_context(STYLE):
        caption = (
            f"{_short(origin, 60)}; blue and bold: the five categories with most train tokens; "
            "lengths: line from shortest to longest, bar between the quartiles"
        )
        figure = titled_figure("The papers of each category", caption, (12.0, 1.9 + 0.36 * max(len(sizes), 4)))
        tokens, papers, lengths = figure.subplots(1, 3, sharey=True, width_ratios=(1.25, 0.9, 1.25))
        for axes, unit in ((tokens, "tokens"), (papers, "papers")):
            _draw_amounts(axes, sizes, unit)
        _draw_lengths(lengths, sizes, window_tokens)
        for axes in (tokens, papers, lengths):
            axes.grid(axis="y", visible=False)
            axes.tick_params(axis="y", length=0)
        _name_rows(tokens, sizes)
        patches = [Patch(color=_shade(MUTED, split), label=split) for split in _splits(sizes)]
        tokens.legend(handles=patches, **_ABOVE)
        return figure


def dataset_overlap(overlap: pd.DataFrame, separation: pd.DataFrame) -> Figure:
    """The divergence of each pair of categories as a heat map with its numbers, in the order of `overlap`."""
    with mpl.rc_context(STYLE | {"axes.grid": False}):
        shuffled = separation.set_index("labels").loc["shuffled", "mean_jsd"]
        floor = f"; with shuffled labels {shuffled:.3f}" if np.isfinite(shuffled) else ""
        caption = f"Jensen-Shannon divergence (JSD) of train unigrams; at most ln 2 = {np.log(2):.3f}{floor}"
        side = 0.62 * max(len(overlap), 6)  # room for the caption
        figure = titled_figure("How far categories are apart in single tokens", caption, (3.4 + side, 2.2 + 0.8 * side))
        axes = figure.subplots()
        cells = overlap.mask(np.eye(len(overlap), dtype=bool))
        image = axes.imshow(cells, cmap="Blues", vmin=0.0, vmax=max(float(overlap.max(axis=None)), 1e-9), aspect="auto")
        _write_numbers(axes, cells)
        places, names = range(len(overlap)), [_short(name) for name in overlap.columns]
        axes.set_xticks(places, names, rotation=45, ha="right", rotation_mode="anchor", parse_math=False)
        axes.set_yticks(places, names, parse_math=False)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        figure.colorbar(image, ax=axes, pad=0.02).set_label("JSD (nats)")
        return figure


def similar_together(overlap: pd.DataFrame) -> pd.DataFrame:
    """The same divergences with similar categories side by side.

    Average-linkage clustering, leaves in the order of least steps between neighbours (Bar-Joseph et al. 2001,
    Bioinformatics 17 suppl. 1:S22).
    """
    if len(overlap) < 3:
        return overlap
    tree = linkage(squareform(overlap.to_numpy()), method="average", optimal_ordering=True)
    names = overlap.columns[leaves_list(tree)]
    return overlap.loc[names, names]


def _draw_amounts(axes: Axes, sizes: pd.DataFrame, unit: str) -> None:
    """Stacked bars, a shade a split, train first."""
    left = np.zeros(len(sizes))
    for split in _splits(sizes):
        amount = sizes[f"{split}_{unit}"].to_numpy(float)
        shades = [_shade(colour, split) for colour in _colours(sizes)]
        axes.barh(range(len(sizes)), amount, left=left, height=0.72, color=shades)
        left += amount
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_xlabel(unit)


def _draw_lengths(axes: Axes, sizes: pd.DataFrame, window_tokens: int) -> None:
    """From the shortest paper to the longest, quartiles thick, median and mean as marks, on a logarithmic scale."""
    rows, colours = np.arange(len(sizes)), _colours(sizes)
    axes.hlines(rows, sizes["min"], sizes["max"], color=colours, linewidth=1.2, alpha=0.7)
    axes.hlines(rows, sizes["q1"], sizes["q3"], color=colours, linewidth=7.0, alpha=0.55)
    axes.plot(sizes["median"], rows, linestyle="none", marker="|", color="black", markersize=10, label="median")
    mean = {"marker": "o", "color": "white", "markeredgecolor": "black", "markersize": 4.5}
    axes.plot(sizes["mean"], rows, linestyle="none", label="mean", **mean)
    axes.axvline(window_tokens, color=BOUND, linestyle=":", linewidth=1.5, label=f"window ({window_tokens})")
    axes.set_xscale("log")
    is_narrow = sizes["max"].max() < 100 * sizes["min"].min()
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if is_narrow else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("tokens of a train paper (log scale)")
    axes.legend(**_ABOVE)


def _name_rows(axes: Axes, sizes: pd.DataFrame) -> None:
    names = [_short(name) for name in sizes["component"]]
    axes.set_yticks(range(len(sizes)), names, parse_math=False)
    axes.invert_yaxis()
    for label, five_largest in zip(axes.get_yticklabels(), sizes["five_largest"], strict=True):
        label.set_fontweight("bold" if five_largest else "normal")


def _write_numbers(axes: Axes, cells: pd.DataFrame) -> None:
    """Each number in its cell, white on dark ones."""
    values = cells.to_numpy()
    dark = 0.6 * np.nanmax(values, initial=0.0)
    for row, column in np.argwhere(np.isfinite(values)):
        value = values[row, column]
        colour = "white" if value > dark else "black"
        axes.text(column, row, f"{value:.3f}", ha="center", va="center", fontsize=9, color=colour)


def _colours(sizes: pd.DataFrame) -> list[str]:
    return [MEASURED if five_largest else MUTED for five_largest in sizes["five_largest"]]


def _shade(colour: str, split: str) -> np.ndarray:
    """The colour, lighter for the smaller splits; no transparency, for the grid would show through."""
    return 1 - _SHADES[split] * (1 - np.array(to_rgb(colour)))


def _splits(sizes: pd.DataFrame) -> list[str]:
    return [split for split in SPLITS if f"{split}_tokens" in sizes]


def _short(text: str, num_chars: int = _LABEL_CHARS) -> str:
    """`text` in one line of at most so many characters."""
    one_line = " ".join(text.split())
    return one_line if len(one_line) <= num_chars else one_line[: num_chars - 1] + "…"
