"""What a law of N and D says of a budget: the best model and data for C FLOPs, with C = 6 N D.

For L = E + A N^-alpha + B D^-beta (Hoffmann et al. 2022, eq. 4): N_opt = G (C / 6)^a and D_opt = G^-1 (C / 6)^(1 - a),
where a = beta / (alpha + beta) and G = (alpha A / (beta B))^(1 / (alpha + beta)).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from helpers.analysis.estimates import Estimate
from helpers.analysis.fits.intervals import Draws

FLOPS = 6.0
"""FLOPs a parameter and token."""


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """The best split of one budget. N, D and D / N have their ends from the log."""

    flops: float
    num_params: Estimate
    num_tokens: Estimate
    tokens_per_param: Estimate
    loss: Estimate
    """The mean loss there, without the noise of a run."""


def compute_exponent(draws: Draws, arm: str = "") -> Estimate:
    """a = beta / (alpha + beta): the power of C by which the best N grows."""
    return draws.estimate(lambda theta: exponent_of_compute(draws, theta, arm))


def allocate(draws: Draws, flops: float, arm: str = "") -> Allocation:
    """The best split of a budget by the fit and by each of its draws."""
    log_budget = float(np.log(flops / FLOPS))

    def log_params(theta: np.ndarray) -> np.ndarray:
        alpha, beta, log_a, log_b = _parts(draws, theta, arm)
        with np.errstate(divide="ignore", invalid="ignore"):
            log_g = (np.log(alpha) + log_a - np.log(beta) - log_b) / (alpha + beta)
            return _known(log_g + beta / (alpha + beta) * log_budget)

    def loss(theta: np.ndarray) -> np.ndarray:
        log_n = log_params(theta)
        alpha, beta, log_a, log_b = _parts(draws, theta, arm)
        offset = np.exp(theta[:, draws.fit.law.index("E", arm)])
        with np.errstate(over="ignore"):
            return _known(offset + np.exp(log_a - alpha * log_n) + np.exp(log_b - beta * (log_budget - log_n)))

    return Allocation(
        flops=flops,
        num_params=_exp(draws, log_params),
        num_tokens=_exp(draws, lambda theta: log_budget - log_params(theta)),
        tokens_per_param=_exp(draws, lambda theta: log_budget - 2 * log_params(theta)),
        loss=draws.estimate(loss),
    )


def exponent_of_compute(draws: Draws, theta: np.ndarray, arm: str = "") -> np.ndarray:
    """a (B,) of each theta (B, p)."""
    alpha, beta, *_ = _parts(draws, theta, arm)
    with np.errstate(divide="ignore", invalid="ignore"):
        return _known(beta / (alpha + beta), 0.5)


def _parts(draws: Draws, theta: np.ndarray, arm: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """alpha, beta, log A, log B, each (B,)."""
    law = draws.fit.law
    first, second = law.terms
    names = (first.exponent, second.exponent, first.coefficient, second.coefficient)
    return tuple(theta[:, law.index(name, arm)] for name in names)


def _known(values: np.ndarray, otherwise: float = 1e300) -> np.ndarray:
    """A draw with an exponent of 0 has no best split: it counts as the furthest."""
    return np.nan_to_num(values, nan=otherwise, posinf=1e300, neginf=-1e300)


def _exp(draws: Draws, log: Callable[[np.ndarray], np.ndarray]) -> Estimate:
    estimate = draws.estimate(log)
    with np.errstate(over="ignore", under="ignore"):
        value, low, high = (float(np.exp(end)) for end in (estimate.value, estimate.low, estimate.high))
    return Estimate(
        value=value, low=low, high=high, standard_error=estimate.standard_error,
        degrees_of_freedom=estimate.degrees_of_freedom, p_value=estimate.p_value, num_runs=estimate.num_runs,
    )  # fmt: skip
