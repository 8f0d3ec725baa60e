"""Two arms on one law: does a factor move the exponent, or only the constant, and what is that worth in compute?

The arms are fitted together with one E, so every draw resamples both: matched runs share their random factor, and the
noise that they share leaves the difference.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from helpers.analysis.estimates import CONFIDENCE, Equivalence, Estimate
from helpers.analysis.fits.compare import NestedTest, nested_test
from helpers.analysis.fits.intervals import NUM_DRAWS, Draws, Statistic, infer
from helpers.analysis.fits.laws import OFFSET, Law
from helpers.analysis.fits.points import Points

EXPONENT_MARGIN = 0.02
"""Exponents that differ by less count as equal, unless another margin is stated."""


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """The compute at which two arms reach the same loss; None where it is not bounded on that side."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class ArmComparison:
    """An arm against the reference."""

    reference: str
    arm: str
    differences: dict[str, Estimate]
    """Each exponent of the arm less that of the reference."""
    equivalences: dict[str, Equivalence]
    multipliers: tuple[tuple[float, Estimate], ...]
    """(scale, multiplier) at the smallest and the largest scale of the points; for a law of one scale."""
    crossing: Crossing | None

    @property
    def difference(self) -> Estimate:
        """Of a law of one exponent."""
        (difference,) = self.differences.values()
        return difference

    @property
    def equivalence(self) -> Equivalence:
        (equal,) = self.equivalences.values()
        return equal


@dataclass(frozen=True, kw_only=True)
class ArmFindings:
    """Everything said of the arms of one table."""

    draws: Draws
    comparisons: tuple[ArmComparison, ...]
    """Each further arm against the first."""
    exponent_test: NestedTest
    """Shared exponent against own ones, all arms at once."""
    offset_test: NestedTest | None
    """One E against one each: whether sharing it is contradicted. None for the power law, or too few points."""


def compare_arms(
    points: Points,
    law: Law,
    margin: float = EXPONENT_MARGIN,
    num_draws: int = NUM_DRAWS,
    seed: int = 0,
    delta: float | None = None,
) -> ArmFindings:
    """Compare the arms of `points`, each exponent by itself and all in one test.

    The first arm of the table is the reference. ValueError for one arm, or a margin of 0 or less.
    """
    names = points.arm_names
    if len(names) < 2:
        raise ValueError(f"arms = {list(names)} cannot be compared; use 2 arms or more")
    if not margin > 0:
        raise ValueError(f"margin = {margin} is not possible; use a difference of exponents above 0, such as 0.02")
    shared, own = law.across(names, own=()), law.across(names)
    draws = infer(points, own, num_draws, seed, delta)
    apart = law.across(names, own=(*law.exponents, OFFSET))
    can_part = law.has_offset and len(points) > len(apart.names)
    return ArmFindings(
        draws=draws,
        comparisons=tuple(_compare(draws, names[0], name, margin) for name in names[1:]),
        exponent_test=nested_test(points, shared, own, num_draws, seed),
        offset_test=nested_test(points, own, apart, num_draws, seed) if can_part else None,
    )


def exponent_difference(draws: Draws, reference: str, arm: str, exponent: str = "") -> Estimate:
    """Exponent of `arm` less that of `reference`, both from the same draws; the law's first unless it is named."""
    return draws.estimate(_difference(draws.fit.law, reference, arm, exponent or draws.fit.law.terms[0].exponent))


def equivalence(estimate: Estimate, margin: float) -> Equivalence:
    """Two one-sided t tests of |difference| < margin, from the estimate's standard error and degrees of freedom."""
    error, freedom = estimate.standard_error, estimate.degrees_of_freedom
    half = float(stats.t.ppf(CONFIDENCE, freedom)) * error
    beyond = (abs(estimate.value) - margin) / error if error else np.sign(abs(estimate.value) - margin) * np.inf
    return Equivalence(
        value=estimate.value, low=estimate.value - half, high=estimate.value + half, margin=margin,
        p_value=float(stats.t.cdf(beyond, freedom)), num_runs=estimate.num_runs,
    )  # fmt: skip


def compute_multiplier(draws: Draws, reference: str, arm: str, scale: float) -> Estimate:
    """The factor of compute that `reference` needs to reach the loss of `arm` at `scale`; above 1 the arm is ahead.

    a1 (m C)^-b1 = a2 C^-b2, in which the shared E has cancelled. The standard error is that of log m.
    """
    law, log_scale = draws.fit.law, float(np.log(scale))

    def log_multiplier(theta: np.ndarray) -> np.ndarray:
        return _log_ahead(law, theta, reference, arm, log_scale) / theta[:, law.index(law.terms[0].exponent, reference)]

    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # an exponent of 0 makes an end infinite
        estimate = draws.estimate(log_multiplier)
        value, low, high = (float(end) for end in np.exp([estimate.value, estimate.low, estimate.high]))
    return Estimate(
        value=value, low=low, high=high, standard_error=estimate.standard_error,
        degrees_of_freedom=estimate.degrees_of_freedom, p_value=estimate.p_value, num_runs=estimate.num_runs,
    )  # fmt: skip


def crossing(draws: Draws, reference: str, arm: str) -> Crossing:
    """Where the arms' curves cross, by Fieller's theorem (1954, J. R. Stat. Soc. B 16:175).

    The ends are where the arm is no longer (or not yet) ahead at 95 %; unbounded unless the exponents differ.
    """
    law = draws.fit.law
    middle = float(np.log(draws.fit.points.scales[:, 0]).mean())
    line = np.stack([_log_ahead(law, draws.theta, reference, arm, middle + step) for step in (0.0, 1.0)])
    level, slope = (float(_log_ahead(law, draws.fit.theta[None], reference, arm, middle + s)[0]) for s in (0.0, 1.0))
    slope -= level
    accuracy = draws.accuracy(_difference(law, reference, arm, law.terms[0].exponent))
    covariance = np.cov(line[0], line[1] - line[0]) / accuracy.overstated**2
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, accuracy.degrees_of_freedom)) ** 2
    # The scales at which (level + slope s)^2 <= t^2 var(level + slope s) lie between the roots of a quadratic.
    a = slope**2 - quantile * covariance[1, 1]
    b = 2 * (level * slope - quantile * covariance[0, 1])
    c = level**2 - quantile * covariance[0, 0]
    value = _finite_exp(middle - level / slope) if slope else None
    if a <= 0:
        return Crossing(value=value, low=None, high=None)
    half = float(np.sqrt(max(b**2 - 4 * a * c, 0.0))) / (2 * a)
    low, high = (_finite_exp(middle - b / (2 * a) + side * half) for side in (-1, 1))
    return Crossing(value=value, low=low, high=high)


def _compare(draws: Draws, reference: str, arm: str, margin: float) -> ArmComparison:
    law, scales = draws.fit.law, draws.fit.points.scales[:, 0]
    differences = {name: exponent_difference(draws, reference, arm, name) for name in law.exponents}
    ends = (float(scales.min()), float(scales.max())) if len(law.terms) == 1 else ()
    return ArmComparison(
        reference=reference,
        arm=arm,
        differences=differences,
        equivalences={name: equivalence(own, margin) for name, own in differences.items()},
        multipliers=tuple((end, compute_multiplier(draws, reference, arm, end)) for end in ends),
        crossing=crossing(draws, reference, arm) if ends else None,
    )


def _difference(law: Law, reference: str, arm: str, exponent: str) -> Statistic:
    first, second = law.index(exponent, reference), law.index(exponent, arm)
    return lambda theta: theta[:, second] - theta[:, first]


def _log_ahead(law: Law, theta: np.ndarray, reference: str, arm: str, log_scale: float) -> np.ndarray:
    """(B,) the log of reference's term over the arm's at one scale: above 0 the arm's loss is the lower."""
    (term,) = law.terms
    logs = [
        theta[:, law.index(term.coefficient, name)] - theta[:, law.index(term.exponent, name)] * log_scale
        for name in (reference, arm)
    ]
    return logs[0] - logs[1]


def _finite_exp(log: float) -> float | None:
    """exp, or None where the number cannot be written."""
    return float(np.exp(log)) if abs(log) < 700 else None
