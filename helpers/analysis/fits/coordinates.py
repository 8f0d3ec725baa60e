"""The coordinates in which a law is minimised: scales and losses in units of their geometric means.

There a coefficient is the log of its term at the middle of the data, nearly uncorrelated with its exponent, and bounds
mean the same for every unit: E and the terms lie between e^-10 and e^3 of a typical loss.
"""

from dataclasses import dataclass

import numpy as np

from helpers.analysis.fits.laws import Law
from helpers.analysis.fits.objective import Problem
from helpers.analysis.fits.points import Points

_LOG_COEFFICIENT = (-10.0, 3.0)
_EXPONENT = (0.0, 10.0)
"""Beside an E a term has to fall; a power law alone may also rise."""


@dataclass(frozen=True, kw_only=True)
class Coordinates:
    """theta = matrix @ centred + shift; the design and the log losses are those of centred theta."""

    design: np.ndarray
    log_losses: np.ndarray
    matrix: np.ndarray
    shift: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, law: Law, points: Points) -> "Coordinates":
        log_losses = np.log(points.losses)
        middle = np.log(points.scales).mean(axis=0)
        matrix = np.eye(len(law.names))
        for arm in law.arms:
            for term, log_scale in zip(law.terms, middle, strict=True):
                matrix[law.index(term.coefficient, arm), law.index(term.exponent, arm)] = log_scale
        shift = np.where(law.is_exponent, 0.0, log_losses.mean())
        lowest_exponent = _EXPONENT[0] if law.has_offset else -_EXPONENT[1]
        return cls(
            design=law.design(points.scales, points.arms) @ matrix,
            log_losses=log_losses - log_losses.mean(),
            matrix=matrix,
            shift=shift,
            lower=_with_fixed(law, shift, np.where(law.is_exponent, lowest_exponent, _LOG_COEFFICIENT[0])),
            upper=_with_fixed(law, shift, np.where(law.is_exponent, _EXPONENT[1], _LOG_COEFFICIENT[1])),
            weights=points.weights,
        )

    def theta(self, centred: np.ndarray) -> np.ndarray:
        """The law's own theta (..., p)."""
        return centred @ self.matrix.T + self.shift

    def centred(self, theta: np.ndarray) -> np.ndarray:
        """The inverse of `theta`."""
        return np.linalg.solve(self.matrix, (theta - self.shift).T).T

    def problem(self, delta: float, log_losses: np.ndarray | None = None, weights: np.ndarray | None = None) -> Problem:
        """The points themselves, or resamples of them, to be minimised in these coordinates."""
        return Problem(
            design=self.design,
            log_losses=self.log_losses if log_losses is None else log_losses,
            weights=self.weights if weights is None else weights * self.weights,
            lower=self.lower,
            upper=self.upper,
            delta=delta,
        )


def _with_fixed(law: Law, shift: np.ndarray, bound: np.ndarray) -> np.ndarray:
    """A bound with the value of each fixed parameter in its place, so that it cannot move."""
    known = dict(law.fixed)
    bound = np.array(bound, dtype=float)
    for place in np.flatnonzero(law.is_fixed):
        value = known[law.names[place].split("[")[0]]
        bound[place] = value if law.is_exponent[place] else np.log(value) - shift[place]
    return bound
