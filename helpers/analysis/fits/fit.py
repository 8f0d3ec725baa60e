"""Fitting a law to points: from many starts, polished, with what is doubtful about the result said beside it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from helpers.analysis.fits.coordinates import Coordinates
from helpers.analysis.fits.identification import require_identified
from helpers.analysis.fits.laws import Law, log_loss
from helpers.analysis.fits.objective import HUBER, LEAST_SQUARES, Minima, Problem, minimise, settle
from helpers.analysis.fits.points import Points
from helpers.analysis.fits.scale import TUNING, noise_scale
from helpers.analysis.fits.starts import starts

_NUM_POLISHED = 3
_AGREEMENT = 1e-6
"""Of the objective, relative: starts that end so close found the same optimum."""
_FEW_AGREEING = 3
_EXACT = 1e-22
"""The objective of a point whose residual is rounding alone."""
_NUM_SCALES = 30
"""Times that delta follows the noise and the fit follows delta."""
_SCALE_TOLERANCE = 1e-5
_MET = 4
"""Digits of the centred parameters."""
_COARSE = 1e-6
"""Of the objective: where a descent that will go on may rest."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A law with the parameters that minimise the objective on its points."""

    law: Law
    points: Points
    delta: float
    theta: np.ndarray
    """(p,): exponents, and logs of coefficients and E."""
    objective: float
    num_starts: int
    num_agreeing: int
    """Starts that ended at this objective."""
    scale: float
    """The standard deviation of log loss between a run of weight 1 and the law, whatever rows lie far out."""
    warnings: tuple[str, ...]

    @property
    def params(self) -> dict[str, float]:
        """The parameters as the law's equation writes them."""
        return self.law.params(self.theta)

    @property
    def num_points(self) -> int:
        return len(self.points)

    @property
    def estimator(self) -> str:
        return "least squares of log loss" if np.isinf(self.delta) else f"Huber of log loss, delta {self.delta:.4g}"

    @property
    def fitted(self) -> np.ndarray:
        """(n,) log losses."""
        return log_loss(self.law.design(self.points.scales, self.points.arms), self.theta[None])[0]

    @property
    def residuals(self) -> np.ndarray:
        """(n,) in log loss."""
        return np.log(self.points.losses) - self.fitted

    @property
    def squares(self) -> float:
        """The sum of squared residuals, weighted as the points are."""
        return float(self.points.weights @ self.residuals**2)

    @property
    def deviation(self) -> float:
        """The residual standard deviation of log loss, on n - p degrees of freedom."""
        return float(np.sqrt(self.squares / (self.num_points - self.law.num_free)))

    def predict(self, scales: np.ndarray, arms: Sequence[str] | None = None) -> np.ndarray:
        """Losses (m,) at `scales` (m, scales), or (m,) for a law of one scale."""
        scales = np.asarray(scales, dtype=float).reshape(-1, len(self.law.terms))
        labels = np.full(len(scales), "") if arms is None else np.asarray(arms)
        return np.exp(log_loss(self.law.design(scales, labels), self.theta[None])[0])


def fit(points: Points, law: Law, delta: float | None = None) -> Fit:
    """The law with the smallest summed Huber loss of log residuals, over all starts.

    `delta` is Huber's, or `objective.LEAST_SQUARES`; None: `scale.TUNING` standard deviations of the noise, which is
    found with it. The law of several arms is one `across` them. ValueError for points that cannot tell the law's
    parameters.
    """
    require_identified(law, points)
    if delta is not None and not delta > 0:
        raise ValueError(f"delta = {delta:g} is not possible; use a number above 0, or inf for least squares")
    coordinates = Coordinates.of(law, points)
    begin = starts(law, coordinates)
    if delta is None:
        delta, ended = _with_noise_sized_delta(coordinates, law, begin)
    else:
        ended = minimise(coordinates.problem(delta), begin)
    problem = coordinates.problem(delta)
    best, value = _polished(problem, ended)
    agreeing = ended.objective <= value * (1 + _AGREEMENT) + len(points) * _EXACT
    residuals = coordinates.log_losses - log_loss(coordinates.design, best[None])[0]
    return Fit(
        law=law,
        points=points,
        delta=delta,
        theta=coordinates.theta(best),
        objective=value,
        num_starts=len(begin),
        num_agreeing=int(agreeing.sum()),
        scale=noise_scale(residuals, points.weights, law.num_free),
        warnings=tuple(_doubts(law, problem, best, begin, int(agreeing.sum()))),
    )


def _with_noise_sized_delta(coordinates: Coordinates, law: Law, begin: np.ndarray) -> tuple[float, Minima]:
    """Huber's delta at the size of the noise, and where the starts end with it.

    From least squares, which is fast from far away; the best end is followed until delta stays, and then the others
    are.
    """
    ended = minimise(coordinates.problem(LEAST_SQUARES), begin, _COARSE)
    best = ended.theta[[ended.objective.argmin()]]
    delta = 0.0
    for _ in range(_NUM_SCALES):
        residuals = coordinates.log_losses - log_loss(coordinates.design, best)[0]
        before, delta = delta, TUNING * noise_scale(residuals, coordinates.weights, law.num_free)
        if delta == 0:
            return HUBER, minimise(coordinates.problem(HUBER), ended.theta)
        if abs(delta - before) <= _SCALE_TOLERANCE * delta:
            break
        best = minimise(coordinates.problem(delta), best).theta
    # Most starts have met by now, and go on as one.
    distinct, place = np.unique(np.round(ended.theta, _MET), axis=0, return_inverse=True)
    distinct = np.concatenate([distinct, best])
    place[ended.objective.argmin()] = len(distinct) - 1
    on = minimise(coordinates.problem(delta), distinct)
    return delta, Minima(theta=on.theta[place], objective=on.objective[place])


def _polished(problem: Problem, ended: Minima) -> tuple[np.ndarray, float]:
    """The best few descents, continued until nothing is gained, and the lowest of them settled; and its objective."""
    best = np.argsort(ended.objective, kind="stable")[:_NUM_POLISHED]
    polished = minimise(problem, ended.theta[best], 0.0)
    settled = settle(problem, polished.theta[polished.objective.argmin()])
    return settled, float(problem.values(settled[None])[0])


def _doubts(law: Law, problem: Problem, best: np.ndarray, begin: np.ndarray, num_agreeing: int) -> list[str]:
    """Words on what makes the optimum doubtful: a start it never left, bounds, starts that disagree, no noise."""
    doubts = []
    if (np.abs(begin - best).max(axis=1) < 1e-9).any():
        doubts.append("the fit never left its start: the objective may be flat, and the parameters those of the grid")
    if num_agreeing < _FEW_AGREEING:
        doubts.append(f"only {num_agreeing} of {len(begin)} starts found this optimum; a better one may exist")
    for place, name in enumerate(law.names):
        if not law.is_fixed[place] and (best[place] <= problem.lower[place] or best[place] >= problem.upper[place]):
            side = "lower" if best[place] <= problem.lower[place] else "upper"
            doubts.append(f"{name} is on its {side} bound: the points do not tell it, nor what is confounded with it")
    if problem.value_and_gradient(best)[0] < len(problem.log_losses) * _EXACT:
        doubts.append("the law fits every point exactly; intervals of points without noise mean nothing")
    return doubts
