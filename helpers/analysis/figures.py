"""The look of figures, and how they are saved: equal numbers give equal files, and the CSV of the numbers lies beside.

Colours are those of Okabe and Ito, which readers with any common colour blindness can tell apart; what is ordered, such
as K, has a sequence of colours (viridis).
"""

import warnings
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from helpers.storage import Storage, publish, publish_text

MEASURED, EXACT, SHUFFLED, BOUND, MUTED = "#0072B2", "#009E73", "#CC79A7", "#D55E00", "#6B6B6B"
MARKS = ("o", "s", "^", "D", "v", "P", "X")
"""For lines that differ by colour too, as far as anyone sees it."""
SIGMA = "\N{GREEK SMALL LETTER SIGMA}"
XE_UNIT, DXE_UNIT = "XE (nats per token)", "ΔXE (nats per token)"
STYLE = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.labelsize": 12,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.edgecolor": "#444444",
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "lines.linewidth": 2.0,
    "figure.dpi": 100,
    "savefig.dpi": 200,
}


def save_figure(storage: Storage, name: str, figure: Figure, numbers: pd.DataFrame) -> list[Path]:
    """Publish `fig/<name>.png` and `fig/<name>.csv`; returns both paths. Equal figures give equal bytes.

    Letters that no font here has are drawn as boxes; the CSV has them.
    """
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        _settle(figure)
        png = publish(
            storage.figure(f"{name}.png"),
            lambda temporary: figure.savefig(temporary, format="png", metadata={"Software": None}),
        )
    return [png, publish_text(storage.figure(f"{name}.csv"), numbers.to_csv(index=False, lineterminator="\n"))]


def _settle(figure: Figure) -> None:
    """Lay out once, and keep the places of the panels to a millionth of the figure: the last digits that the solver of
    the constrained layout finds differ from call to call (in 8 of 150 here), and they move a few pixels."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        if axes.get_axes_locator() is None:
            axes.set_position([round(bound, 6) for bound in axes.get_position().bounds])


def log_spaced(num_points: int, num_marks: int = 7) -> list[int]:
    """The places of marks on a curve that is drawn against the logarithm of its position from 1."""
    return sorted({round(num_points ** (i / (num_marks - 1))) - 1 for i in range(num_marks)})


def titled_figure(title: str, caption: str, size: tuple[float, float]) -> Figure:
    """A figure of `size` (inches) without panels, with a title above their place and a caption, small, below."""
    figure, height = Figure(figsize=size, layout="constrained"), size[1]
    figure.get_layout_engine().set(rect=(0.01, 0.3 / height, 0.98, 1 - 0.75 / height), wspace=0.06, hspace=0.06)
    figure.text(0.015, 1 - 0.275 / height, title, fontweight="bold", fontsize=14)
    letters = max(6.0, min(9.0, 120 * size[0] / len(caption)))  # points, so that a long condition fits the width
    figure.text(0.015, 0.1 / height, caption, fontsize=letters, color=MUTED, parse_math=False)
    return figure
