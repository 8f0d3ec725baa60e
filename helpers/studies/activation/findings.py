"""What one condition's runs say: laws with intervals, whether exponents differ, compute multiplier, held-out errors.

Every number comes with its interval and the number of runs that it rests on; what the runs cannot tell is missing, with
the reason.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from helpers.analysis.estimates import Estimate
from helpers.analysis.fits.arms import ArmFindings, compare_arms
from helpers.analysis.fits.compare import Form, compare_forms
from helpers.analysis.fits.detectable import smallest_detectable_difference
from helpers.analysis.fits.fit import fit
from helpers.analysis.fits.holdout import HeldOut, hold_out
from helpers.analysis.fits.laws import LAWS
from helpers.analysis.fits.objective import LEAST_SQUARES
from helpers.storage import Storage
from helpers.studies.activation.predictions import Prediction, identified_laws, read_predictions
from helpers.studies.activation.runs import CONVENTIONS, points_of

RELATIVE_MARGIN = 0.05
"""Exponents that differ by less than this share of GeLU's count as equal (seed document 004's own limit)."""


@dataclass(frozen=True, kw_only=True)
class ActivationFindings:
    """The findings of one condition."""

    condition: str
    anchors: pd.DataFrame
    held_out: pd.DataFrame
    """Runs that a prediction in the storage names as held out."""
    laws: dict[str, ArmFindings]
    """By name, the law of lowest AICc first; fitted to the anchors."""
    forms: list[Form]
    sensitivity: pd.DataFrame
    """Exponents of the first law under each way to count compute."""
    detectable: float
    """The difference of exponents that these anchors find with 80 % power, by the first law; NaN without one."""
    predictions: pd.DataFrame
    """One row a held-out run and law: what was predicted, what came, and whether the prediction counts."""
    baselines: list[HeldOut]
    """The same runs with what plainer rules predict; fitted now, and so no prediction."""
    reasons: dict[str, str]
    """Why something is missing."""


def find(runs: pd.DataFrame, condition: str, storage: Storage) -> ActivationFindings:
    """The findings on the `run_table` rows of one condition. A run that a prediction names as held out is never
    fitted."""
    runs = runs[runs["condition"] == condition].reset_index(drop=True)
    predictions, faults = read_predictions(storage)
    named = {run_id for prediction in predictions for run_id in prediction.losses["run_id"]}
    is_held_out = runs["run_id"].isin(named)
    anchors, held_out = runs[~is_held_out], runs[is_held_out]
    reasons = {"predictions": "; ".join(faults)} if faults else {}
    points = points_of(anchors) if anchors["activation"].nunique() == 2 else None
    if points is None:
        reasons["laws"] = "both activations are needed"
    identified, lacking = identified_laws(points) if points is not None else ([], {})
    reasons |= lacking
    laws = {}
    for law in identified:
        try:
            margin = RELATIVE_MARGIN * fit(points, law, LEAST_SQUARES).params["b[gelu]"]
            laws[law.name] = compare_arms(points, LAWS[law.name], margin)
        except ValueError as error:
            reasons[law.name] = str(error)
    return ActivationFindings(
        condition=condition,
        anchors=anchors,
        held_out=held_out,
        laws=laws,
        forms=compare_forms(points, identified) if identified else [],
        sensitivity=_sensitivity(anchors, identified[0].name) if identified else pd.DataFrame(),
        detectable=_detectable(anchors, identified[0].name) if identified else float("nan"),
        predictions=_outcomes(predictions, anchors, held_out, storage),
        baselines=hold_out(points, points_of(held_out), identified[0]) if identified and len(held_out) else [],
        reasons=reasons,
    )


def verdict(findings: ActivationFindings) -> str:
    """Whether the exponent moved, in words that follow from the interval of the difference and nothing else."""
    if not findings.laws:
        return f"Nothing can be said: {findings.reasons}."
    name, found = next(iter(findings.laws.items()))
    (comparison,) = found.comparisons
    d, margin = comparison.difference, comparison.equivalence.margin
    numbers = f"SwiGLU's exponent less GeLU's is {d.value:+.4f} (95 % from {d.low:+.4f} to {d.high:+.4f}, {name} law)"
    ends = ", ".join(
        f"{m.value:.2f} (95 % from {m.low:.2f} to {m.high:.2f}) at {compute:.1e} FLOPs"
        for compute, m in comparison.multipliers
    )
    worth = f"In compute, SwiGLU is worth a factor of {ends}: GeLU would need so many times as much for the same loss."
    worth += _other_laws(findings)
    words = f"{100 * RELATIVE_MARGIN:g} % of GeLU's ({margin:.4f})"
    if d.low > 0 or d.high < 0:
        return f"The exponent differs: {numbers}. {worth}"
    if comparison.equivalence.is_equivalent:
        return f"The exponents are equal within {words}: {numbers}. Only the constant can differ. {worth}"
    return (
        f"These runs cannot tell whether the exponent or only the constant differs: {numbers}, which holds both 0 and "
        f"differences beyond {words}. A difference of {findings.detectable:.3f} would have been found with 80 % "
        f"power. {worth}"
    )


def _other_laws(findings: ActivationFindings) -> str:
    """What the verdict would have rested on by the laws that the anchors support less."""
    differences = {name: found.comparisons[0].difference for name, found in list(findings.laws.items())[1:]}
    above = {form.law: form.delta for form in findings.forms}
    return "".join(
        f" By the {name} law, whose AICc is {above[name]:.1f} higher, the difference of exponents is {d.value:+.4f} "
        f"(95 % from {d.low:+.4f} to {d.high:+.4f})."
        for name, d in differences.items()
    )


def _sensitivity(anchors: pd.DataFrame, law: str) -> pd.DataFrame:
    """The law's exponent of each arm, from a least-squares fit under each way to count compute."""
    rows = []
    for convention, words in CONVENTIONS.items():
        points = points_of(anchors, convention)
        fitted = fit(points, LAWS[law].across(points.arm_names), LEAST_SQUARES).params
        exponents = {arm: fitted[f"b[{arm}]"] for arm in points.arm_names}
        rows.append({"convention": words, **exponents, "difference": exponents["swiglu"] - exponents["gelu"]})
    return pd.DataFrame(rows)


def _detectable(anchors: pd.DataFrame, law: str) -> float:
    """From the spread of matched differences between seeds: what both runs of a pair share does not blur them."""
    log_xe = np.log(anchors.pivot_table(index=["size", "seed"], columns="activation", values="xe")).dropna()
    differences = log_xe["swiglu"] - log_xe["gelu"]
    within = differences.groupby("size").var().dropna()
    if within.empty:
        return float("nan")
    points = points_of(anchors[anchors["activation"] == "gelu"])
    theta = fit(points, LAWS[law].across(points.arm_names), LEAST_SQUARES).theta
    deviation = math.sqrt(within.mean() / 2)
    return smallest_detectable_difference(points.scales[:, 0], LAWS[law], theta, deviation)


def _outcomes(
    predictions: list[Prediction], anchors: pd.DataFrame, held_out: pd.DataFrame, storage: Storage
) -> pd.DataFrame:
    """Each held-out run beside what the first prediction that names it said."""
    rows = []
    for _, run in held_out.iterrows():
        prediction = next(p for p in predictions if (p.losses["run_id"] == run["run_id"]).any())
        fault = prediction.fault(run, storage)
        for loss in prediction.losses[prediction.losses["run_id"] == run["run_id"]].itertuples():
            held = _held_out(run, loss, anchors)
            rows.append(
                {
                    "size": run["size"], "activation": run["activation"], "seed": run["seed"], "law": loss.law,
                    "is_primary": loss.law == prediction.primary, "flops": loss.flops, "predicted": loss.xe,
                    "low": loss.low, "high": loss.high, "xe": run["xe"], "error": held.error,
                    "relative_error": held.relative_error, "ppl_error": held.perplexity_error,
                    "error_in_seeds": held.error_in_seeds, "distance": held.distance, "is_covered": held.is_covered,
                    "written": prediction.written, "started": run["started"], "refused": fault or "",
                }
            )  # fmt: skip
    columns = [
        "size", "activation", "seed", "law", "is_primary", "flops", "predicted", "low", "high", "xe", "error",
        "relative_error", "ppl_error", "error_in_seeds", "distance", "is_covered", "written", "started", "refused",
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def _held_out(run: pd.Series, loss: Any, anchors: pd.DataFrame) -> HeldOut:
    """A held-out run beside what was written of it."""
    fitted = anchors[anchors["activation"] == run["activation"]]
    nan = float("nan")
    prediction = Estimate(
        value=loss.xe, low=loss.low, high=loss.high, standard_error=nan, degrees_of_freedom=nan, p_value=nan,
        num_runs=len(anchors),
    )  # fmt: skip
    return HeldOut(
        arm=run["activation"],
        scales=(float(loss.flops),),
        loss=float(run["xe"]),
        prediction=prediction,
        distance=math.log(loss.flops / fitted["flops_non_embedding"].max()) if len(fitted) else nan,
        seed_deviation=points_of(anchors).seed_deviation if len(anchors) else nan,
        baselines={},
    )
