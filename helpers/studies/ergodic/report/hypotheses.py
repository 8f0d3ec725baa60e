"""What the study's documents expect, and what the runs of one condition say of it: one function a hypothesis.

A verdict is of one condition, rests on an interval, and has three values: supported, contradicted, cannot tell. The
documents are 000 (the experiment plan) and 001 (its research questions).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from helpers.analysis.estimates import mean_over_runs
from helpers.studies.ergodic.condition import Condition
from helpers.studies.ergodic.contrasts import with_k1
from helpers.studies.ergodic.matched import matched_by_run
from helpers.studies.ergodic.results import TOTAL_TOKENS, Results
from helpers.studies.ergodic.roles import GRID

SUPPORTED, CONTRADICTED, CANNOT_TELL = "supported", "contradicted", "cannot tell"
EXCESS_SHARE = 0.1
"""Of the bound ln K / T: an excess over the exact value that is known to be smaller counts as none."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    hypothesis: str
    document: str
    """Which document asks, and where."""
    verdict: Literal["supported", "contradicted", "cannot tell"]
    because: str
    """The number with its interval, or what there is not."""


Hypothesis = Callable[[Results, Condition], Verdict]


def verdicts(results: Results, own: Condition) -> list[Verdict]:
    """Every hypothesis, judged from the runs of one condition."""
    return [judge(results, own) for judge in HYPOTHESES]


def rise(results: Results, own: Condition) -> Verdict:
    named = {"hypothesis": "XE rises with K at constant training tokens", "document": "000, section 0; 001, question 1"}
    constant = results.held_constant(own.name)
    if constant != TOTAL_TOKENS:
        return Verdict(**named, verdict=CANNOT_TELL, because=f"these runs hold the {constant} constant, not their sum")
    return _by_sign(own, **named, sign=1)


def diversity(results: Results, own: Condition) -> Verdict:
    return _by_sign(own, "Text of more domains makes a model better on each of them", "001, question 3", -1)


def within_bound(results: Results, own: Condition) -> Verdict:
    named = {"hypothesis": "The rise stays within ln K / T, an ideal learner's most", "document": "000, section 0"}
    row = largest_k(own)
    if row is None or not np.isfinite(row["low"]):
        return Verdict(**named, verdict=CANNOT_TELL, because=_no_interval(row))
    because = f"{_at(row)}; the bound is {row['bound']:.4f}"
    return Verdict(**named, verdict=judged(row["high"] <= row["bound"], row["low"] > row["bound"]), because=because)


def known_answer(results: Results, own: Condition) -> Verdict:
    """Whether the excess over the exact value is within a tenth of the bound, at every K."""
    named = {"hypothesis": "The rise is the exact one of an ideal learner", "document": "000, section 0"}
    rows = own.findings.by_k
    if rows.empty:
        return Verdict(**named, verdict=CANNOT_TELL, because=_no_interval(None))
    if rows["bayes_dxe"].isna().all():
        return Verdict(**named, verdict=CANNOT_TELL, because="the law of this text is not known, so no value is exact")
    can = rows[np.isfinite(rows["excess_low"].astype(float))]
    if can.empty:
        return Verdict(**named, verdict=CANNOT_TELL, because="one run at each K has no interval")
    margin = EXCESS_SHARE * can["bound"]
    within = (can["excess_low"] >= -margin) & (can["excess_high"] <= margin)
    beyond = (can["excess_low"] > margin) | (can["excess_high"] < -margin)
    named_first = can[beyond] if beyond.any() else can
    worst = named_first.loc[(named_first["excess"].abs() / named_first["bound"]).idxmax()]
    because = (
        f"the largest excess, at K = {worst['k']:.0f}, is {worst['excess']:+.4f} ({span(worst, 'excess_')}), where the "
        f"margin is a tenth of the bound, {EXCESS_SHARE * worst['bound']:.4f}"
    )
    return Verdict(**named, verdict=judged(bool(within.all()), bool(beyond.any())), because=because)


def shuffle(results: Results, own: Condition) -> Verdict:
    named = {"hypothesis": "Shuffled labels leave XE where it was", "document": "000, section 6"}
    control = own.findings.control
    if control is None:
        why = own.findings.reasons.get("control", "the control was not run")
        return Verdict(**named, verdict=CANNOT_TELL, because=why)
    beyond = control.low > control.margin or control.high < -control.margin
    because = (
        f"at K = {max(own.findings.controls)} they change it by {control.value:+.4f} (90 % interval "
        f"{control.low:+.4f} to {control.high:+.4f}), where the margin is {control.margin:.4f}"
    )
    return Verdict(**named, verdict=judged(control.is_equivalent, beyond), because=because)


def size(results: Results, own: Condition) -> Verdict:
    """Whether the largest and the smallest model pay alike at the largest K that both have, paired by seed."""
    named = {"hypothesis": "What K costs depends on the model's size", "document": "001, question 2"}
    alike = results.alike_but_for(own.name, "model.size")
    if len(alike) < 2:
        return Verdict(**named, verdict=CANNOT_TELL, because="these runs have one model size")
    params = results.runs.groupby("condition")["params_non_embedding"].first()
    small, large = (chosen(alike, key=params.get) for chosen in (min, max))
    by_seed = {name: _dxe_by_seed(results, name) for name in (small, large)}
    both = (by_seed[large] - by_seed[small]).dropna()
    if both.empty:
        return Verdict(**named, verdict=CANNOT_TELL, because="no seed and K is matched at two sizes")
    k = max(both.index.get_level_values("k"))
    difference = mean_over_runs(both.xs(k, level="k").to_numpy())
    if not np.isfinite(difference.low):
        return Verdict(**named, verdict=CANNOT_TELL, because=f"one seed at K = {k} has no interval")
    apart = difference.low > 0 or difference.high < 0
    because = (
        f"at K = {k} the largest model pays {difference.value:+.4f} more than the smallest (95 % interval "
        f"{difference.low:+.4f} to {difference.high:+.4f}, {difference.num_runs} seeds)"
    )
    return Verdict(**named, verdict=judged(apart, False), because=because)


HYPOTHESES: tuple[Hypothesis, ...] = (rise, within_bound, known_answer, shuffle, size, diversity)


def largest_k(own: Condition) -> dict[str, Any] | None:
    """The row of matched dXE at the largest K that has one."""
    rows = own.findings.by_k
    return None if rows.empty else rows.loc[rows["k"].idxmax()].to_dict()


def judged(supported: bool, contradicted: bool) -> Literal["supported", "contradicted", "cannot tell"]:
    if supported:
        return SUPPORTED
    return CONTRADICTED if contradicted else CANNOT_TELL


def span(row: dict[str, Any], prefix: str = "") -> str:
    """An interval in words."""
    return f"95 % interval {row[f'{prefix}low']:+.4f} to {row[f'{prefix}high']:+.4f}"


def _by_sign(own: Condition, hypothesis: str, document: str, sign: int) -> Verdict:
    """Whether the slope on log2 K, the study's one primary test, has a sign for certain."""
    named, slope = {"hypothesis": hypothesis, "document": document}, own.findings.slope
    if slope is None:
        why = own.findings.reasons.get("slope", "the runs do not suffice")
        return Verdict(**named, verdict=CANNOT_TELL, because=f"there is no slope over K: {why}")
    above, below = slope.low > 0, slope.high < 0
    because = (
        f"a doubling of K changes XE on the same components by {slope.value:+.4f} (95 % interval {slope.low:+.4f} to "
        f"{slope.high:+.4f})"
    )
    return Verdict(**named, verdict=judged(above if sign > 0 else below, below if sign > 0 else above), because=because)


def _at(row: dict[str, Any]) -> str:
    return f"matched ΔXE at K = {row['k']:.0f} is {row['dxe']:+.4f} ({span(row)})"


def _no_interval(row: dict[str, Any] | None) -> str:
    if row is None:
        return "no run with K above 1 has a run on each of its components alone at the same seed"
    return f"one run at K = {row['k']:.0f} has no interval"


def _dxe_by_seed(results: Results, condition: str) -> Any:
    runs = matched_by_run(with_k1(results, condition, GRID))
    return runs[runs["k"] > 1].groupby(["k", "seed"])["dxe"].mean()
