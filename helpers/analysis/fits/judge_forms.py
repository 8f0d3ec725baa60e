"""Which form of a law of N and D the runs support: AICc, the error at held-out runs, and what each form adds.

All by least squares of log loss, whose sum of squares is a likelihood.
"""

from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from helpers.analysis.estimates import CONFIDENCE
from helpers.analysis.fits.compare import aicc
from helpers.analysis.fits.fit import fit
from helpers.analysis.fits.forms import SHAPES, Shape, Sizes
from helpers.analysis.fits.laws import CHINCHILLA
from helpers.analysis.fits.objective import LEAST_SQUARES
from helpers.analysis.fits.points import Points

_LARGEST = 0.25
"""Of the runs, the largest: held out where nothing else is asked for."""
_SPARED = 2
"""Runs more than parameters that a form needs."""


@dataclass(frozen=True, kw_only=True)
class JudgedForm:
    """A form as a model of the runs."""

    name: str
    equation: str
    num_params: int
    params: dict[str, float]
    squares: float
    aicc: float
    delta: float
    """AICc above the lowest of the forms compared."""
    held_out_error: float | None
    """The root mean square of the errors of log loss at held-out runs, by a fit to the others."""
    interval: dict[str, tuple[float | None, float | None]]
    """Of what the form adds to the sum, by its profile; None where the runs set no end."""


@dataclass(frozen=True, kw_only=True)
class _Fitted:
    shape: Shape
    theta: np.ndarray
    squares: float


def judge_forms(points: Points, unique: np.ndarray | None = None, held: Points | None = None) -> list[JudgedForm]:
    """The forms that apply, in order of AICc. `unique` (rows of the table,) are each row's unique tokens: without them,
    or where no run repeats its data, forms with repetition are left out. `held` are runs to be predicted; None: the
    largest quarter of `points`.

    ValueError for too few runs to judge the sum of two terms.
    """
    repeats = unique is not None and bool((points.scales[:, 1] > unique[points.rows - 1]).any())
    shapes = [shape for shape in SHAPES if repeats or not shape.has_repetition]
    shapes = [shape for shape in shapes if len(points) >= len(shape.names) + 1 + _SPARED] or [SHAPES[0]]
    train, test = (points, held) if held is not None else _split(points)
    fits = [_fit(shape, points, unique, points) for shape in shapes]
    scores = [aicc(own.squares, len(points), len(own.theta)) for own in fits]
    judged = [
        JudgedForm(
            name=own.shape.name, equation=own.shape.equation, num_params=len(own.theta),
            params=_natural(own, points), squares=own.squares, aicc=score, delta=score - min(scores),
            held_out_error=_error(own.shape, train, test, unique), interval=_intervals(own, points, unique),
        )
        for own, score in zip(fits, scores, strict=True)
    ]  # fmt: skip
    return sorted(judged, key=lambda own: own.aicc)


def _split(points: Points) -> tuple[Points, Points]:
    extent = points.extent
    largest = extent > np.quantile(extent, 1 - _LARGEST)
    return points.take(~largest), points.take(largest)


def _error(shape: Shape, train: Points, test: Points, unique: np.ndarray | None) -> float | None:
    if len(train) < len(shape.names) + 1:
        return None
    try:
        own = _fit(shape, train, unique, train)
    except ValueError:  # the smaller runs alone cannot tell the law
        return None
    errors = _residuals(own.theta, shape, _sizes(test, unique, train), _logs(test, train))
    return float(np.sqrt((errors**2).mean()))


def _fit(shape: Shape, points: Points, unique: np.ndarray | None, middle: Points) -> _Fitted:
    """From the best sum of two terms, and each value that is given for what the form adds."""
    additive, sizes, logs = (
        fit(points, CHINCHILLA, LEAST_SQUARES),
        _sizes(points, unique, middle),
        _logs(points, middle),
    )
    e, log_a, alpha, log_b, beta = additive.theta
    shift, (mean_n, mean_d) = float(np.log(middle.losses).mean()), np.log(middle.scales).mean(axis=0)
    start = np.array([e - shift, log_a - alpha * mean_n - shift, alpha, log_b - beta * mean_d - shift, beta])
    ends = [
        _descend(shape, np.concatenate([begin, extra]), sizes, logs, points.weights)
        for extra in shape.begin
        for begin in (start, np.array([-0.5, -1.5, 0.3, -1.5, 0.3]))
    ]
    return min(ends, key=lambda own: own.squares)


def _descend(
    shape: Shape, start: np.ndarray, sizes: Sizes, logs: np.ndarray, weights: np.ndarray, held: int | None = None
) -> _Fitted:
    """From one start; `held` is a place of theta that stays."""
    lower, upper = shape.bounds
    free = np.arange(len(start)) != held
    start = np.clip(start, lower, upper)

    def residuals(part: np.ndarray) -> np.ndarray:
        theta = start.copy()
        theta[free] = part
        return _residuals(theta, shape, sizes, logs) * np.sqrt(weights)

    inside = np.clip(start[free], lower[free] + 1e-9, upper[free] - 1e-9)
    ended = optimize.least_squares(
        residuals, inside, bounds=(lower[free], upper[free]), ftol=1e-10, xtol=1e-8, max_nfev=100
    )
    theta = start.copy()
    theta[free] = ended.x
    return _Fitted(shape=shape, theta=theta, squares=float(2 * ended.cost))


def _residuals(theta: np.ndarray, shape: Shape, sizes: Sizes, logs: np.ndarray) -> np.ndarray:
    return logs - shape.log_loss(theta, sizes)


def _intervals(own: _Fitted, points: Points, unique: np.ndarray | None) -> dict[str, tuple[float | None, float | None]]:
    """For the one parameter that a form adds: where the squares, all else fitted again, stay within F of the lowest
    (Bates & Watts 1988, Nonlinear Regression, 6.1)."""
    shape, freedom = own.shape, len(points) - len(own.theta)
    if len(shape.extra) != 1 or own.squares <= 0:
        return {}
    most = own.squares * (1 + float(stats.f.ppf(CONFIDENCE, 1, freedom)) / freedom)
    sizes, logs, place = _sizes(points, unique, points), _logs(points, points), len(own.theta) - 1

    def excess(value: float) -> float:
        start = np.append(own.theta[:place], value)
        return _descend(shape, start, sizes, logs, points.weights, held=place).squares / most - 1

    ends = []
    for bound in (shape.bounds[0][place], shape.bounds[1][place]):
        steps = own.theta[place] + (bound - own.theta[place]) * np.array([0.0, 0.02, 0.1, 0.3, 1.0])
        beyond = next((step for step in range(1, 5) if excess(steps[step]) > 0), None)
        log_end = beyond and optimize.brentq(excess, steps[beyond - 1], steps[beyond], xtol=1e-3)
        ends.append(None if log_end is None else float(np.exp(log_end)))
    return {shape.extra[0]: (ends[0], ends[1])}


def _sizes(points: Points, unique: np.ndarray | None, middle: Points) -> Sizes:
    """Relative to the runs `middle`, in whose coordinates theta is."""
    mean_n, mean_d = np.log(middle.scales).mean(axis=0)
    logs = np.log(points.scales)
    log_unique = None if unique is None else np.log(unique[points.rows - 1]) - mean_d
    return Sizes(n=logs[:, 0] - mean_n, d=logs[:, 1] - mean_d, u=log_unique)


def _logs(points: Points, middle: Points) -> np.ndarray:
    return np.log(points.losses) - np.log(middle.losses).mean()


def _natural(own: _Fitted, points: Points) -> dict[str, float]:
    """The parameters as the equation writes them."""
    shift, (mean_n, mean_d) = float(np.log(points.losses).mean()), np.log(points.scales).mean(axis=0)
    values = dict(zip(own.shape.names, own.theta, strict=True))
    back = {"E": shift, "A": shift + values["alpha"] * mean_n, "B": shift + values["beta"] * mean_d}
    if "C" in values:
        back |= {"C": shift - values["gamma"] * mean_n + values["delta"] * mean_d, "L0-E": shift}
    exponents = {
        "alpha",
        "beta",
        *(name for name, is_one in zip(own.shape.extra, own.shape.is_exponent, strict=True) if is_one),
    }
    with np.errstate(over="ignore"):
        return {
            name: float(value if name in exponents else np.exp(value + back.get(name, 0.0)))
            for name, value in values.items()
        }
