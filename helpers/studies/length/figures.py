"""The figures of a comparison: two windows side by side, and the arms against the reference."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from helpers.analysis.figures import EXACT, MUTED, STYLE, titled_figure
from helpers.studies.length.estimates import bootstrap_band, mean_difference
from helpers.studies.length.findings import FAR, Comparison, Finding, advantage, arm_name
from helpers.studies.length.results import MULTIPLES, LengthRun

COLOURS = ("#0072B2", "#D55E00")
"""The small window, and the large one."""
_EQUAL = 0.05  # the band around a ratio of 1 that the document draws


def windows_figure(comparison: Comparison) -> Figure:
    """Six panels: XE near and far over training, the ratio SW / TTT, loss against context, the paired difference along
    the sequence, and EffRem."""
    small, large = comparison.windows
    arm = arm_name(comparison.arm).removesuffix(" (reference)")
    seeds = f"{len(comparison.small)} and {len(comparison.large)} seeds"
    caption = f"{comparison.condition}; {seeds}; {_measured(comparison.small[0])}"
    with mpl.rc_context(STYLE):
        figure = titled_figure(f"{arm}: W = {small} against W = {large}", caption, (14.5, 8.2))
        panels = figure.subplots(2, 3)
        for runs, colour in zip((comparison.small, comparison.large), COLOURS, strict=True):
            _draw_training(panels[0, 0], runs, colour, 1)
            _draw_training(panels[0, 1], runs, colour, FAR)
            _draw_ratio(panels[0, 2], runs, colour)
            _draw_contexts(panels[1, 0], runs, colour)
            _draw_difference(panels[1, 1], runs, colour)
            _draw_effrem(panels[1, 2], runs, colour)
        _finish(panels)
        return figure


def windows_table(comparison: Comparison) -> pd.DataFrame:
    """The numbers behind the panels over training and against context: one row a run, step and multiple."""
    rows = []
    for run in [*comparison.small, *comparison.large]:
        for step in run.steps:
            for k in MULTIPLES:
                rows.append(
                    {
                        "window": run.window, "seed": run.config.seed, "step": step, "multiple": k,
                        "xe_carried": run.after(k, step).mean(), "xe_window": run.from_window(step).mean(),
                        "effrem": run.after(k, step, "effrem").mean(),
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


def strides_figure(comparison: Comparison) -> Figure:
    """How much the stride of the window moves its loss, beside what the method does: targets behind 10 W."""
    numbers = strides_table(comparison)
    caption = f"{comparison.condition}; mean over seeds; targets from {FAR} W to {MULTIPLES[-1]} W"
    with mpl.rc_context(STYLE):
        figure = titled_figure("The stride moves the loss of a window", caption, (8.6, 4.2))
        panels = figure.subplots(1, 2)
        for axes, window, colour in zip(panels, comparison.windows, COLOURS, strict=True):
            own = numbers[numbers["window"] == window]
            axes.scatter(own["label"], own["xe"], color=[colour, *[MUTED] * (len(own) - 1)], s=60)
            low, high = own["xe"].min(), own["xe"].max()
            axes.set(ylim=(low - 0.3 * (high - low) - 0.01, high + 0.15 * (high - low) + 0.01))
            axes.set(title=f"W = {window}", ylabel="XE (nats per token)")
            for place, xe in enumerate(own["xe"]):
                axes.text(place, xe, f"{xe:.3f}\n", ha="center", va="bottom", fontsize=10, linespacing=0.5)
        return figure


def strides_table(comparison: Comparison) -> pd.DataFrame:
    rows = []
    for runs in (comparison.small, comparison.large):
        first = FAR * runs[0].window
        modes = [("carried", None), *(("window", stride) for stride in (1, *runs[0].config.stream.strides))]
        for mode, stride in modes:
            xe = float(np.mean([run.by_position(mode, stride)[first:].mean() for run in runs]))
            label = "carried" if stride is None else f"stride {stride}"
            rows.append({"window": runs[0].window, "label": label, "stride": stride, "xe": xe})
    return pd.DataFrame(rows)


def arms_figure(found: Sequence[tuple[LengthRun, Finding]], condition: str) -> Figure:
    """Each arm's XE less the reference's of the same seeds, after W and after 10 W tokens, with 95 % intervals."""
    caption = f"{condition}; on the same sequences; right of 0 the arm loses more than the reference"
    names = list(dict.fromkeys(finding.name for _, finding in found))
    quantities = list(dict.fromkeys(finding.quantity for _, finding in found))
    with mpl.rc_context(STYLE):
        size = (11.5, 1.6 + 0.45 * len(names))
        figure = titled_figure(f"One factor at a time, W = {found[0][0].window}", caption, size)
        panels = figure.subplots(1, len(quantities), sharey=True, squeeze=False)[0]
        for axes, quantity in zip(panels, quantities, strict=True):
            axes.axvline(0, color=MUTED, linewidth=1)
            for _, finding in found:
                if finding.quantity == quantity:
                    e, place = finding.estimate, len(names) - 1 - names.index(finding.name)
                    is_known = np.isfinite(e.low) and np.isfinite(e.high)
                    if is_known:
                        axes.plot([e.low, e.high], [place, place], color=COLOURS[0], linewidth=2)
                    inside = COLOURS[0] if is_known else "white"
                    axes.plot(e.value, place, "o", color=COLOURS[0], markerfacecolor=inside)
            axes.set(title=quantity, xlabel="nats above the reference")
            axes.set_yticks(range(len(names)), names[::-1])
            axes.set_ylim(-0.6, len(names) - 0.4)
        return figure


def _draw_training(axes: Axes, runs: Sequence[LengthRun], colour: str, multiple: int) -> None:
    for run in runs:
        values = [np.exp(run.after(multiple, step).mean()) for step in run.steps]
        axes.plot(run.steps, values, color=colour, linewidth=1.2, alpha=0.8, label=_label(run, runs))
    axes.set(
        title=f"PPL after {'W' if multiple == 1 else f'{multiple} W'} tokens, carried", xlabel="training step",
        ylabel="PPL (log)", yscale="log",
    )  # fmt: skip


def _draw_ratio(axes: Axes, runs: Sequence[LengthRun], colour: str) -> None:
    if not axes.lines:
        axes.axhspan(1 - _EQUAL, 1 + _EQUAL, color="#E6E6E6", linewidth=0)
        axes.axhline(1, color=MUTED, linewidth=1)
    for run in runs:
        values = [np.exp((run.from_window(step) - run.after(FAR, step)).mean()) for step in run.steps]
        axes.plot(run.steps, values, color=colour, linewidth=1.2, alpha=0.8)
    end = mean_difference([advantage(run) for run in runs])
    if np.isfinite(end.low):
        axes.plot([runs[0].end] * 2, np.exp([end.low, end.high]), color=colour, linewidth=3, solid_capstyle="butt")
    axes.set(
        title=f"SW / TTT at {FAR} W (below 1: the window is better)", xlabel="training step", ylabel="ratio of PPL"
    )


def _draw_contexts(axes: Axes, runs: Sequence[LengthRun], colour: str) -> None:
    tokens = np.array(MULTIPLES) * runs[0].window
    for run in runs:
        values = [run.after(k).mean() for k in MULTIPLES]
        axes.plot(tokens, values, "o-", color=colour, markersize=4, linewidth=1.2, alpha=0.8)
        axes.plot(tokens, [run.from_window().mean()] * len(tokens), ":", color=colour, linewidth=1.2)
    if runs[0].has_ideal:
        axes.plot(
            tokens, [runs[0].after(k, field="ideal_nll").mean() for k in MULTIPLES], "s--", color=EXACT, markersize=3.5,
            linewidth=1.1,
        )  # fmt: skip
    axes.set(
        title="The same targets after ever more context", xlabel="tokens of context (log)",
        ylabel="XE (nats per token)",
    )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _draw_difference(axes: Axes, runs: Sequence[LengthRun], colour: str) -> None:
    differences_SBX = np.stack([run.chunks("window") - run.chunks("carried") for run in runs])
    band, places = bootstrap_band(differences_SBX), (np.arange(differences_SBX.shape[2]) + 1) * runs[0].chunk
    axes.axhline(0, color=MUTED, linewidth=1)
    axes.fill_between(places / runs[0].window, band.low, band.high, color=colour, alpha=0.2, linewidth=0)
    axes.plot(places / runs[0].window, band.value, color=colour, linewidth=1.3)
    axes.set(
        title="NLL(window) - NLL(carried), 95 % band", xlabel="token of the sequence, in W", ylabel="nats per token"
    )


def _draw_effrem(axes: Axes, runs: Sequence[LengthRun], colour: str) -> None:
    for run in runs:
        values = [run.after(k, field="effrem").mean() for k in MULTIPLES]
        axes.plot(MULTIPLES, values, "o-", color=colour, markersize=4, linewidth=1.2, alpha=0.8)
    axes.set(
        title="EffRem: what tokens further back still do", xlabel="tokens of context, in W (log)", xscale="log",
        ylabel=f"total variation to {MULTIPLES[-1]} W",
    )  # fmt: skip
    axes.set_xticks(MULTIPLES, list(map(str, MULTIPLES)))


def _finish(panels: np.ndarray) -> None:
    for axes in panels[0, :2]:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.tick_params(axis="y", which="minor", labelsize=8)
    panels[0, 0].legend()
    panels[1, 0].plot([], [], ":", color=MUTED, label="from a window of W")
    panels[1, 0].plot([], [], "o-", color=MUTED, markersize=4, label="carried state")
    if any(line.get_color() == EXACT for line in panels[1, 0].lines):
        panels[1, 0].plot([], [], "s--", color=EXACT, markersize=3.5, label="ideal reader")
    panels[1, 0].legend(fontsize=9)


def _label(run: LengthRun, runs: Sequence[LengthRun]) -> str | None:
    return f"W = {run.window}" if run is runs[0] else None


def _measured(run: LengthRun) -> str:
    return f"{run.config.stream.sequences} sequences, chunks of {run.chunk}, window at stride 1; one line a seed"
