"""The next run: where within a budget one more run would shorten an interval most.

A run at x measures log L(x) with a run's noise. Over the draws of a fit, which stand for what is not known of the law,
the variance of a number q that is left after it is var q - cov(q, log L(x))^2 / (var log L(x) + noise^2): Bayes' rule
for normal variables, and the one-step choice of Bayesian experimental design (Chaloner & Verdinelli 1995, Stat. Sci.
10:273).
"""

from dataclasses import dataclass

import numpy as np

from helpers.analysis.fits.allocation import FLOPS, exponent_of_compute
from helpers.analysis.fits.intervals import Draws
from helpers.analysis.fits.laws import log_loss

_NUM_CANDIDATES = 61
_BEYOND = 10.0
"""How many times smaller or larger than the sizes of the table a run may be, where the budget allows it."""


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """The run, and what it would leave of a parameter's standard error."""

    parameter: str
    scales: tuple[float, ...]
    share_left: float
    """Of the standard error."""
    share_left_at_worst: float
    """By the least useful run of the same budget."""


def suggest(draws: Draws, budget: float) -> list[Suggestion]:
    """For each free exponent, E, and a where the law has one: the best run of `budget`, which is 6 N D in FLOPs for a
    law of N and D (the budget is spent), and the largest x for a law of x.

    ValueError for several arms, a law of other scales, and a budget whose runs lie far from those of the table.
    """
    law = draws.fit.law
    if law.arms != ("",) or [term.scale for term in law.terms] not in (["x"], ["N", "D"]):
        raise ValueError(f"suggest = {budget:g} is for one arm and a law of x, or of N and D; leave it out")
    candidates = _candidates(draws, budget)
    noise = float(draws.noise.std())
    predicted = log_loss(law.design(candidates, np.full(len(candidates), "")), draws.theta)
    predicted = predicted - predicted.mean(axis=0)
    total = (predicted**2).mean(axis=0) + noise**2
    found = []
    for name, values in _targets(draws).items():
        values = values - values.mean()
        variance = float((values**2).mean())
        if variance == 0 or not total.min() > 0:
            continue
        gain = (values @ predicted / len(values)) ** 2 / total
        left = np.sqrt(np.maximum(1 - gain / variance, 0.0))
        best = int(left.argmin())
        found.append(
            Suggestion(
                parameter=name, scales=tuple(candidates[best].tolist()), share_left=float(left[best]),
                share_left_at_worst=float(left.max()),
            )
        )  # fmt: skip
    return found


def _candidates(draws: Draws, budget: float) -> np.ndarray:
    """(M, scales) within `_BEYOND` of the table's own sizes."""
    scales = draws.fit.points.scales
    low, high = scales.min(axis=0) / _BEYOND, scales.max(axis=0) * _BEYOND
    if scales.shape[1] == 1:
        low, high = float(low[0]), min(float(high[0]), budget)
    else:  # N such that D = C / (6 N) is also near the table
        low, high = max(low[0], budget / FLOPS / high[1]), min(high[0], budget / FLOPS / low[1])
    if not low < high:
        raise ValueError(
            f"suggest = {budget:g} buys no run within {_BEYOND:g} times the sizes of the table; use another"
        )
    first = np.geomspace(low, high, _NUM_CANDIDATES)
    return first[:, None] if scales.shape[1] == 1 else np.stack([first, budget / FLOPS / first], axis=1)


def _targets(draws: Draws) -> dict[str, np.ndarray]:
    """The draws of each free exponent and of log E, and of a."""
    law = draws.fit.law
    coefficients = {term.coefficient for term in law.terms}
    places = [place for place, name in enumerate(law.names) if name not in coefficients and not law.is_fixed[place]]
    targets = {law.names[place]: draws.theta[:, place] for place in places}
    if len(law.terms) == 2:
        targets["a = beta / (alpha + beta)"] = exponent_of_compute(draws, draws.theta)
    return targets
