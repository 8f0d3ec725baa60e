"""The size of the noise, with few rows and with rows that lie far out: Huber's proposal 2.

The scale s solves sum_i psi(r_i / s)^2 = (n - p) E psi(z)^2 for standard normal z (Huber 1981, Robust Statistics,
7.7): each residual counts by no more than `TUNING` scales, so that one row of many cannot raise it by much. With
Huber's delta at `TUNING` scales an estimate loses 5 % where there is no row far out.
"""

import numpy as np
from scipy import optimize, stats

TUNING = 1.345
_EXPECTED = float(
    stats.norm.cdf(TUNING) - stats.norm.cdf(-TUNING) - 2 * TUNING * stats.norm.pdf(TUNING)
    + 2 * TUNING**2 * stats.norm.sf(TUNING)
)  # fmt: skip
"""E psi(z)^2."""
_CHANCE = 0.01
ROUNDING = 1e-11
"""Of log loss: residuals that are no larger are rounding, and there is no noise."""


def noise_scale(residuals: np.ndarray, weights: np.ndarray, num_params: int) -> float:
    """The standard deviation of a residual of weight 1, on n - p degrees of freedom; 0 where there is no noise.

    `weights` are those of squares: a residual of weight w has a w-th of the variance.
    """
    sizes = np.abs(residuals) * np.sqrt(weights)
    free = (weights > 0).sum() - num_params
    largest = float(np.sqrt((sizes**2).sum() / free)) / np.sqrt(_EXPECTED) if free > 0 else 0.0
    if largest <= ROUNDING:
        return 0.0

    def excess(log_scale: float) -> float:
        return float((np.minimum(sizes / np.exp(log_scale), TUNING) ** 2).sum()) - free * _EXPECTED

    lowest = np.log(largest) - 40
    if excess(lowest) <= 0:  # all but a few residuals are rounding
        return 0.0
    return float(np.exp(optimize.brentq(excess, lowest, np.log(largest) + 1e-6, xtol=1e-10)))


def far_out(residuals: np.ndarray, weights: np.ndarray, scale: float, num_params: int) -> np.ndarray:
    """The rows whose residual is larger than the largest of 99 in 100 tables of normal noise, the furthest first."""
    sizes, free = np.abs(residuals) * np.sqrt(weights), len(residuals) - num_params
    if scale == 0 or free < 1:
        return np.array([], dtype=int)
    rows = np.flatnonzero(sizes > scale * stats.t.isf(_CHANCE / 2 / len(residuals), free))
    return rows[np.argsort(-sizes[rows], kind="stable")]
