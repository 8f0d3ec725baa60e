"""Before running: the smallest difference of exponents that a grid can tell, by simulation."""

from collections.abc import Callable

import numpy as np
from scipy import stats

from helpers.analysis.fits.compare import drawn_squares
from helpers.analysis.fits.laws import Law, log_loss
from helpers.analysis.fits.points import Points

_NUM_SIMULATIONS = 400
_HIGHEST = 2.0
_PRECISION = 1e-3
_ROUNDING = 1e-24
"""The squared residual of a point that is rounding alone."""


def smallest_detectable_difference(
    scales: np.ndarray,
    law: Law,
    theta: np.ndarray,
    deviation: float,
    power: float = 0.8,
    seed: int = 0,
) -> float:
    """The difference of exponents that the F test finds with probability `power` at 5 %, two arms at `scales` (n,).

    `law` and `theta` are those of one arm (a power or offset law); the second arm has the same loss at the geometric
    mean of the scales. `deviation` is the standard deviation of log loss between runs, less what matched runs of the
    two arms share. Infinite where even a difference of 2 is not found.
    """
    scales = np.asarray(scales, dtype=float).reshape(-1, 1)
    arms = np.repeat(["reference", "arm"], len(scales))
    both = law.across(("reference", "arm"))
    noise = deviation * np.random.default_rng(seed).normal(size=(_NUM_SIMULATIONS, 2 * len(scales)))

    def found(difference: float) -> float:
        truth = _parted(both, law, theta, difference, float(np.log(scales).mean()))
        means = log_loss(both.design(np.tile(scales, (2, 1)), arms), truth[None])[0]
        points = Points.of(np.tile(scales, (2, 1)), np.exp(means), arms.tolist())
        return _rejections(points, law, both, truth, means + noise)

    return _first_above(found, power)


def _parted(both: Law, law: Law, theta: np.ndarray, difference: float, middle: float) -> np.ndarray:
    """theta of two arms whose exponents differ, and whose losses are equal at the log scale `middle`."""
    parted = np.array([theta[law.names.index(name.split("[")[0])] for name in both.names], dtype=float)
    (term,) = law.terms
    parted[both.index(term.exponent, "arm")] += difference
    parted[both.index(term.coefficient, "arm")] += difference * middle
    return parted


def _rejections(points: Points, law: Law, both: Law, truth: np.ndarray, log_losses: np.ndarray) -> float:
    """The share of simulated tables (B, n) in which the F test of own against shared exponents rejects at 5 %."""
    shared = law.across(both.arms, own=())
    known = dict(zip(both.names, truth, strict=True))
    start = np.array([known.get(name, truth[both.is_exponent].mean()) for name in shared.names])
    squares = [drawn_squares(points, one, log_losses, at) for one, at in ((shared, start), (both, truth))]
    freedom = len(points) - len(both.names)
    # Without noise the large law leaves nothing, and any difference is found; written so that nothing divides by it.
    extra, variance = np.maximum(squares[0] - squares[1], 0), squares[1] / freedom
    return float((extra > stats.f.ppf(0.95, 1, freedom) * variance + len(points) * _ROUNDING).mean())


def _first_above(found: Callable[[float], float], power: float) -> float:
    """The smallest difference at which `found` reaches `power`, by bisection: it rises, for the noise is the same."""
    low, high = 0.0, 1e-2
    while found(high) < power:
        low, high = high, 2 * high
        if high > _HIGHEST:
            return float("inf")
    while high - low > _PRECISION * high:
        middle = (low + high) / 2
        low, high = (low, middle) if found(middle) >= power else (middle, high)
    return high
