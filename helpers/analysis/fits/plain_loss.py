"""Least squares of the loss itself, by weights: with them, least squares of log loss has the same minimum.

For a law's value v and a loss L the two descents are (L - v) v' and w log(L / v) v' / v: they are equal for
w = v^2 (L / v - 1) / log(L / v), which is v^2 but for the residual. Everything that is said of log loss with weights,
intervals, predictions, rows far out, then holds for noise that is the same in nats at every run.
"""

import dataclasses

import numpy as np

from helpers.analysis.fits.fit import fit
from helpers.analysis.fits.laws import Law
from helpers.analysis.fits.objective import LEAST_SQUARES
from helpers.analysis.fits.points import Points

NOTE = "least squares of the loss itself: each row counts by the square of its fitted loss in least squares of log loss"
_MOST_ROUNDS = 100
_TOLERANCE = 1e-10


def weighted_for_plain_loss(points: Points, law: Law) -> Points:
    """The points with weights under which least squares of log loss is that of the loss, times those that they have.

    ValueError where no such weights are found.
    """
    law = law if points.arm_names == ("",) else law.across(points.arm_names)
    weights = points.weights * points.losses**2
    for _ in range(_MOST_ROUNDS):
        weighted = dataclasses.replace(points, weights=weights / weights.mean())
        found = fit(weighted, law, LEAST_SQUARES)
        residuals = found.residuals
        ratio = np.divide(np.expm1(residuals), residuals, out=np.ones_like(residuals), where=residuals != 0)
        before, weights = weights, points.weights * np.exp(2 * found.fitted) * ratio
        if np.abs(weights / before - 1).max() <= _TOLERANCE:
            return weighted
    raise ValueError(
        f"plain = True: the weights do not settle in {_MOST_ROUNDS} rounds, for some losses lie far from the law; "
        "leave it out, or leave those rows out"
    )
