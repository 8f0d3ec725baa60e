"""Which estimator answers: one for all sizes of table, and the straight line where it is one.

Huber's loss with a delta of the noise's size loses 5 % where no row lies far out, and does not break where one does.
A power law of one arm is a straight line in logs: if none of its rows lies far out, least squares answers, whose
Student's t intervals are exact. Neither depends on how rows are clustered, which is a matter of the intervals.
"""

import numpy as np

from helpers.analysis.fits.fit import Fit, fit
from helpers.analysis.fits.intervals import MANY_CLUSTERS, NUM_DRAWS, Draws, infer
from helpers.analysis.fits.laws import POWER_LAW, Law
from helpers.analysis.fits.objective import LEAST_SQUARES
from helpers.analysis.fits.points import Points
from helpers.analysis.fits.regression import Regression, regress
from helpers.analysis.fits.scale import far_out


def answer(
    points: Points, law: Law, num_draws: int = NUM_DRAWS, seed: int = 0, delta: float | None = None
) -> Regression | Draws:
    """The law fitted to `points`, with what its intervals are made of; `delta` as `fit` has it."""
    if law == POWER_LAW and delta is None and not len(rows_far_out(fit(points, law))):
        delta = LEAST_SQUARES
    if law == POWER_LAW and delta == LEAST_SQUARES and _is_plain(points):
        return regress(points)
    return infer(points, law, num_draws, seed, delta)


def rows_far_out(fitted: Fit) -> np.ndarray:
    """The places of the points that lie far from the law, the furthest first."""
    return far_out(fitted.residuals, fitted.points.weights, fitted.scale, fitted.law.num_free)


def _is_plain(points: Points) -> bool:
    """Few runs of one weight, clusters for no other reason than their scale."""
    few = points.num_clusters < MANY_CLUSTERS and np.array_equal(points.clusters, points.configurations)
    return few and bool((points.weights == 1).all())
