"""Statistical power: the smallest effect that a t test detects. Light enough for a plan, which loads no scipy."""

import math

POWER = 0.8
LEVEL = 0.05


def smallest_detectable(standard_error: float, degrees_of_freedom: int) -> float:
    """The effect that a two-sided t test at 5 % detects in 80 % of experiments: (t_.975 + t_.8) standard errors.

    Infinite without a degree of freedom.
    """
    if degrees_of_freedom < 1:
        return math.inf
    quantiles = t_quantile(1 - LEVEL / 2, degrees_of_freedom) + t_quantile(POWER, degrees_of_freedom)
    return quantiles * standard_error


def t_quantile(probability: float, degrees_of_freedom: int) -> float:
    """The quantile of Student's t above its median, for whole degrees of freedom: `_within` solved by bisection."""
    low, high = 0.0, math.pi / 2
    while low < (middle := (low + high) / 2) < high:
        if _within(middle, degrees_of_freedom) < 2 * probability - 1:
            low = middle
        else:
            high = middle
    return math.tan(low) * math.sqrt(degrees_of_freedom)


def _within(theta: float, degrees_of_freedom: int) -> float:
    """P(|t| <= tan(theta) sqrt(n)): the finite series for whole n (Abramowitz & Stegun 1964, eqs. 26.7.3, 26.7.4)."""
    n, sine, cosine = degrees_of_freedom, math.sin(theta), math.cos(theta)
    if n % 2 == 0:
        term, total = 1.0, 1.0
        for k in range(2, n, 2):
            term *= cosine**2 * (k - 1) / k
            total += term
        return sine * total
    term, total = cosine, cosine if n > 1 else 0.0
    for k in range(3, n, 2):
        term *= cosine**2 * (k - 1) / k
        total += term
    return 2 / math.pi * (theta + sine * total)
