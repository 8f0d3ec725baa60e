"""The objective: the sum of Huber losses of the residuals of log L, and its minimum for many problems at once.

The sum, not the mean: a mean near 1e-4 is below the tolerance at which minimisers stop. Huber's loss is minimised by
reweighted least squares (Holland & Welsch 1977) inside Levenberg's and Marquardt's damping: each accepted step lowers
the objective, and thousands of starts or resamples are minimised together as one array.
"""

from dataclasses import dataclass

import numpy as np

from helpers.analysis.fits.laws import log_loss, log_loss_and_jacobian

HUBER = 1e-3
"""Hoffmann et al. 2022, D.3: residuals of log L beyond this count by their size, not their square."""
LEAST_SQUARES = np.inf
_MAX_STEPS = 500
_DAMPING = 1e-3
_MAX_DAMPING = 1e12
_CHUNK = 4_000_000
"""Entries of the Jacobian that are held at once."""


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


def _descend(problem: Problem, start: np.ndarray, tolerance: float) -> np.ndarray:
    """theta (B, p) at the end; problems that have ended leave the batch, so the last ones are cheap."""
    theta = np.clip(start, problem.lower, problem.upper)
    damping, active = np.full(len(theta), _DAMPING), np.arange(len(theta))
    for _ in range(_MAX_STEPS):
        here = problem.part(active)
        before, step = _step(here, theta[active], damping[active])
        trial = np.clip(theta[active] + step, problem.lower, problem.upper)
        after = here.values(trial)
        better = after <= before
        theta[active[better]] = trial[better]
        damping[active] *= np.where(better, 0.2, 4.0)
        ended = better & (before - after <= tolerance * before) | (damping[active] > _MAX_DAMPING)
        active = active[~ended]
        if not len(active):
            break
    return theta


def _step(problem: Problem, theta: np.ndarray, damping: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The objective (B,) and a damped Gauss-Newton step (B, p); parameters held by a bound do not move."""
    value, jacobian = log_loss_and_jacobian(problem.design, theta)
    residual = problem.log_losses - value
    weights = problem.weights * np.minimum(1, problem.delta / np.maximum(np.abs(residual), 1e-300))
    weighted = np.swapaxes(jacobian * np.broadcast_to(weights, residual.shape)[..., None], 1, 2)
    descent, curvature = (weighted @ residual[..., None])[..., 0], weighted @ jacobian
    held = (theta <= problem.lower) & (descent < 0) | (theta >= problem.upper) & (descent > 0)
    descent = np.where(held, 0, descent)
    curvature = np.where(held[:, :, None] | held[:, None, :], 0, curvature)
    diagonal = np.einsum("bii->bi", curvature)
    ridge = damping[:, None] * diagonal + 1e-12 * diagonal.max(axis=1, keepdims=True) + 1e-300
    system = curvature + np.where(held, 1, ridge)[:, :, None] * np.eye(theta.shape[1])
    step = np.linalg.solve(system, descent[..., None])[..., 0]
    return objective(residual, problem.weights, problem.delta), step
