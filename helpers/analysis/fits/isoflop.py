"""Iso-FLOP curves: the best N of each budget from its runs alone, by a parabola or a cubic of log loss in log N.

Approach 2 of Hoffmann et al. 2022: no law of N and D is assumed, so it is a check of one. A parabola is biased where
its runs lie to one side of the best N and where alpha is not beta. So the two are not compared as if each were true:
losses are drawn from the fitted law at the runs' own sizes, the same curves are fitted to them, and the question is
whether the curves of the table could be among those.
"""

from dataclasses import dataclass

import numpy as np

from helpers.analysis.estimates import CONFIDENCE, Estimate
from helpers.analysis.fits.allocation import FLOPS
from helpers.analysis.fits.fit import Fit

DEGREES = {"parabola": 2, "cubic": 3}
_ALIKE = 0.12
"""Budgets whose logs follow each other more closely are one: read off a figure they differ by some per cent."""
_MOST_FAILED = 0.1
"""Of draws without a minimum, beyond which no interval is said."""
_ROUNDING = 1e-9
AGREEMENT = 0.05
"""Of a: the two agree if their difference is surely smaller."""


@dataclass(frozen=True, kw_only=True)
class IsoFlop:
    """The curves of one degree."""

    degree: int
    budgets: np.ndarray
    """(G,) in FLOPs: those with more sizes of model than the curve has parameters, and a minimum among them."""
    num_params: np.ndarray
    """(G,) the best N of each."""
    left_out: int
    """Budgets with too few sizes, or without a minimum among them."""
    exponent: Estimate
    """a of N_opt ~ C^a."""
    expected: float
    """The median that the fitted law would give, bias and all."""
    difference: Estimate
    """What the curves say less `expected`."""
    num_failed: int
    """Draws without a minimum."""

    @property
    def verdict(self) -> str:
        """Whether the law's own split is what the curves say."""
        low, high = self.difference.low, self.difference.high
        if not low <= _ROUNDING or not high >= -_ROUNDING:
            return "contradicted"
        return "supported" if max(abs(low), abs(high)) < AGREEMENT else "cannot tell"


def iso_flop(fitted: Fit, degree: int, num_draws: int = 1000, seed: int = 0) -> IsoFlop:
    """The curves of a table, and what the law that was fitted to it would make of them.

    ValueError unless two budgets or more have enough sizes of model with a minimum among them.
    """
    points = fitted.points
    log_flops = np.log(FLOPS) + np.log(points.scales).sum(axis=1)
    log_params = np.log(points.scales[:, 0])
    groups = _budgets(log_flops)
    enough = [own for own in groups if len(np.unique(log_params[own])) > degree + 1]
    log_losses = np.log(points.losses)[None]
    found = {place: _minimum(log_params[own], log_losses[:, own], degree)[0] for place, own in enumerate(enough)}
    used = [own for place, own in enumerate(enough) if np.isfinite(found[place])]
    if len(used) < 2:
        name = next(name for name, own in DEGREES.items() if own == degree)
        raise ValueError(
            f"{len(used)} of {len(groups)} budgets have {degree + 2} sizes of model or more with a minimum among them;"
            f" use runs of 2 budgets or more for iso-FLOP curves by a {name}"
        )
    middles = np.array([log_flops[own].mean() for own in used])
    best = np.array([value for value in found.values() if np.isfinite(value)])
    noise = fitted.scale * np.random.default_rng(seed).normal(size=(num_draws, len(points))) / np.sqrt(points.weights)
    drawn = np.stack([_minimum(log_params[own], (fitted.fitted + noise)[:, own], degree) for own in used], axis=1)
    slopes = _slope(middles, drawn)
    slopes = slopes[np.isfinite(slopes)]
    value, failed = float(_slope(middles, best[None])[0]), num_draws - len(slopes)
    expected = float(np.median(slopes)) if len(slopes) else float("nan")
    bad = failed > _MOST_FAILED * num_draws
    ends = np.array([-np.inf, np.inf]) if bad else np.quantile(slopes, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    spread = float("nan") if bad else float(slopes.std(ddof=1))
    return IsoFlop(
        degree=degree, budgets=np.exp(middles), num_params=np.exp(best), left_out=len(groups) - len(used),
        exponent=_about(value, ends - expected, spread, len(points)), expected=expected,
        difference=_about(value - expected, ends - expected, spread, len(points)), num_failed=failed,
    )  # fmt: skip


def _budgets(log_flops: np.ndarray) -> list[np.ndarray]:
    """The rows of each budget, from small to large: it ends where the next run has clearly more."""
    order = np.argsort(log_flops, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(log_flops[order]) > _ALIKE) + 1)


def _minimum(x: np.ndarray, log_losses: np.ndarray, degree: int) -> np.ndarray:
    """(B,) where the polynomial in x (m,) of each of `log_losses` (B, m) is lowest; NaN where it has no minimum between
    the smallest and the largest x."""
    middle, half = (x.max() + x.min()) / 2, np.ptp(x) / 2
    powers = np.vander((x - middle) / half, degree + 1, increasing=True)
    coefficients = log_losses @ np.linalg.pinv(powers).T
    b, c = coefficients[:, 1], coefficients[:, 2]
    d = coefficients[:, 3] if degree == 3 else np.zeros_like(c)
    with np.errstate(invalid="ignore", divide="ignore"):
        # The root of b + 2 c t + 3 d t^2 at which the curve bends upwards, in the form that also holds for d = 0.
        at = -b / (c + np.sqrt(c**2 - 3 * b * d))
        is_minimum = (np.abs(at) <= 1) & (2 * c + 6 * d * at > 0)
    return np.where(is_minimum, middle + half * at, np.nan)


def _slope(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(B,) slopes of straight lines through y (B, G) at x (G,)."""
    away = x - x.mean()
    return y @ away / (away @ away)


def _about(value: float, ends: np.ndarray, spread: float, num_runs: int) -> Estimate:
    plain = Estimate.of(value, spread, np.inf, num_runs)
    low, high = value - ends[1], value - ends[0]  # the error's ends, turned about the value
    return Estimate(
        value=value, low=min(float(low), value), high=max(float(high), value), standard_error=spread,
        degrees_of_freedom=plain.degrees_of_freedom, p_value=plain.p_value, num_runs=num_runs,
    )  # fmt: skip
