"""Which law the points support: forms by AICc, nested laws by an F test, and the profile of one parameter.

All by least squares of log loss, whose sum of squares is a likelihood; Huber's objective is not one.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from helpers.analysis.fits.coordinates import Coordinates
from helpers.analysis.fits.fit import Fit, fit
from helpers.analysis.fits.intervals import NUM_DRAWS, wild_factors
from helpers.analysis.fits.laws import Law
from helpers.analysis.fits.objective import LEAST_SQUARES, Problem, minimise
from helpers.analysis.fits.points import Points
from helpers.analysis.fits.starts import starts

_TOLERANCE = 1e-9


@dataclass(frozen=True, kw_only=True)
class Form:
    """A law's least-squares fit as a model of the points."""

    law: str
    num_params: int
    squares: float
    aicc: float
    delta: float
    """AICc above the lowest of the forms compared."""


@dataclass(frozen=True, kw_only=True)
class NestedTest:
    """Whether a law with more parameters of the arms' own fits better than chance lets it."""

    small: Fit
    large: Fit
    statistic: float
    """Extra sum of squares a parameter over the residual variance of the large law."""
    num_extra: int
    degrees_of_freedom: int
    p_value: float
    """From the F distribution: independent normal residuals."""
    bootstrap_p_value: float
    """From wild clusters under the small law: runs of a cluster may share their noise."""


def aicc(squares: float, num_points: int, num_params: int) -> float:
    """Akaike's criterion with the small-sample correction of Hurvich & Tsai 1989 (Biometrika 76:297), the residual
    variance counted as a parameter. ValueError for too few points to correct for."""
    k = num_params + 1
    if num_points - k - 1 <= 0:
        raise ValueError(f"{num_points} points cannot judge a law of {num_params} parameters; use at least {k + 2}")
    correction = 2 * k * (k + 1) / (num_points - k - 1)
    return float(num_points * np.log(max(squares, np.finfo(float).tiny) / num_points) + 2 * k + correction)


def compare_forms(points: Points, laws: Sequence[Law]) -> list[Form]:
    """The forms in order of AICc; ValueError if the points cannot tell or judge one of them."""
    largest_first = sorted(laws, key=lambda law: -len(law.names))  # whose need of points is the one to name
    fits = [fit(points, law, LEAST_SQUARES) for law in largest_first]
    scores = [aicc(fitted.squares, fitted.num_points, len(fitted.theta)) for fitted in fits]
    lowest = min(scores)
    forms = [
        Form(
            law=fitted.law.name, num_params=len(fitted.theta), squares=fitted.squares, aicc=score,
            delta=score - lowest,
        )
        for fitted, score in zip(fits, scores, strict=True)
    ]  # fmt: skip
    return sorted(forms, key=lambda form: form.aicc)


def nested_test(points: Points, small: Law, large: Law, num_draws: int = NUM_DRAWS, seed: int = 0) -> NestedTest:
    """The extra-sum-of-squares F test of `small` within `large`, with a wild cluster bootstrap under `small`.

    F does not change with the size of the noise, so the draws keep the small law's residuals as they are.
    """
    fits = [fit(points, law, LEAST_SQUARES) for law in (small, large)]
    num_extra, freedom = len(large.names) - len(small.names), len(points) - len(large.names)
    statistic = _f_statistic(fits[0].squares, fits[1].squares, num_extra, freedom)
    factors = wild_factors(points, num_draws, np.random.default_rng(seed))
    losses = fits[0].fitted + factors * fits[0].residuals
    squares = [drawn_squares(points, law, losses, _as_start(fits[0], law)) for law in (small, large)]
    exceed = _f_statistic(*squares, num_extra, freedom) >= statistic
    return NestedTest(
        small=fits[0],
        large=fits[1],
        statistic=float(statistic),
        num_extra=num_extra,
        degrees_of_freedom=freedom,
        p_value=float(stats.f.sf(statistic, num_extra, freedom)),
        bootstrap_p_value=float((1 + exceed.sum()) / (1 + num_draws)),
    )


def drawn_squares(points: Points, law: Law, log_losses: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The sums of squares (B,) of a law fitted to other log losses (B, n) at the same scales, from `start` (p,)."""
    coordinates = Coordinates.of(law, points)
    centred = log_losses - np.log(points.losses).mean()
    begin = np.broadcast_to(coordinates.centred(start), (len(log_losses), len(start)))
    return 2 * minimise(coordinates.problem(LEAST_SQUARES, log_losses=centred), begin, _TOLERANCE).objective


def profile(fitted: Fit, parameter: str, values: np.ndarray) -> np.ndarray:
    """The objective (m,) with an exponent or E held at each of `values` and all else fitted again.

    A flat profile is a parameter that the points do not tell. ValueError for a coefficient: it follows from the others.
    """
    law = fitted.law
    coefficients = {term.coefficient for term in law.terms}
    if parameter not in law.names or parameter.split("[")[0] in coefficients:
        names = [name for name in law.names if name.split("[")[0] not in coefficients]
        raise ValueError(f"parameter = {parameter!r} has no profile; use {' or '.join(names)}")
    place, coordinates = law.names.index(parameter), Coordinates.of(law, fitted.points)
    begin = np.concatenate([coordinates.centred(fitted.theta)[None], starts(law, coordinates)])
    values = np.asarray(values, dtype=float)
    held = values if law.is_exponent[place] else np.log(values) - coordinates.shift[place]
    return np.array([_held_objective(coordinates.problem(fitted.delta), begin, place, value) for value in held])


def _held_objective(problem: Problem, begin: np.ndarray, place: int, value: float) -> float:
    """The lowest objective from any of `begin` with theta[place] = value."""
    lower, upper = problem.lower.copy(), problem.upper.copy()
    lower[place] = upper[place] = value
    held = dataclasses.replace(problem, lower=lower, upper=upper)
    return float(minimise(held, begin).objective.min())


def _f_statistic(small: np.ndarray, large: np.ndarray, num_extra: int, degrees_of_freedom: int) -> np.ndarray:
    """Extra sum of squares a parameter over the residual variance of the large law; infinite for an exact fit."""
    extra = np.maximum(np.asarray(small) - large, 0) / num_extra
    variance = np.asarray(large) / degrees_of_freedom
    return np.divide(extra, variance, out=np.full_like(extra, np.inf), where=variance > 0)


def _as_start(small: Fit, large: Law) -> np.ndarray:
    """theta of the small law, spread over the parameters of a law in which the arms share less."""
    values = dict(zip(small.law.names, small.theta, strict=True))
    return np.array([values.get(name, values.get(name.split("[")[0])) for name in large.names], dtype=float)
