"""The log-log figure: loss against compute for both activations with their laws, the held-out runs, and predictions."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from helpers.analysis.figures import MUTED, STYLE, titled_figure
from helpers.analysis.fits.arms import ArmFindings, compute_multiplier
from helpers.studies.activation.findings import ActivationFindings
from helpers.studies.activation.presets import ARMS

COLOURS = {"gelu": "#0072B2", "swiglu": "#D55E00"}
NAMES = {"gelu": "GeLU", "swiglu": "SwiGLU"}
_MARKERS = {"gelu": "o", "swiglu": "s"}
_NUM_CURVE = 60


def scaling_figure(findings: ActivationFindings, caption: str) -> Figure:
    """Left: XE against compute on log axes. Right, above: what is left of each run beside its law. Right, below: the
    compute multiplier of SwiGLU with its 95 % interval."""
    with mpl.rc_context(STYLE):
        figure = titled_figure("XE against training compute", caption, (11.6, 5.6))
        panels = figure.subplot_mosaic([["losses", "residuals"], ["losses", "multiplier"]], width_ratios=(1.3, 1))
        curves = law_curves(findings)
        _draw_losses(panels["losses"], findings, curves)
        _draw_residuals(panels["residuals"], findings)
        _draw_multiplier(panels["multiplier"], findings)
        if not findings.laws:
            panels["residuals"].text(
                0.5, 0.5, "no law can be fitted yet", ha="center", transform=panels["residuals"].transAxes
            )
        return figure


def law_curves(findings: ActivationFindings) -> pd.DataFrame:
    """The first law of each arm from the smallest anchor to the largest run: flops, activation, xe, and the 95 %
    interval of one further run."""
    if not findings.laws:
        numbers = pd.DataFrame(columns=["flops", "activation", "xe", "low", "high"], dtype=float)
        return numbers.astype({"activation": str})
    draws = next(iter(findings.laws.values())).draws
    rows = []
    for arm in draws.fit.law.arms:
        flops = _grid(findings)
        for compute, loss in zip(flops, draws.predict(flops, [arm] * len(flops)), strict=True):
            rows.append({"flops": compute, "activation": arm, "xe": loss.value, "low": loss.low, "high": loss.high})
    return pd.DataFrame(rows)


def multiplier_curve(findings: ActivationFindings) -> pd.DataFrame:
    """The compute multiplier of SwiGLU over the same range."""
    columns = ["flops", "multiplier", "low", "high"]
    if not findings.laws:
        return pd.DataFrame(columns=columns, dtype=float)
    found = next(iter(findings.laws.values()))
    flops = _grid(findings)
    estimates = [compute_multiplier(found.draws, *_pair(found), compute) for compute in flops]
    values = [[compute, e.value, e.low, e.high] for compute, e in zip(flops, estimates, strict=True)]
    return pd.DataFrame(values, columns=columns)


def _draw_losses(axes: Axes, findings: ActivationFindings, curves: pd.DataFrame) -> None:
    for arm in ARMS:
        runs = findings.anchors[findings.anchors["activation"] == arm]
        axes.plot(
            runs["flops_non_embedding"], runs["xe"], _MARKERS[arm], color=COLOURS[arm], markersize=7,
            markeredgecolor="white", label=f"{NAMES[arm]}, fitted ({len(runs)} runs)",
        )  # fmt: skip
        law = curves[curves["activation"] == arm]
        axes.plot(law["flops"], law["xe"], color=COLOURS[arm], linewidth=1.6)
        axes.fill_between(law["flops"], law["low"], law["high"], color=COLOURS[arm], alpha=0.12, linewidth=0)
        held = findings.held_out[findings.held_out["activation"] == arm]
        if len(held):
            axes.plot(
                held["flops_non_embedding"], held["xe"], "x", color=COLOURS[arm], markersize=9, markeredgewidth=2.4,
                label=f"{NAMES[arm]}, held out ({len(held)})",
            )  # fmt: skip
    _forecasts(axes, findings)
    axes.set(xscale="log", yscale="log", xlabel="compute C = 6 N D (FLOPs)", ylabel="XE (nats per token)")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 6, 7, 8)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.legend(loc="lower left")


def _forecasts(axes: Axes, findings: ActivationFindings) -> None:
    """The registered interval at each held-out size, beside the band that is drawn from the same anchors now."""
    primary = findings.predictions[findings.predictions["is_primary"]].drop_duplicates(["size", "activation"])
    for number, row in enumerate(primary.itertuples()):
        axes.errorbar(
            row.flops, row.predicted, [[row.predicted - row.low], [row.high - row.predicted]], fmt="_", capsize=5,
            color=COLOURS[row.activation], markersize=12, label="predicted before, 95 %" if number == 0 else None,
        )  # fmt: skip


def _draw_residuals(axes: Axes, findings: ActivationFindings) -> None:
    axes.axhline(0, color=MUTED, linewidth=1)
    if findings.laws:
        fit = next(iter(findings.laws.values())).draws.fit
        for runs, marker_size, marker in ((findings.anchors, 6, None), (findings.held_out, 8, "x")):
            for arm in ARMS:
                part = runs[runs["activation"] == arm]
                if len(part):
                    expected = fit.predict(part["flops_non_embedding"].to_numpy(float), [arm] * len(part))
                    axes.plot(
                        part["flops_non_embedding"], 100 * (part["xe"] / expected - 1), marker or _MARKERS[arm],
                        color=COLOURS[arm], markersize=marker_size, markeredgewidth=2.2 if marker else 0,
                    )  # fmt: skip
    axes.set(ylabel="measured - law (%)", title="What the law leaves", xscale="log")


def _draw_multiplier(axes: Axes, findings: ActivationFindings) -> None:
    curve = multiplier_curve(findings)
    axes.axhline(1, color=MUTED, linewidth=1)
    axes.fill_between(curve["flops"], curve["low"], curve["high"], color=COLOURS["swiglu"], alpha=0.15, linewidth=0)
    axes.plot(curve["flops"], curve["multiplier"], color=COLOURS["swiglu"])
    axes.set(xlabel="compute C = 6 N D (FLOPs)", ylabel="× GeLU's compute", xscale="log")
    axes.set_title("What SwiGLU is worth, with 95 % interval")
    if len(curve):
        middle = curve["multiplier"].to_numpy(float)
        axes.set_ylim(max(0.0, 2 * middle.min() - middle.max() - 1), 2 * middle.max() - middle.min() + 1)


def _grid(findings: ActivationFindings) -> np.ndarray:
    flops = pd.concat([findings.anchors, findings.held_out])["flops_non_embedding"]
    return np.geomspace(flops.min(), flops.max(), _NUM_CURVE)


def _pair(found: ArmFindings) -> tuple[str, str]:
    (comparison,) = found.comparisons
    return comparison.reference, comparison.arm
