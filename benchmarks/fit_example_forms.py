"""The worked examples of `studies/fits.md` on the form of a law: iso-FLOP curves, repeated data, and the next run.

    python -m benchmarks.fit_example_forms --storage DIR

Writes `fit_repeated.csv`, whose truth is the law of effective data with R = 15, and the figures to `fig/` beside it.
"""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import tyro
from matplotlib.figure import Figure

from benchmarks.fit_examples import example, points_of, save_figures
from helpers.analysis.figures import MUTED, STYLE, titled_figure
from helpers.analysis.fits.allocation import allocate, compute_exponent
from helpers.analysis.fits.intervals import Draws, infer
from helpers.analysis.fits.isoflop import iso_flop
from helpers.analysis.fits.judge_forms import judge_forms
from helpers.analysis.fits.laws import CHINCHILLA
from helpers.analysis.fits.suggest import suggest

R = 15.0
_OURS, _OTHER = "#1b6ca8", "#d1603d"


def repeated() -> pd.DataFrame:
    """48 runs: 4 N, 4 D, and data seen once, 6 or 36 times; 0.3 % of noise."""
    n, d = np.repeat(np.logspace(7, 9, 4), 12), np.tile(np.repeat(np.logspace(9, 11, 4), 3), 4)
    u = d / np.tile([1.0, 6.0, 36.0], 16)
    worth = u + u * R * (1 - np.exp(-(d / u - 1) / R))
    losses = (1.8 + 480 * n**-0.35 + 2000 * worth**-0.37) * np.exp(0.003 * np.random.default_rng(1).normal(size=48))
    return pd.DataFrame({"N": n.round(), "D": d.round(), "U": u.round(), "loss": losses.round(4)})


def curves(draws: Draws) -> Figure:
    """The best N of each budget by a parabola, and by the law."""
    found, own = iso_flop(draws.fit, 2), compute_exponent(draws)
    with mpl.rc_context(STYLE):
        caption = (
            f"a = {found.exponent.value:.3f} by a parabola ({found.exponent.low:.2f} to {found.exponent.high:.2f}),"
            f" {own.value:.3f} by the law"
        )
        figure = titled_figure("Iso-FLOP curves and the law", caption, (8.0, 4.0))
        axes = figure.subplots()
        flops = np.geomspace(found.budgets.min() / 2, found.budgets.max() * 2, 20)
        splits = [allocate(draws, float(one)).num_params for one in flops]
        axes.plot(flops, [one.value for one in splits], color=_OURS, label="law")
        axes.fill_between(flops, [one.low for one in splits], [one.high for one in splits], color=_OURS, alpha=0.2)
        axes.plot(found.budgets, found.num_params, "o", color=_OTHER, label="lowest point of a parabola")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("compute, 6 N D (FLOPs)")
        axes.set_ylabel("best N (parameters)")
        axes.legend(loc="upper left")
        return figure


def forms(table: pd.DataFrame) -> Figure:
    """AICc and held-out error of each form, on runs that repeat their data."""
    judged = judge_forms(points_of(table), table["U"].to_numpy(float))
    best = judged[0]
    low, high = best.interval["R"]
    with mpl.rc_context(STYLE):
        caption = f"R = {best.params['R']:.1f}, 95 % from {low:.1f} to {high:.1f}; truth: effective data, R = {R:g}"
        figure = titled_figure("Forms, where data is repeated", caption, (8.0, 3.4))
        for axes, name, label in zip(
            figure.subplots(1, 2, sharey=True), ("delta", "held_out_error"),
            ("AICc above the lowest", "held-out error of log loss"), strict=True,
        ):  # fmt: skip
            values = [getattr(own, name) for own in judged]
            axes.barh([own.name for own in judged], values, color=[_OURS] + [MUTED] * (len(judged) - 1))
            axes.bar_label(axes.containers[0], [f"{value:.3g}" for value in values], padding=3)
            axes.set_xlim(0, max(values) * 1.25)
            axes.set_xlabel(label)
            axes.invert_yaxis() if name == "delta" else None
        return figure


def next_runs(draws: Draws, budget: float) -> Figure:
    """The runs, and for each exponent the run of a budget that would shorten its interval most."""
    scales = draws.fit.points.scales
    with mpl.rc_context(STYLE):
        figure = titled_figure(
            f"The next run of {budget:g} FLOPs", "what it would leave of a standard error", (8.0, 4.0)
        )
        axes = figure.subplots()
        axes.plot(scales[:, 0], scales[:, 1], "o", color=MUTED, label="runs")
        line = np.geomspace(1e8, 2e10, 50)
        axes.plot(line, budget / 6 / line, color=MUTED, linestyle=":", label="6 N D = budget")
        best = {own.parameter: own for own in suggest(draws, budget) if own.parameter in ("alpha", "beta")}
        for (name, own), colour in zip(best.items(), (_OURS, _OTHER), strict=True):
            axes.plot(*own.scales, "*", color=colour, markersize=14, label=f"for {name}: {own.share_left:.0%} left")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("N (parameters)")
        axes.set_ylabel("D (tokens)")
        axes.legend(loc="lower right")
        return figure


def main(storage: Path) -> None:
    """Write the table and the figures.

    Args:
        storage: The folder.
    """
    (storage / "fig").mkdir(parents=True, exist_ok=True)
    table = repeated()
    table.to_csv(storage / "fit_repeated.csv", index=False)
    draws = infer(points_of(example()), CHINCHILLA)
    figures = {"fit_isoflop": curves(draws), "fit_forms": forms(table), "fit_next_run": next_runs(draws, 1e21)}
    save_figures(storage, figures)


if __name__ == "__main__":
    tyro.cli(main)
