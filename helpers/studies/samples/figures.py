"""Perplexity against train tokens on log axes with the law and its band, and the exponent of every arm beside it."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from scipy import stats

from helpers.analysis.figures import MUTED, STYLE, titled_figure
from helpers.analysis.fits.regression import Regression
from helpers.studies.samples.findings import DOCUMENT_ARM, Arm, SampleFindings
from helpers.studies.samples.words import Lang, figure_font, title

_COLOURS = {"epochs": "#0072B2", "steps": "#D55E00", "tokens": "#009E73", "random": "#CC79A7", "none": "#6B6B6B"}
_MARKERS = {"epochs": "o", "steps": "s", "tokens": "^", "random": "D", "none": "x"}
_NUM_CURVE = 60
_AHEAD = 3.0  # times the largest train set, as far as the law is drawn


def scaling_figure(findings: SampleFindings, caption: str, lang: Lang) -> Figure:
    """Left: every run, the mean of each sample count joined by arm, and the law that is matched in epochs with the 95 %
    band of its line. Right: exponents with their intervals."""
    font = figure_font(lang)
    words: Lang = "en" if font is None else lang
    with mpl.rc_context(STYLE | ({"font.family": [font, "DejaVu Sans"]} if font else {})):
        figure = titled_figure(title("figure", words), caption, (11.6, 5.2))
        panels = figure.subplot_mosaic([["runs", "exponents"]], width_ratios=(1.7, 1))
        _draw_runs(panels["runs"], findings, words)
        _draw_exponents(panels["exponents"], findings, words)
    return figure


def law_curve(law: Regression, ahead: float = _AHEAD) -> pd.DataFrame:
    """The law and the 95 % confidence band of its line, from the fewest tokens to `ahead` times the most."""
    logs, freedom = np.log(law.points.scales[:, 0]), law.degrees_of_freedom
    x = np.linspace(logs.min(), logs.max() + np.log(ahead), _NUM_CURVE)
    leverage = 1 / len(logs) + (x - logs.mean()) ** 2 / ((logs - logs.mean()) ** 2).sum()
    half = stats.t.ppf(0.975, freedom) * law.deviation * np.sqrt(leverage)
    middle = law.intercept + law.slope * x
    return pd.DataFrame(np.exp(np.column_stack([x, middle, middle - half, middle + half])), columns=_CURVE)


_CURVE = ["tokens", "ppl", "low", "high"]


def figure_numbers(findings: SampleFindings) -> pd.DataFrame:
    """What the figure shows, for its CSV: a row a run, then the law."""
    columns = ["match", "context", "embedding", "samples", "seed", "tokens", "ppl"]
    parts = [findings.runs[columns].assign(part="run")]
    if findings.law is not None:
        parts.append(law_curve(findings.law).assign(part="law"))
    return pd.concat(parts)


def _name(arm: Arm) -> str:
    """What tells an arm apart: its contexts where they are not learned, else what its runs have in common."""
    return arm[0] if arm[1] == "learned" else arm[1]


def _label(arm: Arm, lang: Lang) -> str:
    label = title(_name(arm), lang)
    return label if arm[2] == "frozen" else f"{label}, {arm[2]}"


def _draw_runs(axes: Axes, findings: SampleFindings, lang: Lang) -> None:
    if findings.law is not None:
        curve = law_curve(findings.law)
        axes.fill_between(curve["tokens"], curve["low"], curve["high"], color=_COLOURS["epochs"], alpha=0.13, lw=0)
        exponent = findings.law.parameters()["b"]
        label = f"{title('law', lang)}: α = {exponent.value:.2f} ({exponent.low:.2f} to {exponent.high:.2f})"
        axes.plot(curve["tokens"], curve["ppl"], color=_COLOURS["epochs"], lw=1.4, ls="--", label=label)
    for arm, means in findings.means.items():
        style = {"color": _COLOURS[_name(arm)], "marker": _MARKERS[_name(arm)]}
        runs = findings.runs[(findings.runs[["match", "context", "embedding"]] == list(arm)).all(axis=1)]
        axes.plot(runs["tokens"], runs["ppl"], ls="", ms=4, alpha=0.45, **style)
        is_law = arm == DOCUMENT_ARM and findings.law is not None
        axes.plot(means["tokens"], means["ppl"], ms=7, lw=0 if is_law else 1.2, label=_label(arm, lang), **style)
    axes.set(xscale="log", yscale="log", xlabel=title("x", lang), ylabel=title("y", lang))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axis.set_minor_formatter(NullFormatter())
    top = axes.get_ylim()[1]
    axes.set_ylim(top=top * 1.02)
    axes.legend(fontsize=9)


def _draw_exponents(axes: Axes, findings: SampleFindings, lang: Lang) -> None:
    axes.axvline(0, color=MUTED, lw=1)
    for place, (arm, law) in enumerate(findings.laws.items()):
        exponent, colour = law.parameters()["b"], _COLOURS[_name(arm)]
        axes.plot([exponent.low, exponent.high], [place, place], color=colour, lw=2.4, solid_capstyle="butt")
        axes.plot(exponent.value, place, color=colour, marker=_MARKERS[_name(arm)], ms=8)
    axes.set_yticks(range(len(findings.laws)), [_label(arm, lang) for arm in findings.laws])
    axes.set_ylim(-0.6, max(1, len(findings.laws)) - 0.4)
    axes.invert_yaxis()
    axes.set_xlabel(title("alpha", lang))
    axes.grid(axis="y", visible=False)
    if not findings.laws:
        axes.text(0.5, 0.5, "no law can be fitted yet", ha="center", transform=axes.transAxes, color=MUTED)
