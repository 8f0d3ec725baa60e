"""The figures of one run: each of its evaluations along the sequence, and all of them over training."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from helpers.analysis.figures import EXACT, MUTED, STYLE, titled_figure
from helpers.studies.length.findings import arm_name
from helpers.studies.length.results import MULTIPLES, LengthRun

CARRIED, WINDOW = "#0072B2", "#D55E00"
MODES = {"carried": ("TTT, carried state", CARRIED), "window": ("sliding window, stride 1", WINDOW)}
_MARKED = (1, 2, 5, 10)


def checkpoint_figure(run: LengthRun, step: int) -> Figure:
    """PPL along the sequence at one step of training, a point a chunk: carried state and sliding window."""
    with mpl.rc_context(STYLE):
        figure = titled_figure(f"{_title(run)}, step {step:,}: PPL along the sequence", _caption(run), (10.2, 4.2))
        axes = figure.subplots()
        numbers = chunk_table(run, step)
        if run.has_ideal:
            axes.plot(numbers["token"], numbers["ideal carried"], color=EXACT, linewidth=1.3, label="ideal, all tokens")
            axes.plot(
                numbers["token"], numbers["ideal window"], "--", color=EXACT, linewidth=1.3, label="ideal, W tokens"
            )
        for mode, (label, colour) in MODES.items():
            axes.plot(numbers["token"], numbers[mode], color=colour, linewidth=1.5, label=_mode_label(run, label))
        for k in _MARKED:
            is_window = k == 1
            axes.axvline(
                k * run.window,
                color="#B22222" if is_window else MUTED,
                linestyle="--" if is_window else ":",
                linewidth=1,
            )
            axes.text(
                k * run.window, 1.0, f" {k} W" if k > 1 else " W", transform=axes.get_xaxis_transform(), color=MUTED,
                fontsize=9, va="bottom",
            )  # fmt: skip
        axes.set(xlabel="token of the sequence", ylabel="PPL (log)", yscale="log", xlim=(0, MULTIPLES[-1] * run.window))
        _plain_log(axes)
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
        return figure


def chunk_table(run: LengthRun, step: int) -> pd.DataFrame:
    """PPL of every chunk, by its last token: exp of the mean loss over sequences, and of the median for both modes."""
    numbers = {"token": np.arange(1, MULTIPLES[-1] * run.window // run.chunk + 1) * run.chunk}
    modes = [*MODES, *(["ideal carried", "ideal window"] if run.has_ideal else [])]
    numbers |= {mode: np.exp(run.chunks(mode, step).mean(axis=0)) for mode in modes}
    numbers |= {f"{mode} (median)": np.exp(np.median(run.chunks(mode, step), axis=0)) for mode in MODES}
    return pd.DataFrame(numbers)


def evolution_figure(run: LengthRun) -> Figure:
    """Two panels, carried state above and sliding window below: PPL at the five multiples of W, a line for each
    evaluation, coloured by its step."""
    with mpl.rc_context(STYLE):
        figure = titled_figure(f"{_title(run)}: PPL over training", _caption(run), (8.6, 6.6))
        panels = figure.subplots(2, 1, sharex=True, sharey=True)
        numbers, shade = evolution_table(run), Normalize(0, max(1, run.end))
        colours = mpl.colormaps["viridis"]
        for axes, (mode, (label, _)) in zip(panels, MODES.items(), strict=True):
            for step, own in numbers.groupby("step"):
                colour, strength = colours(shade(step)), 0.3 + 0.7 * step / max(1, run.end)
                axes.plot(own["token"], own[mode], "o-", color=colour, alpha=strength, markersize=3.5, linewidth=1.5)
            axes.set(ylabel="PPL (log)", title=_mode_label(run, label), yscale="log", xscale="log")
            for k in MULTIPLES:
                axes.axvline(k * run.window, color="#B22222", linestyle=":", linewidth=0.9)
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_xticks([k * run.window for k in MULTIPLES], [f"{k * run.window}\n{k} W" for k in MULTIPLES])
            _plain_log(axes)
        panels[1].set_xlabel("token of the sequence")
        figure.colorbar(ScalarMappable(norm=shade, cmap=colours), ax=panels, label="training step", pad=0.01)
        return figure


def evolution_table(run: LengthRun) -> pd.DataFrame:
    """PPL (the median over sequences, as the document has it) at k W of both modes, at every evaluated step."""
    rows = [
        {
            "step": summary["step"], "multiple": k, "token": k * run.window,
            "carried": summary[f"ttt_ppl_at_{k}xW"], "window": summary[f"sw_ppl_at_{k}xW"],
        }
        for summary in run.summaries
        for k in MULTIPLES
    ]  # fmt: skip
    return pd.DataFrame(rows)


def _plain_log(axes: Axes) -> None:
    """Numbers instead of powers on a log axis that spans little."""
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.tick_params(axis="y", which="minor", labelsize=8)


def _title(run: LengthRun) -> str:
    return f"{arm_name(run.arm).removesuffix(' (reference)')}, W = {run.window}, seed {run.config.seed}"


def _mode_label(run: LengthRun, label: str) -> str:
    return label if run.config.model.mixer == "ttt" else label.replace("TTT, carried state", "all tokens before")


def _caption(run: LengthRun) -> str:
    return (
        f"{run.condition}; {run.config.stream.sequences} sequences of {MULTIPLES[-1]} W tokens, chunks of {run.chunk}, "
        "window at stride 1"
    )
