"""The power law by ordinary least squares of log loss on log scale, with the intervals that are exact for normal noise.

With few points this is the answer: Student's t knows how little four points say, and a bootstrap of them does not.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from helpers.analysis.estimates import Estimate
from helpers.analysis.fits.identification import require_identified
from helpers.analysis.fits.laws import POWER_LAW
from helpers.analysis.fits.points import Points

_ROUNDING = 1e-22
"""The squared residual of a point that differs from its replicates by rounding alone."""


@dataclass(frozen=True, kw_only=True)
class Regression:
    """log L = intercept + slope log x, so that a = exp(intercept) and b = -slope."""

    points: Points
    slope: float
    intercept: float
    r_squared: float
    p_value: float
    """Two-sided, of slope 0."""
    standard_error: float
    """Of the slope."""
    intercept_standard_error: float

    @property
    def degrees_of_freedom(self) -> int:
        return len(self.points) - 2

    @property
    def residuals(self) -> np.ndarray:
        """(n,) in log loss."""
        return np.log(self.points.losses) - self.intercept - self.slope * np.log(self.points.scales[:, 0])

    @property
    def deviation(self) -> float:
        """The residual standard deviation, on n - 2 degrees of freedom."""
        return float(np.sqrt((self.residuals**2).sum() / self.degrees_of_freedom))

    def parameters(self) -> dict[str, Estimate]:
        """a and b with Student's t intervals; the standard error of a is that of a first-order step from its log."""
        a = POWER_LAW.params(np.array([self.intercept, -self.slope]))["a"]
        exponent = Estimate.of(-self.slope, self.standard_error, self.degrees_of_freedom, len(self.points))
        log_a = Estimate.of(self.intercept, self.intercept_standard_error, self.degrees_of_freedom, len(self.points))
        return {"a": _natural(log_a, a * log_a.standard_error), "b": exponent}

    def predict(self, x: np.ndarray) -> list[Estimate]:
        """The loss of one further run at each of `x` (m,), by the textbook prediction interval of a straight line. The
        standard error is that of log loss."""
        logs, ahead = np.log(self.points.scales[:, 0]), np.log(np.asarray(x, dtype=float).ravel())
        leverage = 1 / len(logs) + (ahead - logs.mean()) ** 2 / ((logs - logs.mean()) ** 2).sum()
        errors = self.deviation * np.sqrt(1 + leverage)
        values = self.intercept + self.slope * ahead
        freedom = self.degrees_of_freedom
        estimates = (Estimate.of(float(v), float(e), freedom, len(logs)) for v, e in zip(values, errors, strict=True))
        return [_natural(estimate, estimate.standard_error) for estimate in estimates]

    def lack_of_fit(self) -> float | None:
        """The p-value of no more scatter about the line than between runs of one configuration (F test against pure
        error); None without replicates, or with two configurations."""
        groups = self.points.configurations
        num_groups, num_points = groups.max() + 1, len(groups)
        logs = np.log(self.points.losses)
        means = np.bincount(groups, logs) / np.bincount(groups)
        pure, total = float(((logs - means[groups]) ** 2).sum()), float((self.residuals**2).sum())
        if num_groups <= 2 or num_groups == num_points or pure < num_points * _ROUNDING:
            return None
        statistic = ((total - pure) / (num_groups - 2)) / (pure / (num_points - num_groups))
        return float(stats.f.sf(statistic, num_groups - 2, num_points - num_groups))


def regress(points: Points) -> Regression:
    """The least-squares line of one arm; ValueError for points that cannot give it."""
    require_identified(POWER_LAW, points)
    line = stats.linregress(np.log(points.scales[:, 0]), np.log(points.losses))
    return Regression(
        points=points,
        slope=float(line.slope),
        intercept=float(line.intercept),
        r_squared=float(line.rvalue**2),
        p_value=float(line.pvalue),
        standard_error=float(line.stderr),
        intercept_standard_error=float(line.intercept_stderr),
    )


def _natural(log: Estimate, standard_error: float) -> Estimate:
    """An estimate of a log as one of the number itself."""
    with np.errstate(over="ignore"):
        value, low, high = (float(end) for end in np.exp([log.value, log.low, log.high]))
    return Estimate(
        value=value, low=low, high=high, standard_error=standard_error, degrees_of_freedom=log.degrees_of_freedom,
        p_value=log.p_value, num_runs=log.num_runs,
    )  # fmt: skip
