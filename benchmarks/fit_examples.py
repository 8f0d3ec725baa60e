"""The worked examples of `studies/fits.md`: a table with a known truth, and a figure of each question asked of it.

    python -m benchmarks.fit_examples --storage DIR

Writes `fit_example.csv`, and the figures to `fig/` beside it.
"""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import tyro
from matplotlib.figure import Figure

from helpers.analysis.figures import MUTED, STYLE, titled_figure
from helpers.analysis.fits.allocation import allocate, compute_exponent
from helpers.analysis.fits.answer import answer
from helpers.analysis.fits.fit import fit
from helpers.analysis.fits.holdout import predict_held_out
from helpers.analysis.fits.intervals import Draws, infer
from helpers.analysis.fits.laws import CHINCHILLA
from helpers.analysis.fits.objective import LEAST_SQUARES
from helpers.analysis.fits.points import Points

TRUTH = {"E": 1.8, "A": 480.0, "alpha": 0.35, "B": 2000.0, "beta": 0.37}
SPOILT_ROW = 13
_OURS, _OTHER = "#1b6ca8", "#d1603d"


def example() -> pd.DataFrame:
    """25 runs, N 10 M to 1 B and D 1 B to 100 B, with 0.5 % of noise in each loss."""
    n, d = np.repeat(np.logspace(7, 9, 5), 5), np.tile(np.logspace(9, 11, 5), 5)
    losses = TRUTH["E"] + TRUTH["A"] * n ** -TRUTH["alpha"] + TRUTH["B"] * d ** -TRUTH["beta"]
    losses *= np.exp(0.005 * np.random.default_rng(1).normal(size=25))
    return pd.DataFrame({"N": n.round(), "D": d.round(), "loss": losses.round(4)})


def points_of(table: pd.DataFrame) -> Points:
    return Points.of(table[["N", "D"]].to_numpy(), table["loss"].to_numpy())


def one_bad_run(table: pd.DataFrame) -> Figure:
    """Each parameter, over its truth, as two estimators see it with and without a run that went wrong."""
    spoilt = table.assign(loss=table["loss"].where(table.index != SPOILT_ROW - 1, table["loss"] * 1.6))
    with mpl.rc_context(STYLE):
        figure = titled_figure("One bad run", f"row {SPOILT_ROW} x 1.6; estimates over the truth", (8.0, 3.6))
        axes = figure.subplots()
        for place, (label, rows, delta, colour) in enumerate(
            [
                ("as measured", table, None, MUTED),
                ("one bad run, this command", spoilt, None, _OURS),
                ("one bad run, least squares", spoilt, LEAST_SQUARES, _OTHER),
            ]
        ):
            found = fit(points_of(rows), CHINCHILLA, delta).params
            ratios = [found[name] / truth for name, truth in TRUTH.items()]
            axes.plot(ratios, np.arange(5) + 0.2 * (place - 1), "o", color=colour, label=label)
        axes.axvline(1.0, color=MUTED, linewidth=1.0)
        axes.set_yticks(range(5), list(TRUTH))
        axes.set_xscale("log")
        axes.set_xlabel("estimate / truth")
        axes.legend(loc="best")
        return figure


def best_split(draws: Draws) -> Figure:
    """N_opt and D_opt against compute with their intervals, and the runs."""
    budgets = np.logspace(17, 22, 26)
    splits = [allocate(draws, float(budget)) for budget in budgets]
    exponent = compute_exponent(draws)
    with mpl.rc_context(STYLE):
        caption = f"a = {exponent.value:.3f}, 95 % from {exponent.low:.3f} to {exponent.high:.3f}; truth dotted"
        figure = titled_figure("The best split of a budget", caption, (8.0, 4.2))
        axes = figure.subplots()
        a = TRUTH["beta"] / (TRUTH["alpha"] + TRUTH["beta"])
        g = (TRUTH["alpha"] * TRUTH["A"] / (TRUTH["beta"] * TRUTH["B"])) ** (1 / (TRUTH["alpha"] + TRUTH["beta"]))
        truths = {"num_params": g * (budgets / 6) ** a, "num_tokens": (budgets / 6) ** (1 - a) / g}
        for name, label, colour in (("num_params", "N, parameters", _OURS), ("num_tokens", "D, tokens", _OTHER)):
            ends = [getattr(split, name) for split in splits]
            axes.plot(budgets, [own.value for own in ends], color=colour, label=label)
            axes.fill_between(budgets, [o.low for o in ends], [o.high for o in ends], color=colour, alpha=0.2)
            axes.plot(budgets, truths[name], color="black", linestyle=":", linewidth=1.0)
        runs = 6 * draws.fit.points.scales.prod(axis=1)
        axes.axvspan(runs.min(), runs.max(), color=MUTED, alpha=0.12, label="budgets of the runs")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("compute, 6 N D (FLOPs)")
        axes.legend(loc="upper left")
        return figure


def held_out(table: pd.DataFrame) -> Figure:
    """The largest models, predicted from the smaller ones, beside plainer rules."""
    points = points_of(table)
    largest = points.scales[:, 0] == points.scales[:, 0].max()
    train, test = points.take(~largest), points.take(largest)
    rows = predict_held_out(answer(train, CHINCHILLA), train, test)
    tokens = test.scales[:, 1]
    with mpl.rc_context(STYLE):
        covered = sum(row.is_covered for row in rows)
        caption = f"fitted to N < 1 B; the interval of one run holds {covered} of {len(rows)} losses"
        figure = titled_figure("Held out: N = 1 B", caption, (8.0, 4.2))
        axes = figure.subplots()
        values, low, high = (
            np.array([getattr(row.prediction, end) for row in rows]) for end in ("value", "low", "high")
        )
        axes.errorbar(tokens, values, [values - low, high - values], fmt="s", color=_OURS, capsize=4, label="predicted")
        axes.plot(tokens, test.losses, "x", color="black", markersize=8, label="measured")
        for (name, colour), marker in zip((("two-point slope", _OTHER), ("last value", MUTED)), "v^", strict=True):
            axes.plot(tokens, [row.baselines[name] for row in rows], marker, color=colour, label=name)
        axes.set_xscale("log")
        axes.set_xlabel("tokens")
        axes.set_ylabel("loss (nats per token)")
        axes.legend(loc="best")
        return figure


def main(storage: Path) -> None:
    """Write the table and the figures.

    Args:
        storage: The folder.
    """
    table = example()
    (storage / "fig").mkdir(parents=True, exist_ok=True)
    table.to_csv(storage / "fit_example.csv", index=False)
    draws = infer(points_of(table), CHINCHILLA)
    figures = {"fit_bad_run": one_bad_run(table), "fit_split": best_split(draws), "fit_held_out": held_out(table)}
    save_figures(storage, figures)


def save_figures(storage: Path, figures: dict[str, Figure]) -> None:
    """Each as fig/<name>.png."""
    for name, figure in figures.items():
        figure.savefig(storage / "fig" / f"{name}.png")
        print(storage / "fig" / f"{name}.png")


if __name__ == "__main__":
    tyro.cli(main)
