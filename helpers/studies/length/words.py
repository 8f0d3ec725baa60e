"""The findings of the length study in sentences: each names what it speaks for, and how sure it is."""

import math
from collections.abc import Sequence

import numpy as np

from helpers.analysis.estimates import Estimate
from helpers.analysis.tables import escaped
from helpers.studies.length.estimates import mean_difference
from helpers.studies.length.findings import (
    FAR,
    PLATEAU_NATS,
    Comparison,
    Crossover,
    Finding,
    advantage,
    arm_name,
    crossover,
    plateau_step,
    window_correlation,
    winner,
)
from helpers.studies.length.results import MULTIPLES, LengthRun


def verdicts(comparison: Comparison, num_others: int) -> str:
    """The four hypotheses and the document's tests, of one condition and arm."""
    small, large = comparison.windows
    title = f"## {escaped(arm_name(comparison.arm))}, W = {small} against W = {large}"
    scope = f"Condition: {comparison.condition}. {len(comparison.pairs)} seeds of each window"
    are = "run of the storage is" if num_others == 1 else "runs of the storage are"
    scope += f"; {num_others} other {are} not in it." if num_others else "."
    parts = [title, escaped(scope), "\n".join(f"- {hypothesis(found)}" for found in comparison.hypotheses())]
    parts.append("\n".join(f"- {line}" for line in [*_ratios(comparison), *_tests(comparison)]))
    return "\n\n".join(parts)


def hypothesis(found: Finding) -> str:
    return f"**{found.name}: {found.verdict}** that {found.statement}. {found.quantity}: {interval(found.estimate)}."


def interval(e: Estimate) -> str:
    if not math.isfinite(e.value):
        return "not known"
    if not (math.isfinite(e.low) and math.isfinite(e.high)):
        return f"{e.value:+.4f}, of one seed, which says nothing of others"
    return f"{e.value:+.4f} (95 % from {e.low:+.4f} to {e.high:+.4f}, {e.num_runs} seeds)"


def _ratios(comparison: Comparison) -> list[str]:
    """Who wins far out, for each window; a ratio SW / TTT below 1 is a win of the window."""
    lines = []
    for runs in (comparison.small, comparison.large):
        ratio = mean_difference([advantage(run) for run in runs])
        shown = f"SW / TTT is {math.exp(ratio.value):.4f}"
        if math.isfinite(ratio.low):
            shown += f" (95 % from {math.exp(ratio.low):.4f} to {math.exp(ratio.high):.4f})"
        lines.append(f"At {FAR} W, W = {runs[0].window}: {shown}: {winner(ratio)}.")
    return lines


def _tests(comparison: Comparison) -> list[str]:
    small, large = comparison.windows
    improvement = comparison.hypotheses()[0].estimate
    p = f"p = {improvement.p_value:.2g}" if math.isfinite(improvement.p_value) else "no p-value from one seed"
    crossings = [crossover(runs) for runs in (comparison.small, comparison.large)]
    r, low, high = window_correlation([*comparison.small, *comparison.large])
    correlated = (
        f"r = {r:.2f} (95 % from {low:.2f} to {high:.2f})" if math.isfinite(r) else "cannot tell from so few runs"
    )
    plateaus = "; ".join(
        f"W = {runs[0].window}: step {', '.join(f'{plateau_step(run):,}' for run in runs)}"
        for runs in (comparison.small, comparison.large)
    )
    return [
        f"Improvement from W = {small} to W = {large} in XE after W tokens: {p}.",
        *map(_crossing, crossings),
        f"Does the crossover move with the window? {_crossing_change(*crossings)}",
        f"Correlation over runs of log2 W with ln PPL({FAR} W) / PPL(W): {correlated}; with two windows it says no "
        "more than H2.",
        f"Plateau, the first evaluation within {PLATEAU_NATS} nats of the run's lowest: {plateaus}, a number a seed.",
        *_early_ends(comparison),
    ]


def _crossing(found: Crossover) -> str:
    if not math.isfinite(found.value):
        share = f"{100 * found.share:.0f} % of resamples have one"
        return f"W = {found.window}: no crossover between W and {MULTIPLES[-1]} W ({share})."
    return (
        f"W = {found.window}: from {found.value:.1f} W on the window is better for good (95 % of the "
        f"{100 * found.share:.0f} % of resamples that cross: {found.low:.1f} to {found.high:.1f} W)."
    )


def _crossing_change(small: Crossover, large: Crossover) -> str:
    if not (math.isfinite(small.value) and math.isfinite(large.value)) or min(small.share, large.share) < 0.975:
        return "Cannot tell: one of the two need not cross at all."
    if small.high < large.low or large.high < small.low:
        return f"Yes, in windows: {small.value:.1f} W against {large.value:.1f} W, and the intervals do not overlap."
    return f"Cannot tell, in windows: {small.value:.1f} W against {large.value:.1f} W, and the intervals overlap."


def _early_ends(comparison: Comparison) -> list[str]:
    ends = {run.end for run in [*comparison.small, *comparison.large]}
    if len(ends) == 1:
        return []
    return [f"The runs ended at different steps ({', '.join(f'{end:,}' for end in sorted(ends))}), by their patience."]


def arms_text(found: Sequence[tuple[LengthRun, Finding]], condition: str) -> str:
    """Each factor against the reference, and what may be said of the inner loss."""
    window = found[0][0].window
    lines = [
        f"- {one.name}, {one.quantity} less the reference's: {interval(one.estimate)}: {_arm_words(one)}."
        for _, one in found
    ]
    parts = [f"## One factor at a time, W = {window}", escaped(f"Condition: {condition}."), "\n".join(lines)]
    return "\n\n".join([*parts, inner_text([one for _, one in found])])


def _arm_words(found: Finding) -> str:
    return {"supported": "it loses more", "contradicted": "it loses less", "cannot tell": "cannot tell"}[found.verdict]


def inner_text(found: Sequence[Finding]) -> str:
    """Whether the runs let one say that the inner loss learns: only if both controls lose more (arXiv 2602.21204)."""
    controls = {
        inner: [one.verdict for one in found if f"inner {inner}" in one.name and one.quantity == "XE after 1 W"]
        for inner in ("none", "ascent")
    }
    if not all(controls.values()):
        return "Whether the inner loss learns cannot be told: runs with inner step none and ascent are needed."
    none, ascent = controls["none"][0], controls["ascent"][0]
    if ascent != "supported":
        return (
            f"Gradient ascent in the inner loop does not clearly lose more than descent ({ascent} that it does): these "
            "runs do not show that the inner loss is what learns."
        )
    if none != "supported":
        return (
            "Without an inner step no more is clearly lost than with descent: these runs show no use of the inner step."
        )
    return "Within W tokens both controls lose more than descent: in these runs the inner step helps, and its sign too."


def stride_text(numbers_by_window: dict[int, dict[str, float]]) -> str:
    """How far the stride moves the window's loss, beside what separates the methods."""
    lines = []
    for window, xe in numbers_by_window.items():
        strides = {label: value for label, value in xe.items() if label != "carried"}
        moved = max(strides.values()) - min(strides.values())
        method = abs(xe["stride 1"] - xe["carried"])
        shown = ", ".join(f"{label} {value:.4f}" for label, value in xe.items())
        lines.append(f"- W = {window}: {shown}. The strides lie {moved:.4f} nats apart, the two modes {method:.4f}.")
    return "\n".join(["## Strides, targets behind 10 W", *lines])


def excess_text(runs: Sequence[LengthRun]) -> str:
    """Where the ideal reader's loss is known: how far above it the models are, near and far."""
    lines = []
    for window in sorted({run.window for run in runs if run.has_ideal}):
        own = [run for run in runs if run.window == window]
        near, far = (np.mean([run.after(k) - run.after(k, field="ideal_nll") for run in own]) for k in (1, FAR))
        lines.append(f"- W = {window}: {near:.4f} nats above the ideal reader after W tokens, {far:.4f} after {FAR} W.")
    return "\n".join(["## Above the ideal reader", *lines]) if lines else ""
