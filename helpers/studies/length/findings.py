"""What the runs of one condition and one arm say of two windows: the document's four hypotheses, with intervals.

All differences are of the last targets of the same sequences, so that the difficulty of the text is in none of them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from helpers.analysis.estimates import Estimate, mean_over_runs
from helpers.runs.sessions import sessions
from helpers.studies.length.estimates import correlation, crossing, mean_difference, resampled
from helpers.studies.length.results import MULTIPLES, REFERENCE_ARM, Arm, LengthRun, paired

Verdict = Literal["supported", "contradicted", "cannot tell"]
FAR = 10
"""The context, in windows, at which the document compares."""
PLATEAU_NATS = 0.05
"""A run is on its plateau from the evaluation on whose XE is within this of its lowest."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One statement, the number that it rests on, and whether that bears it out."""

    name: str
    statement: str
    quantity: str
    estimate: Estimate
    is_above: bool
    """Whether the statement says that the number is above 0, or below."""

    @property
    def verdict(self) -> Verdict:
        """By the side of 0 on which the whole interval lies."""
        e = self.estimate
        low, high = (e.low, e.high) if self.is_above else (-e.high, -e.low)
        if not (math.isfinite(low) and math.isfinite(high)):
            return "cannot tell"
        return "supported" if low > 0 else "contradicted" if high < 0 else "cannot tell"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A small and a large window, trained alike, of one condition and arm."""

    condition: str
    arm: Arm
    small: list[LengthRun]
    large: list[LengthRun]

    @property
    def pairs(self) -> list[tuple[LengthRun, LengthRun]]:
        return paired(self.small, self.large)

    @property
    def windows(self) -> tuple[int, int]:
        return self.small[0].window, self.large[0].window

    def hypotheses(self) -> list[Finding]:
        """The document's four, in its order."""
        small, large = self.windows
        return [
            Finding(
                name="H1", statement=f"W = {large} has a lower PPL than W = {small}, each after W tokens",
                quantity=f"XE after W tokens, {large} - {small} (nats)", estimate=self._of(lambda run: run.after(1)),
                is_above=False,
            ),
            Finding(
                name="H2", statement=f"PPL at {FAR} W over PPL at W is lower for W = {large} than for W = {small}",
                quantity=f"ln of that ratio, {large} - {small}", is_above=False,
                estimate=self._of(lambda run: run.after(FAR) - run.after(1)),
            ),
            Finding(
                name="H3", statement=f"SW / TTT at {FAR} W is higher for W = {large} than for W = {small}: the "
                "advantage of the sliding window diminishes",
                quantity=f"ln of SW / TTT, {large} - {small}", is_above=True, estimate=self._of(advantage),
            ),
            Finding(
                name="H4", statement=f"a training step takes longer for W = {large} than for W = {small}",
                quantity=f"ln of the ratio of seconds a step, {large} to {small}", is_above=True,
                estimate=self._step_time(),
            ),
        ]  # fmt: skip

    def _of(self, number) -> Estimate:
        return mean_difference([number(large) - number(small) for small, large in self.pairs])

    def _step_time(self) -> Estimate:
        """Over seeds; nothing where the two were not timed on the same device."""
        ratios = [
            math.log(large.seconds_per_step / small.seconds_per_step)
            for small, large in self.pairs
            if devices(small) == devices(large) and small.speeds and large.speeds
        ]
        return mean_over_runs(np.array(ratios)) if ratios else Estimate.of(float("nan"), float("nan"), 0, 0)


def advantage(run: LengthRun, multiple: int = FAR) -> np.ndarray:
    """[B] ln SW / TTT on the last targets: loss from the window less loss after `multiple` W tokens carried. Above 0
    the carried state is better, below 0 the window: a ratio SW / TTT below 1 is a win of the window."""
    return run.from_window() - run.after(multiple)


def winner(ratio: Estimate) -> str:
    """In words, of ln SW / TTT."""
    if not (math.isfinite(ratio.low) and math.isfinite(ratio.high)) or ratio.low <= 0 <= ratio.high:
        return "cannot tell"
    return "the carried state is better" if ratio.low > 0 else "the window is better"


def devices(run: LengthRun) -> set[str]:
    """Those that the run's sessions were trained on."""
    return {session["device"] for session in sessions(run.found.result.run["provenance"])}


def comparisons(runs: Sequence[LengthRun]) -> list[Comparison]:
    """The smallest and the largest window of every condition and arm that has two of them, seed by seed."""
    found = []
    for condition, arm in dict.fromkeys((run.condition, run.arm) for run in runs):
        own = [run for run in runs if (run.condition, run.arm) == (condition, arm)]
        small, large = (pick(run.window for run in own) for pick in (min, max))
        comparison = Comparison(
            condition=condition,
            arm=arm,
            small=[run for run in own if run.window == small],
            large=[run for run in own if run.window == large],
        )
        if small < large and comparison.pairs:
            found.append(comparison)
    return found


def arm_findings(runs: Sequence[LengthRun]) -> list[tuple[LengthRun, Finding]]:
    """Each arm of one condition against the reference of its window and seeds: XE after 1 W and after 10 W tokens, less
    the reference's. One of the arm's runs stands for it."""
    found = []
    for window, arm in dict.fromkeys((run.window, run.arm) for run in runs if run.arm != REFERENCE_ARM):
        reference = [run for run in runs if (run.window, run.arm) == (window, REFERENCE_ARM)]
        own = [run for run in runs if (run.window, run.arm) == (window, arm)]
        pairs = paired(reference, own)
        for multiple in (1, FAR) if pairs else ():
            differences = [run.after(multiple) - other.after(multiple) for other, run in pairs]
            finding = Finding(
                name=arm_name(arm), statement=f"it loses more than the reference after {multiple} W tokens",
                quantity=f"XE after {multiple} W", estimate=mean_difference(differences), is_above=True,
            )  # fmt: skip
            found.append((own[0], finding))
    return found


def arm_name(arm: Arm) -> str:
    """An arm by what differs from the reference."""
    mixer, inner, state = arm
    words = {"full": "full attention", "sliding": "sliding-window attention", "ttt": "TTT"}[mixer]
    if mixer == "ttt":
        words += f", inner {inner}" if inner != REFERENCE_ARM[1] else ""
        words += f", state {state}" if state != REFERENCE_ARM[2] else ""
    return "TTT (reference)" if arm == REFERENCE_ARM else words


@dataclass(frozen=True, kw_only=True)
class Crossover:
    """Where along a sequence the window becomes better than carried state for good, in windows."""

    window: int
    value: float
    """NaN: nowhere within 20 W."""
    low: float
    high: float
    share: float
    """Of the resamples that cross at all."""


def crossover(runs: Sequence[LengthRun]) -> Crossover:
    """Of runs of one window, over seeds and sequences."""
    first, unit = runs[0].window // runs[0].chunk, runs[0].chunk / runs[0].window
    differences_SBX = np.stack([run.chunks("window") - run.chunks("carried") for run in runs])
    value = crossing(differences_SBX.mean(axis=(0, 1)), first, first)
    draws = resampled(differences_SBX, lambda curve_X: crossing(curve_X, first, first))
    crossed = draws[np.isfinite(draws)]
    low, high = np.percentile(crossed, [2.5, 97.5]) if len(crossed) else (np.nan, np.nan)
    return Crossover(
        window=runs[0].window, value=unit * value, low=unit * float(low), high=unit * float(high),
        share=len(crossed) / len(draws),
    )  # fmt: skip


def window_correlation(runs: Sequence[LengthRun]) -> tuple[float, float, float]:
    """Pearson's r over runs of log2 W with ln PPL(10 W) / PPL(W), and its 95 % interval."""
    gained = [float((run.after(FAR) - run.after(1)).mean()) for run in runs]
    return correlation([math.log2(run.window) for run in runs], gained)


def plateau_step(run: LengthRun) -> int:
    """The first evaluated step whose XE after W tokens is within PLATEAU_NATS of the run's lowest."""
    limit = run.best["xe"] + PLATEAU_NATS
    return next(summary["step"] for summary in run.summaries if summary["xe"] <= limit)


def effrem(runs: Sequence[LengthRun]) -> dict[int, float]:
    """EffRem after each multiple of W, the mean over seeds and sequences."""
    return {k: float(np.mean([run.after(k, field="effrem").mean() for run in runs])) for k in MULTIPLES}
