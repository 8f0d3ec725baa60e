"""All that is said of a fitted table, as plain values for JSON: what `python -m helpers fit` prints.

One estimator answers, whatever the size of the table (`answer`), and what its intervals are made of depends on the
runs: the report says both, and why. The estimators that did not answer stand beside it.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from helpers.analysis.estimates import CONFIDENCE, Equivalence, Estimate
from helpers.analysis.fits.allocation import FLOPS, Allocation, allocate, compute_exponent
from helpers.analysis.fits.answer import answer
from helpers.analysis.fits.arms import EXPONENT_MARGIN, ArmComparison, ArmFindings, compare_arms
from helpers.analysis.fits.compare import NestedTest, compare_forms
from helpers.analysis.fits.diagnosis import checkpoint_words, far_rows, far_words, parameter
from helpers.analysis.fits.fit import Fit, fit
from helpers.analysis.fits.holdout import HeldOut, predict_held_out
from helpers.analysis.fits.intervals import MANY_CLUSTERS, NUM_DRAWS, Draws
from helpers.analysis.fits.laws import OFFSET_POWER_LAW, POWER_LAW, Law
from helpers.analysis.fits.leverage import Leverage
from helpers.analysis.fits.objective import HUBER, LEAST_SQUARES
from helpers.analysis.fits.points import Points
from helpers.analysis.fits.regression import Regression

_MISFIT_P = 0.05
_WHY = {
    "regression": "a straight line of logs with no row far out: least squares, whose Student's t intervals are exact"
    " for normal noise between runs",
    "noise": f"fewer than {MANY_CLUSTERS} configurations: noise of the residuals' size is drawn anew while the design"
    " stays, and each draw fitted as the table was (t ends)",
    "wild": f"fewer than {MANY_CLUSTERS} clusters that are named, or hold several arms: residuals are resampled by"
    " cluster while the design stays (wild cluster bootstrap, t ends)",
    "pairs": f"{MANY_CLUSTERS} clusters or more: clusters of runs are drawn again with replacement (percentile ends)",
}
_EXAMPLES = {"x": "1e7", "N,D": "7e10,1.4e12", "N,D,x": "7e10,1.4e12,256"}


def report_fit(points: Points, law: Law, **asked: Any) -> dict[str, Any]:
    """The report of `report_and_answer`."""
    return report_and_answer(points, law, **asked)[0]


def report_and_answer(
    points: Points,
    law: Law,
    *,
    ahead: Sequence[Sequence[float]] = (),
    budgets: Sequence[float] = (),
    held: Points | None = None,
    delta: float | None = None,
    margin: float = EXPONENT_MARGIN,
    num_draws: int = NUM_DRAWS,
    seed: int = 0,
    notes: Sequence[str] = (),
) -> tuple[dict[str, Any], Regression | Draws]:
    """Fit `law` to `points`, predict the loss of one run at each scale of `ahead`, and judge the prediction of `held`;
    numbers that are not finite are None. Points of several arms are fitted together and compared. `notes` go before the
    warnings."""
    if budgets and not _splits(law):
        raise ValueError(f"compute = {budgets[0]:g} asks for the best N and D, of which law = {law.name!r} knows none")
    if points.arm_names != ("",):
        findings = compare_arms(points, law, margin, num_draws, seed, delta)
        answered, more = findings.draws, {"arms": _arms(findings)}
    else:
        answered = answer(points, law, num_draws, seed, delta)
        more = _forms(points, law)
    if isinstance(answered, Regression):
        report = _of_line(answered, ahead, notes)
    else:
        report = _of_draws(answered, ahead, notes) | _allocation(answered, budgets)
    if held is not None:
        more |= {"holdout": _holdout(predict_held_out(answered, points, held))}
    return plain(report | more), answered


def parse_scales(texts: Sequence[str], law: Law) -> list[list[float]]:
    """The scales of `--predict`: one number each, or N,D for a law of two; ValueError for anything else."""
    parsed = []
    for text in texts:
        try:
            scales = [float(part) for part in text.split(",")]
        except ValueError:
            scales = []
        if len(scales) != len(law.terms) or not all(0 < scale < np.inf for scale in scales):
            form = ",".join(term.scale for term in law.terms)
            raise ValueError(f"predict = {text!r} is not of the form {form}, positive numbers; use {_EXAMPLES[form]}")
        parsed.append(scales)
    return parsed


def _of_line(line: Regression, ahead: Sequence[Sequence[float]], notes: Sequence[str]) -> dict[str, Any]:
    """A power law by regression, Huber's fits beside it."""
    points, least = line.points, fit(line.points, POWER_LAW, LEAST_SQUARES)
    estimates = line.predict(np.array([scale for (scale,) in ahead]))
    misfit = line.lack_of_fit()
    warnings = [*notes, *least.warnings]
    if misfit is not None and misfit < _MISFIT_P:
        warnings.append(
            f"runs scatter about the line more than seeds do (lack of fit, p = {misfit:.2g}): these intervals are too"
            " narrow; try law = offset, or name the column of configurations as cluster"
        )
    return _head(least, "regression") | {
        "parameters": {name: _interval(estimate) for name, estimate in line.parameters().items()},
        "interval": {"level": CONFIDENCE, "method": "regression", "degrees_of_freedom": line.degrees_of_freedom},
        "regression": _regression(line, misfit),
        "beside": _beside(points, POWER_LAW, LEAST_SQUARES),
        "predictions": _predictions(estimates, ahead, POWER_LAW, ("",)),
        "far_out": far_rows(least),
        "warnings": warnings,
    }  # fmt: skip


def _of_draws(draws: Draws, ahead: Sequence[Sequence[float]], notes: Sequence[str]) -> dict[str, Any]:
    """A law by its draws, for one arm or several; the other estimators beside it."""
    fitted, law = draws.fit, draws.fit.law
    correlations = draws.correlations()
    grid = [(scale, arm) for arm in law.arms for scale in ahead]
    estimates = draws.predict([scale for scale, _ in grid], [arm for _, arm in grid]) if grid else []
    return _head(fitted, draws.method) | {
        "parameters": {
            name: parameter(draws, name, _interval(estimate)) for name, estimate in draws.parameters().items()
        },
        "interval": {
            "level": CONFIDENCE, "method": draws.method, "num_draws": len(draws.theta),
            "num_clusters": fitted.points.num_clusters,
            "degrees_of_freedom": None if isinstance(draws.freedom, Leverage) else draws.freedom,
        },
        "correlations_of_logs": {
            name: dict(zip(law.names, row, strict=True)) for name, row in zip(law.names, correlations, strict=True)
        },
        "beside": _beside(fitted.points, law, fitted.delta),
        "predictions": _predictions(estimates, ahead, law, law.arms),
        "far_out": far_rows(fitted),
        "warnings": [*notes, *far_words(fitted), *checkpoint_words(fitted), *draws.warnings],
    }  # fmt: skip


def _allocation(draws: Draws, budgets: Sequence[float]) -> dict[str, Any]:
    """The best split of budgets, for a law of N and D with both exponents; each arm has its own."""
    law = draws.fit.law
    if not _splits(law):
        return {}
    largest = float(FLOPS * draws.fit.points.scales.prod(axis=1).max())
    rows = []
    for arm in law.arms:
        exponent = compute_exponent(draws, arm)
        splits = [allocate(draws, flops, arm) for flops in budgets or (largest, 10 * largest)]
        own = {"a": _interval(exponent), "budgets": [_split(split) for split in splits]}
        rows.append(({"arm": arm} if arm else {}) | own)
    return {"allocation": rows if law.arms != ("",) else rows[0]}


def _splits(law: Law) -> bool:
    return [term.scale for term in law.terms] == ["N", "D"]


def _split(split: Allocation) -> dict[str, Any]:
    names = {"N": "num_params", "D": "num_tokens", "tokens_per_param": "tokens_per_param", "loss": "loss"}
    return {"flops": split.flops} | {name: _ends(getattr(split, field)) for name, field in names.items()}


def _holdout(rows: Sequence[HeldOut]) -> dict[str, Any]:
    """What was predicted of each held-out run, and the mean size of the error by each rule."""
    names = ("error", "relative_error", "perplexity_error", "error_in_seeds", "distance", "is_covered")
    runs = [
        ({"arm": row.arm} if row.arm else {})
        | {"scales": list(row.scales), "loss": row.loss, "prediction": _ends(row.prediction)}
        | {name: getattr(row, name) for name in names}
        | {"baselines": row.baselines}
        for row in rows
    ]
    rules = {"law": [row.error for row in rows]}
    for name in rows[0].baselines:
        rules[name] = [row.baselines[name] - row.loss for row in rows]
    return {
        "num_held_out": len(rows),
        "num_covered": sum(row.is_covered for row in rows),
        "mean_size_of_error": {name: float(np.mean(np.abs(errors))) for name, errors in rules.items()},
        "runs": runs,
    }


def _head(fitted: Fit, method: str) -> dict[str, Any]:
    points = fitted.points
    return {
        "law": fitted.law.name,
        "equation": fitted.law.equation,
        "num_points": fitted.num_points,
        "num_configurations": int(points.configurations.max()) + 1,
        "estimator": fitted.estimator,
        "delta": fitted.delta,
        "why": _WHY[method],
        "objective": fitted.objective,
        "num_starts": fitted.num_starts,
        "num_agreeing": fitted.num_agreeing,
        "residual_deviation": fitted.deviation,
        "noise_deviation": fitted.scale,
        "seed_deviation": points.seed_deviation,
    }


def _beside(points: Points, law: Law, delta: float) -> dict[str, Any]:
    """The estimators that did not answer: Huber's with the delta of Hoffmann et al., and least squares."""
    others = {"hoffmann": HUBER, "least_squares": LEAST_SQUARES}
    names = ("estimator", "params", "objective", "num_starts", "num_agreeing", "warnings")
    return {
        key: {"parameters" if name == "params" else name: getattr(fitted, name) for name in names}
        for key, fitted in ((key, fit(points, law, other)) for key, other in others.items() if other != delta)
    }


def _regression(line: Regression, lack_of_fit: float | None) -> dict[str, Any]:
    names = ("slope", "intercept", "r_squared", "p_value", "standard_error", "intercept_standard_error")
    return {name: getattr(line, name) for name in names} | {"lack_of_fit_p_value": lack_of_fit}


def _forms(points: Points, law: Law) -> dict[str, Any]:
    """The power law against the offset law, where the points can tell both."""
    if len(law.terms) != 1:
        return {}
    try:
        return {"forms": [dataclasses.asdict(form) for form in compare_forms(points, (POWER_LAW, OFFSET_POWER_LAW))]}
    except ValueError as error:
        return {"forms": None, "forms_not_compared": str(error)}


def _predictions(
    estimates: Sequence[Estimate], ahead: Sequence[Sequence[float]], law: Law, arms: Sequence[str]
) -> list[dict[str, Any]]:
    """One row an arm and scale, in that order."""
    scales = [(arm, scale) for arm in arms for scale in ahead]
    names = [term.scale for term in law.terms]
    return [
        ({"arm": arm} if arm else {}) | dict(zip(names, scale, strict=True)) | _interval(estimate)
        for (arm, scale), estimate in zip(scales, estimates, strict=True)
    ]


def _arms(findings: ArmFindings) -> dict[str, Any]:
    return {
        "exponent_test": _test(findings.exponent_test),
        "offset_test": _test(findings.offset_test) if findings.offset_test else None,
        "comparisons": [_comparison(comparison) for comparison in findings.comparisons],
    }


def _test(test: NestedTest) -> dict[str, Any]:
    names = ("statistic", "num_extra", "degrees_of_freedom", "p_value", "bootstrap_p_value")
    return {name: getattr(test, name) for name in names}


def _comparison(comparison: ArmComparison) -> dict[str, Any]:
    """Of a law with one exponent under its old names; of one with several, each exponent by its own."""
    exponents = {
        name: {"exponent_difference": _interval(difference), "equivalence": _equivalence(comparison.equivalences[name])}
        for name, difference in comparison.differences.items()
    }
    own = {"reference": comparison.reference, "arm": comparison.arm}
    if len(exponents) > 1:
        return own | {"exponents": exponents}
    return own | next(iter(exponents.values())) | {
        "compute_multipliers": [{"x": scale} | _interval(estimate) for scale, estimate in comparison.multipliers],
        "crossing": dataclasses.asdict(comparison.crossing) if comparison.crossing else None,
    }  # fmt: skip


def _equivalence(equal: Equivalence) -> dict[str, Any]:
    return {
        "margin": equal.margin, "low_90": equal.low, "high_90": equal.high, "p_value": equal.p_value,
        "is_equivalent": equal.is_equivalent,
    }  # fmt: skip


def _ends(estimate: Estimate) -> dict[str, float]:
    return {name: getattr(estimate, name) for name in ("value", "low", "high")}


def _interval(estimate: Estimate) -> dict[str, float]:
    names = ("value", "low", "high", "standard_error", "degrees_of_freedom")
    return {name: getattr(estimate, name) for name in names}


def plain(value: Any) -> Any:
    """Numbers as Python's own, and None where they are not finite: JSON has no word for those."""
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return value
