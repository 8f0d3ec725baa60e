"""Forms of a law of N and D, beside the sum of two terms: functions of log loss that no sum of terms can be.

Repetition needs the unique tokens U of each run, of which D were seen. Sizes are relative to their geometric means
and losses to theirs, so that a log coefficient is the log of a term at the middle of the data.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_LOG, _EXPONENT = (-10.0, 3.0), (0.0, 10.0)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Logs of N, D and U of each run (n,), relative to the geometric means of N and of D."""

    n: np.ndarray
    d: np.ndarray
    u: np.ndarray | None = None

    @property
    def epochs(self) -> np.ndarray:
        """D / U, at least 1."""
        return np.exp(np.maximum(self.d - self.u, 0))


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A form of the law: what it adds to the five parameters (E, A, alpha, B, beta) of the sum of two terms."""

    name: str
    equation: str
    extra: tuple[str, ...]
    is_exponent: tuple[bool, ...]
    """Of `extra`, whose others are logs."""
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    begin: tuple[tuple[float, ...], ...]
    """Values of `extra` from which to descend."""
    log_loss: Callable[[np.ndarray, Sizes], np.ndarray]
    """theta (p,) and sizes -> (n,)."""
    has_repetition: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return ("E", "A", "alpha", "B", "beta", *self.extra)

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        plain = (_LOG, _LOG, _EXPONENT, _LOG, _EXPONENT)
        return tuple(
            np.array([own[side] for own in plain] + list(ends)) for side, ends in enumerate((self.lower, self.upper))
        )


def _two_terms(theta: np.ndarray, n: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The logs of A N^-alpha and of B D^-beta."""
    _, log_a, alpha, log_b, beta = theta[:5]
    return log_a - alpha * n, log_b - beta * d


def _sum(theta: np.ndarray, sizes: Sizes) -> np.ndarray:
    return np.logaddexp(theta[0], np.logaddexp(*_two_terms(theta, sizes.n, sizes.d)))


def _power_mean(theta: np.ndarray, sizes: Sizes) -> np.ndarray:
    power = np.exp(theta[5])
    first, second = _two_terms(theta, sizes.n, sizes.d)
    return np.logaddexp(theta[0], np.logaddexp(power * first, power * second) / power)


def _effective_data(theta: np.ndarray, sizes: Sizes) -> np.ndarray:
    return np.logaddexp(theta[0], np.logaddexp(*_two_terms(theta, sizes.n, log_effective(sizes, theta[5]))))


def log_effective(sizes: Sizes, log_worth: float) -> np.ndarray:
    """log D' of D' = U + U R (1 - exp(-r / R)), r = D / U - 1 repetitions (Muennighoff et al. 2023, eq. 5)."""
    worth = np.exp(log_worth)
    return np.minimum(sizes.u, sizes.d) + np.log1p(-worth * np.expm1(-(sizes.epochs - 1) / worth))


def _between(theta: np.ndarray, sizes: Sizes) -> np.ndarray:
    """Between E without a limit and L0 untrained; N is too large for the unique data by the third term."""
    first, second = _two_terms(theta, sizes.n, sizes.d)
    log_c, gamma, delta, log_range = theta[5:]
    third = log_c + gamma * sizes.n - delta * sizes.u
    log_h = np.logaddexp(np.logaddexp(first, second), third) - log_range
    return np.logaddexp(theta[0], log_range - np.logaddexp(0, -log_h))


ADDITIVE = Shape(
    name="sum", equation="L = E + A N^-alpha + B D^-beta",
    extra=(), is_exponent=(), lower=(), upper=(), begin=((),), log_loss=_sum,
)  # fmt: skip
POWER_MEAN = Shape(
    name="power mean", equation="L = E + ((A N^-alpha)^q + (B D^-beta)^q)^(1/q)",
    extra=("q",), is_exponent=(False,), lower=(-2.0,), upper=(3.0,), begin=((-0.7,), (0.0,), (0.7,)),
    log_loss=_power_mean,
)  # fmt: skip
EFFECTIVE_DATA = Shape(
    name="effective data", equation="L = E + A N^-alpha + B D'^-beta, D' = U + U R (1 - exp(-(D / U - 1) / R))",
    extra=("R",), is_exponent=(False,), lower=(-2.5,), upper=(7.0,), begin=((0.0,), (1.5,), (3.0,), (5.0,)),
    log_loss=_effective_data, has_repetition=True,
)  # fmt: skip
BETWEEN = Shape(
    name="between E and L0",
    equation="L = E + (L0 - E) h / (1 + h), (L0 - E) h = A N^-alpha + B D^-beta + C N^gamma U^-delta",
    extra=("C", "gamma", "delta", "L0-E"), is_exponent=(False, True, True, False),
    lower=(_LOG[0], 0.0, 0.0, -1.0), upper=(_LOG[1], 10.0, 10.0, 4.0),
    begin=((-2.0, 0.3, 0.5, 1.5), (-4.0, 0.5, 1.0, 1.0), (-6.0, 0.3, 0.3, 3.0)),
    log_loss=_between, has_repetition=True,
)  # fmt: skip
"""arXiv 2605.09189, written with the terms of the others."""
SHAPES = (ADDITIVE, POWER_MEAN, EFFECTIVE_DATA, BETWEEN)
