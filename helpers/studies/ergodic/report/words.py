"""Numbers -> sentences that say what an interval allows, and not more.

"Evidence of" is an interval that leaves zero out; "no evidence of" is not evidence of none, which is what an
equivalence test is for; a single run has no interval and is evidence of nothing.
"""

import numpy as np
import pandas as pd

from helpers.analysis.estimates import Equivalence, Estimate
from helpers.studies.ergodic.findings import Findings
from helpers.studies.ergodic.slope import Tested


def matched_sentence(row: dict[str, float]) -> str:
    """One row of `Findings.by_k` in words: effect, interval, runs, and where it lies against zero and the bound."""
    k, count = int(row["k"]), runs(int(row["num_runs"]))
    start = f"K = {k}: matched ΔXE is {row['dxe']:+.4f} nats per token"
    if not np.isfinite(row["low"]):
        return f"{start} ({count}, so there is no interval and no statement about evidence)."
    span = f"95 % interval {row['low']:+.4f} to {row['high']:+.4f}, {count}"
    return f"{start} ({span}): {_called(row)}. {_against_bound(row)}"


def _called(row: dict[str, float]) -> str:
    """What an effect is called: nothing, inside the noise of seeds, whatever its own few runs say."""
    if abs(row["dxe"]) <= row.get("noise", 0.0):
        return f"inside the noise of seeds, ±{row['noise']:.4f}, and so called no difference"
    return direction(row["low"], row["high"])


def direction(low: float, high: float) -> str:
    """What an interval says of a difference's sign."""
    if low > 0:
        return "evidence of a rise"
    if high < 0:
        return "evidence of a fall"
    return "no evidence of a rise or a fall"


def slope_sentence(estimate: Estimate) -> str:
    """The slope in words."""
    verdict = direction(estimate.low, estimate.high).replace("a rise or a fall", "a trend with K")
    return (
        f"XE changes by {estimate.value:+.4f} nats per token a doubling of K, with components as random effects (95 % "
        f"interval {estimate.low:+.4f} to {estimate.high:+.4f}, p {p_value(estimate.p_value)}, "
        f"{runs(estimate.num_runs)} with {estimate.degrees_of_freedom:.0f} degrees of freedom): {verdict}."
    )


def tested_sentence(label: str, tested: Tested) -> str:
    """A permutation test in words; a p that could not have been lower says so, for it may hide any effect."""
    if not tested.is_at_floor:
        return f"{label}: p {p_value(tested.p_value)}."
    return f"{label}: p {p_value(tested.p_value)}, at its floor: these runs allow no lower one, whatever the effect."


def control_sentence(k: int, control: Equivalence) -> str:
    """The shuffle control's equivalence test at one K in words."""
    span = (
        f"K = {k}: shuffled labels change XE by {control.value:+.4f} nats per token (90 % interval "
        f"{control.low:+.4f} to {control.high:+.4f}, {control.num_runs} seeds)"
    )
    if control.is_equivalent:
        return (
            f"{span}: equivalent to zero within the margin of ±{control.margin:.4f}, which is ln {k} / T "
            f"(two one-sided tests, p {p_value(control.p_value)})."
        )
    return (
        f"{span}: equivalence to zero within the margin of ±{control.margin:.4f}, which is ln {k} / T, is not shown "
        f"(two one-sided tests, p {p_value(control.p_value)}). Part of ΔXE may then come from the amount of text, "
        "not from the components."
    )


def known_answer_sentences(by_k: pd.DataFrame) -> list[str]:
    """Whether the intervals contain the exact values, and what the models lose beyond an ideal learner."""
    known = by_k[by_k["bayes_dxe"].notna()]
    if by_k.empty:
        return ["Known answer. No run is matched, so there is no difference to compare with an exact one."]
    if known.empty:
        return ["Known answer. The law of these papers is not known, so no ΔXE is exact."]
    can = known[np.isfinite(known["low"].astype(float))]
    if can.empty:
        return ["Known answer. No K has both an exact value and an interval, so the known answer cannot be checked."]
    inside = (can["low"] <= can["bayes_dxe"]) & (can["bayes_dxe"] <= can["high"])
    text = (
        f"Known answer. The 95 % interval of matched ΔXE contains the exact value at {inside.sum()} of {len(can)} "
        "values of K. An excess over it, on the same windows, is what training has not reached: a remainder, and not "
        "noise."
    )
    return [text, *map(_known_answer_of_k, can.to_dict("records"))]


def _known_answer_of_k(row: dict[str, float]) -> str:
    inside = row["low"] <= row["bayes_dxe"] <= row["high"]
    return (
        f"K = {int(row['k'])}: the exact ΔXE, {row['bayes_dxe']:+.4f}, lies {'inside' if inside else 'outside'} the "
        f"interval {row['low']:+.4f} to {row['high']:+.4f}; the models lose {row['excess']:+.4f} nats per token beyond "
        f"it (95 % interval {row['excess_low']:+.4f} to {row['excess_high']:+.4f}, {runs(int(row['num_runs']))}): "
        f"{_excess(row['excess_low'], row['excess_high'])}."
    )


def _excess(low: float, high: float) -> str:
    if low > 0:
        return "more than an ideal learner would"
    if high < 0:
        return "less than an ideal learner would, for the models of one component are further from theirs"
    return "no difference from an ideal learner is seen"


def plain_sentence(table_1: pd.DataFrame) -> str:
    """Plain dXE of each K above 1, from the rows of Table 1."""
    rows = table_1[(table_1["k"] > 1) & table_1["dxe"].notna()].to_dict("records")
    if not rows:
        return "Plain ΔXE: no seed has a run at K = 1 and one at another K."
    values = (f"{row['dxe']:+.4f} at K = {row['k']} ({row['num_pairs']} seeds)" for row in rows)
    return f"Plain ΔXE: {', '.join(values)}."


def plain_beside_matched(findings: Findings) -> str:
    """One sentence on why plain and matched dXE differ."""
    whole = findings.matched[findings.matched["k"] > 1]
    return (
        "Plain ΔXE is XE(K) - XE(1) of runs on different components, so it also holds how much harder the further "
        "components are; matched ΔXE compares each component with a model of it alone at the same seed, on the same "
        f"windows ({whole['dxe'].notna().sum()} of {runs(len(whole))} with K above 1 have all of their components "
        "matched)."
    )


def runs(count: int) -> str:
    return f"{count} run" if count == 1 else f"{count} runs"


def p_value(p: float) -> str:
    """What comes after "p"."""
    return f"= {p:.4f}" if p >= 0.0001 else "< 0.0001"


def _against_bound(row: dict[str, float]) -> str:
    bound = f"the bound for an ideal learner, {row['bound']:.4f}"
    if row["low"] > row["bound"]:
        return f"The interval lies above {bound}: what exceeds it is not the cost of telling components apart."
    if row["high"] < row["bound"]:
        return f"The interval lies below {bound}."
    return f"The interval contains {bound}."
