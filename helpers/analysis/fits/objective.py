"""The objective: the sum of Huber losses of the residuals of log L, and its minimum for many problems at once.

The sum, not the mean: a mean near 1e-4 is below the tolerance at which minimisers stop. Huber's loss is minimised by
reweighted least squares (Holland & Welsch 1977) inside Levenberg's and Marquardt's damping: each accepted step lowers
the objective, and thousands of starts or resamples are minimised together as one array.
"""

from dataclasses import dataclass

import numpy as np

from helpers.analysis.fits.laws import derivatives, log_loss, log_loss_and_jacobian, log_loss_and_shares

HUBER = 1e-3
"""Hoffmann et al. 2022, D.3: residuals of log L beyond this count by their size, not their square."""
LEAST_SQUARES = np.inf
_MAX_STEPS = 500
_DAMPING = 1e-3
_MAX_DAMPING = 1e12
_CHUNK = 250_000
"""Entries of the Jacobian that are held at once: as many as a processor keeps near."""
_MOST_SETTLING = 30
_ROUNDING = 1e-12


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is minimised over theta: sum_i weight_i * Huber(y_i - log L_i(theta)), within bounds."""

    design: np.ndarray
    """(n, terms, p)"""
    log_losses: np.ndarray
    """(n,), or (B, n) where the problems of a batch have their own."""
    weights: np.ndarray
    """(n,) or (B, n)"""
    lower: np.ndarray
    upper: np.ndarray
    """(p,)"""
    delta: float

    def values(self, theta: np.ndarray) -> np.ndarray:
        """The objective (B,) of theta (B, p)."""
        return objective(self.log_losses - log_loss(self.design, theta), self.weights, self.delta)

    def value_and_gradient(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """Of one theta (p,), for minimisers that take one."""
        value, jacobian = log_loss_and_jacobian(self.design, theta[None])
        residual = self.log_losses - value[0]
        slope = self.weights * np.clip(residual, -self.delta, self.delta)
        return float(objective(residual, self.weights, self.delta)), -slope @ jacobian[0]

    def part(self, rows: np.ndarray) -> "Problem":
        """The problems `rows` of a batch."""
        own = {name: getattr(self, name) for name in ("log_losses", "weights")}
        own = {name: value[rows] if value.ndim == 2 else value for name, value in own.items()}
        return Problem(design=self.design, lower=self.lower, upper=self.upper, delta=self.delta, **own)


@dataclass(frozen=True, kw_only=True)
class Minima:
    """Where B descents ended."""

    theta: np.ndarray
    """(B, p)"""
    objective: np.ndarray
    """(B,)"""


def huber(residuals: np.ndarray, delta: float) -> np.ndarray:
    """r^2 / 2 up to delta, delta (|r| - delta / 2) beyond (Huber 1964); least squares for an infinite delta."""
    size = np.abs(residuals)
    within = np.minimum(size, delta)
    return within * (size - within / 2)


def objective(residuals: np.ndarray, weights: np.ndarray, delta: float) -> np.ndarray:
    """The weighted sum over the last axis."""
    return (weights * huber(residuals, delta)).sum(axis=-1)


def minimise(problem: Problem, start: np.ndarray, tolerance: float = 1e-10) -> Minima:
    """Descend from each row of `start` (B, p) until a step gains less than `tolerance` of the objective."""
    rows = max(1, _CHUNK // (problem.design.shape[0] * problem.design.shape[2]))
    parts = [np.arange(begin, min(begin + rows, len(start))) for begin in range(0, len(start), rows)]
    ended = [_descend(problem.part(part), start[part], tolerance) for part in parts]
    theta = np.concatenate(ended)
    return Minima(theta=theta, objective=problem.values(theta))


@dataclass(frozen=True, kw_only=True)
class _Here:
    """What is known of B problems where they are."""

    theta: np.ndarray
    """(B, p)"""
    residual: np.ndarray
    """(B, n)"""
    shares: np.ndarray
    """(terms, B, n)"""
    objective: np.ndarray
    """(B,)"""

    @classmethod
    def of(cls, problem: Problem, theta: np.ndarray) -> "_Here":
        value, shares = log_loss_and_shares(problem.design, theta)
        residual = problem.log_losses - value
        reached = objective(residual, problem.weights, problem.delta)
        return cls(theta=theta, residual=residual, shares=shares, objective=reached)

    def part(self, rows: np.ndarray) -> "_Here":
        return _Here(
            theta=self.theta[rows], residual=self.residual[rows], shares=self.shares[:, rows],
            objective=self.objective[rows],
        )  # fmt: skip

    def move(self, other: "_Here", rows: np.ndarray) -> None:
        """Take the place of `other` in the problems `rows`, a mask."""
        self.shares[:, rows] = other.shares[:, rows]
        for name in ("theta", "residual", "objective"):
            getattr(self, name)[rows] = getattr(other, name)[rows]


def _descend(problem: Problem, start: np.ndarray, tolerance: float) -> np.ndarray:
    """theta (B, p) at the end; problems that have ended leave the batch, so the last ones are cheap."""
    theta = np.clip(start, problem.lower, problem.upper)
    here = _Here.of(problem, theta.copy())
    damping, active = np.full(len(theta), _DAMPING), np.arange(len(theta))
    for _ in range(_MAX_STEPS):
        step, _ = _step(problem, here, damping)
        trial = _Here.of(problem, np.clip(here.theta + step, problem.lower, problem.upper))
        better, gain = trial.objective <= here.objective, here.objective - trial.objective
        ended = better & (gain <= tolerance * here.objective) | (damping > _MAX_DAMPING)
        here.move(trial, better)
        damping *= np.where(better, 0.2, 4.0)
        if ended.any():
            theta[active[ended]] = here.theta[ended]
            going = np.flatnonzero(~ended)
            problem, here, damping, active = problem.part(going), here.part(going), damping[going], active[going]
            if not len(active):
                return theta
    theta[active] = here.theta
    return theta


def settle(problem: Problem, theta: np.ndarray) -> np.ndarray:
    """A minimum (p,) to its last digits, by undamped steps while the gradient falls: near a minimum the objective does
    not change within rounding over half of them."""
    here = _Here.of(problem, theta[None])
    step, descent = _step(problem, here, np.zeros(1))
    for _ in range(_MOST_SETTLING):
        trial = _Here.of(problem, np.clip(here.theta + step, problem.lower, problem.upper))
        step, steeper = _step(problem, trial, np.zeros(1))
        is_lower = trial.objective[0] <= here.objective[0] * (1 + _ROUNDING)
        if not (is_lower and np.abs(steeper).max() < np.abs(descent).max()):
            break
        here, descent = trial, steeper
    return here.theta[0]


def _step(problem: Problem, here: _Here, damping: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A damped step (B, p), and the descent that it follows; parameters held by a bound do not move.

    The curvature is Newton's, to which residuals beyond delta add nothing, and the more of the reweighted one, to
    which they add delta / |r|, the stronger the damping.
    """
    slopes = derivatives(problem.design, here.shares)
    size = np.maximum(np.abs(here.residual), 1e-300)
    reweighted = np.minimum(1, problem.delta / size)
    pull = problem.weights * reweighted * here.residual
    share = np.minimum(1, damping / _DAMPING)[:, None]
    bend = problem.weights * np.where(size <= problem.delta, 1.0, share * reweighted)
    descent = (slopes @ pull[..., None])[..., 0]
    curvature = (slopes * bend[:, None]) @ np.swapaxes(slopes, 1, 2)
    theta = here.theta
    held = (theta <= problem.lower) & (descent < 0) | (theta >= problem.upper) & (descent > 0)
    descent = np.where(held, 0, descent)
    curvature = np.where(held[:, :, None] | held[:, None, :], 0, curvature)
    diagonal = np.einsum("bii->bi", curvature)
    ridge = damping[:, None] * diagonal + 1e-12 * diagonal.max(axis=1, keepdims=True) + 1e-300
    system = curvature + np.where(held, 1, ridge)[:, :, None] * np.eye(theta.shape[1])
    return np.linalg.solve(system, descent[..., None])[..., 0], descent
