"""All that is said of a fitted table, as plain values for JSON: what `python -m helpers fit` prints.

Which estimator answers depends on how much there is to estimate from, and the report says which did and why. Its other
half, the estimator that did not, stands beside it.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from helpers.analysis.estimates import CONFIDENCE, Estimate
from helpers.analysis.fits.arms import EXPONENT_MARGIN, ArmComparison, ArmFindings, compare_arms
from helpers.analysis.fits.compare import NestedTest, compare_forms
from helpers.analysis.fits.fit import Fit, fit
from helpers.analysis.fits.intervals import MANY_CLUSTERS, NUM_DRAWS, Draws, infer
from helpers.analysis.fits.laws import OFFSET_POWER_LAW, POWER_LAW, Law
from helpers.analysis.fits.objective import HUBER, LEAST_SQUARES
from helpers.analysis.fits.points import Points
from helpers.analysis.fits.regression import Regression, is_regression, regress

_MISFIT_P = 0.05
_WHY = {
    "regression": f"fewer than {MANY_CLUSTERS} configurations on a straight line of logs: least squares, whose"
    " Student's t intervals are exact for normal noise between runs",
    "wild": f"fewer than {MANY_CLUSTERS} clusters: least squares, whose residuals are resampled by cluster while the"
    " design stays (wild cluster bootstrap, t ends)",
    "pairs": f"{MANY_CLUSTERS} clusters or more: Huber's loss, and clusters of runs drawn again with replacement"
    " (percentile ends)",
}
_EXAMPLES = {"x": "1e7", "N,D": "7e10,1.4e12"}


def report_fit(
    points: Points,
    law: Law,
    *,
    ahead: Sequence[Sequence[float]] = (),
    margin: float = EXPONENT_MARGIN,
    num_draws: int = NUM_DRAWS,
    seed: int = 0,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Fit `law` to `points` and predict the loss of one run at each scale of `ahead`; numbers that are not finite are
    None. Points of several arms are fitted together and compared. `notes` go before the warnings."""
    if points.arm_names != ("",):
        return _plain(_of_arms(points, law, ahead, margin, num_draws, seed, notes))
    if is_regression(points, law):
        return _plain(_of_line(points, ahead, notes))
    return _plain(_of_draws(infer(points, law, num_draws, seed), ahead, notes) | _forms(points, law))


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


def _of_line(points: Points, ahead: Sequence[Sequence[float]], notes: Sequence[str]) -> dict[str, Any]:
    """A power law by regression, Huber's fit beside it."""
    line, least = regress(points), fit(points, POWER_LAW, LEAST_SQUARES)
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
        "beside": _beside(fit(points, POWER_LAW, HUBER)),
        "predictions": _predictions(estimates, ahead, POWER_LAW, ("",)),
        "warnings": warnings,
    } | _forms(points, POWER_LAW)  # fmt: skip


def _of_draws(draws: Draws, ahead: Sequence[Sequence[float]], notes: Sequence[str]) -> dict[str, Any]:
    """A law by resampling, for one arm or several; the other estimator beside it."""
    fitted, law = draws.fit, draws.fit.law
    other = fit(fitted.points, law, LEAST_SQUARES if fitted.delta == HUBER else HUBER)
    correlations = draws.correlations()
    grid = [(scale, arm) for arm in law.arms for scale in ahead]
    estimates = draws.predict([scale for scale, _ in grid], [arm for _, arm in grid]) if grid else []
    return _head(fitted, draws.method) | {
        "parameters": {name: _interval(estimate) for name, estimate in draws.parameters().items()},
        "interval": {
            "level": CONFIDENCE, "method": draws.method, "num_draws": len(draws.theta),
            "num_clusters": fitted.points.num_clusters, "degrees_of_freedom": draws.degrees_of_freedom,
        },
        "correlations_of_logs": {
            name: dict(zip(law.names, row, strict=True)) for name, row in zip(law.names, correlations, strict=True)
        },
        "beside": _beside(other),
        "predictions": _predictions(estimates, ahead, law, law.arms),
        "warnings": [*notes, *draws.warnings],
    }  # fmt: skip


def _of_arms(
    points: Points,
    law: Law,
    ahead: Sequence[Sequence[float]],
    margin: float,
    num_draws: int,
    seed: int,
    notes: Sequence[str],
) -> dict[str, Any]:
    """Several arms with one E and own exponents, compared where the law has one scale."""
    if len(law.terms) > 1:
        return _of_draws(infer(points, law.across(points.arm_names), num_draws, seed), ahead, notes)
    findings = compare_arms(points, law, margin, num_draws, seed)
    return _of_draws(findings.draws, ahead, notes) | {"arms": _arms(findings)}


def _head(fitted: Fit, method: str) -> dict[str, Any]:
    points = fitted.points
    return {
        "law": fitted.law.name,
        "equation": fitted.law.equation,
        "num_points": fitted.num_points,
        "num_configurations": int(points.configurations.max()) + 1,
        "estimator": fitted.estimator,
        "why": _WHY[method],
        "objective": fitted.objective,
        "num_starts": fitted.num_starts,
        "num_agreeing": fitted.num_agreeing,
        "residual_deviation": fitted.deviation,
        "seed_deviation": points.seed_deviation,
    }


def _beside(fitted: Fit) -> dict[str, Any]:
    names = ("estimator", "params", "objective", "num_starts", "num_agreeing", "warnings")
    return {"parameters" if name == "params" else name: getattr(fitted, name) for name in names}


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
    equal = comparison.equivalence
    return {
        "reference": comparison.reference,
        "arm": comparison.arm,
        "exponent_difference": _interval(comparison.difference),
        "equivalence": {
            "margin": equal.margin, "low_90": equal.low, "high_90": equal.high, "p_value": equal.p_value,
            "is_equivalent": equal.is_equivalent,
        },
        "compute_multipliers": [{"x": scale} | _interval(estimate) for scale, estimate in comparison.multipliers],
        "crossing": dataclasses.asdict(comparison.crossing),
    }  # fmt: skip


def _interval(estimate: Estimate) -> dict[str, float]:
    return {name: getattr(estimate, name) for name in ("value", "low", "high", "standard_error")}


def _plain(value: Any) -> Any:
    """Numbers as Python's own, and None where they are not finite: JSON has no word for those."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return value
