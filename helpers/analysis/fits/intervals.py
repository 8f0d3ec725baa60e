"""Intervals by fitting other tables: pairs for many configurations, drawn noise or wild clusters for small grids.

With many configurations, clusters of runs are drawn again with replacement and the ends are percentiles. With few,
drawing again would lose scales and with them the exponent, so the design stays. Where runs are clusters for no other
reason than their scale, noise of the size that the residuals have is drawn anew: one size for all runs, on the degrees
of freedom that the fit leaves, and one for configurations too where they differ from the law by more than their seeds
do. The percentile ends are stretched by Student's t over the normal: for a straight line they are the textbook's.

Where clusters are named, or hold runs of several arms, each cluster's residuals, those of a fit without it, are given
one random factor (Wu 1986; the six points of Webb 2023, Can. J. Econ. 56:839). The half-width is Student's t times the
spread of the draws, less what these overstate, on the degrees of freedom of the clusters that decide the number
(`leverage.py`); the percentiles tell how much of it lies on either side. All draws are fitted as the table was.
`python -m benchmarks.fit_coverage` measures what these intervals cover, and what scipy's curve_fit does.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from scipy import stats

from helpers.analysis.estimates import CONFIDENCE, Estimate
from helpers.analysis.fits.coordinates import Coordinates
from helpers.analysis.fits.fit import Fit, fit
from helpers.analysis.fits.laws import Law, log_loss
from helpers.analysis.fits.leverage import Accuracy, Leverage
from helpers.analysis.fits.objective import minimise
from helpers.analysis.fits.points import Points
from helpers.analysis.fits.scale import TUNING, far_out

MANY_CLUSTERS = 30
"""From here on pairs are drawn again."""
_POOLED = 0.25
"""The p of an F test above which configurations are taken not to differ from the law by more than their seeds do
(Bancroft 1964, Biometrics 20:427): a test at 5 % would pool what differs half as much as seeds."""
NUM_DRAWS = 1000
_TOLERANCE = 1e-7
"""Of the objective, for one draw: its minimum is then known to 1 % of the spread between draws, or better."""
_SIX_POINTS = np.sqrt([0.5, 1.0, 1.5])
_AT_BOUND = 1e-9
_TAIL = (1 - CONFIDENCE) / 2
_STEP = 1e-5
"""Of a parameter, for the gradient of a number."""

Statistic = Callable[[np.ndarray], np.ndarray]
"""theta (B, p) -> one number for each of them (B,)."""


@dataclass(frozen=True, kw_only=True)
class Draws:
    """A fit, and the same fit to resamples of its points."""

    fit: Fit
    method: Literal["pairs", "wild", "noise"]
    theta: np.ndarray
    """(num_draws, p)"""
    noise: np.ndarray
    """(num_draws,): a run's own deviation in log loss, drawn from the residuals."""

    freedom: float | Leverage
    """The degrees of freedom of drawn noise; percentiles of pairs have none to correct for. Wild draws have those of
    each number by the clusters that decide it."""

    def accuracy(self, statistic: Statistic) -> Accuracy:
        """Of the spread of a number made of the parameters."""
        if not isinstance(self.freedom, Leverage):
            return Accuracy(1.0, self.freedom)
        theta = self.fit.theta
        steps = _STEP * np.diag(np.maximum(np.abs(theta), 1))
        with np.errstate(all="ignore"):  # a number that is infinite here has no gradient
            gradient = (statistic(theta + steps) - statistic(theta - steps)) / (2 * np.diag(steps))
        return self.freedom.accuracy(gradient)

    def estimate(self, statistic: Statistic) -> Estimate:
        """A number made of the parameters, with its interval."""
        return self._estimate(statistic, self.accuracy(statistic))

    def _estimate(self, statistic: Statistic, accuracy: Accuracy) -> Estimate:
        value, draws = float(statistic(self.fit.theta[None])[0]), statistic(self.theta)
        error, freedom = _spread(draws) / accuracy.overstated, accuracy.degrees_of_freedom
        low, high = _ends(value, draws, self._stretch(draws, error, freedom))
        plain = Estimate.of(value, error, freedom, self.fit.num_points)
        return dataclasses.replace(plain, low=low, high=high)

    def _stretch(self, draws: np.ndarray, error: float, freedom: float) -> float:
        """Of the percentiles: t over normal, or what makes them t errors apart from their middle. A few clusters have
        percentiles nearer than normal ones, and draws that lie on a bound may have no spread."""
        if not isinstance(self.freedom, Leverage):
            return _t_over_normal(freedom)
        t = float(stats.t.ppf(1 - _TAIL, freedom))
        low, high = np.quantile(draws, [_TAIL, 1 - _TAIL])
        return max(2 * t * error / float(high - low), 1.0) if high > low else 1.0

    def parameters(self) -> dict[str, Estimate]:
        """Each parameter as the equation writes it; coefficients and E have their ends from the log."""
        law = self.fit.law
        columns = [partial(_column, place) for place in range(len(law.names))]
        accuracies = [self.accuracy(column) for column in columns]
        logs = [self._estimate(*known) for known in zip(columns, accuracies, strict=True)]
        low, high = (law.natural(np.array([getattr(log, end) for log in logs])) for end in ("low", "high"))
        if law.has_offset:  # whose exponents are not negative, which a stretched end does not know
            low = np.maximum(low, 0)
        with np.errstate(over="ignore", invalid="ignore"):
            spreads = np.array([_spread(draws) for draws in law.natural(self.theta).T])
        errors = spreads / [accuracy.overstated for accuracy in accuracies]
        return {
            name: dataclasses.replace(
                logs[place], value=value, low=float(low[place]), high=float(high[place]),
                standard_error=float(errors[place]),
            )
            for place, (name, value) in enumerate(self.fit.params.items())
        }  # fmt: skip

    def shares_at_bounds(self) -> np.ndarray:
        """(2, p) the shares of draws on the lower and on the upper bound of each parameter; 0 if it is fixed."""
        bounds = Coordinates.of(self.fit.law, self.fit.points)
        centred = bounds.centred(self.theta)
        held = np.stack([centred <= bounds.lower + _AT_BOUND, centred >= bounds.upper - _AT_BOUND]).mean(axis=1)
        return np.where(self.fit.law.is_fixed, 0.0, held)

    @property
    def warnings(self) -> tuple[str, ...]:
        """The fit's, and words on intervals that end where the parameters may go no further."""
        law, held = self.fit.law, self.shares_at_bounds().sum(axis=0)
        names = [f"{name} ({share:.0%})" for name, share in zip(law.names, held, strict=True) if share > _TAIL]
        words = f"draws end on a bound, so the points hardly tell these parameters: {', '.join(names)}"
        return (*self.fit.warnings, words) if names else self.fit.warnings

    def correlations(self) -> np.ndarray:
        """(p, p) between the draws of theta; 0 where a parameter does not move."""
        centred = self.theta - self.theta.mean(axis=0)
        spread = np.sqrt((centred**2).sum(axis=0))
        return (centred.T @ centred) / np.where(np.outer(spread, spread) == 0, np.inf, np.outer(spread, spread))

    def predict(self, scales: np.ndarray, arms: Sequence[str] | None = None) -> list[Estimate]:
        """The loss of one further run at each of `scales` (m, scales): what the parameters leave open and the noise of
        the run itself. The standard error is that of log loss."""
        scales = np.asarray(scales, dtype=float).reshape(-1, len(self.fit.law.terms))
        labels = np.full(len(scales), "") if arms is None else np.asarray(arms)
        design = self.fit.law.design(scales, labels)
        return [self._prediction(lambda theta, row=row: log_loss(row[None], theta)[:, 0]) for row in design]

    def _prediction(self, curve: Statistic) -> Estimate:
        """The exponential of `curve`, with a run's noise, which all runs tell."""
        log_value, accuracy = float(curve(self.fit.theta[None])[0]), self.accuracy(curve)
        of_curve, freedom = (curve(self.theta) - log_value) / accuracy.overstated, accuracy.degrees_of_freedom
        if isinstance(self.freedom, Leverage):
            parts = np.array([of_curve.var(ddof=1), self.noise.var(ddof=1)])
            each = np.array([freedom, self.fit.num_points - self.fit.law.num_free])
            freedom = float(parts.sum() ** 2 / (parts**2 / each).sum()) if parts.any() else freedom
        draws = log_value + of_curve + self.noise
        low, high = _exp(_ends(log_value, draws, _t_over_normal(freedom)))
        plain = Estimate.of(log_value, float(draws.std(ddof=1)), freedom, self.fit.num_points)
        return dataclasses.replace(plain, value=float(np.exp(log_value)), low=float(low), high=float(high))


def infer(points: Points, law: Law, num_draws: int = NUM_DRAWS, seed: int = 0, delta: float | None = None) -> Draws:
    """The fit and its draws, by what the number of clusters and their reason allow; the fit is the same by all."""
    fitted = fit(points, law, delta)
    if points.num_clusters >= MANY_CLUSTERS:
        return draw_pairs(fitted, num_draws, seed)
    if law.arms == ("",) and np.array_equal(points.clusters, points.configurations):
        return draw_noise(fitted, num_draws, seed)
    return draw_wild(fitted, num_draws, seed)


def draw_noise(fitted: Fit, num_draws: int = NUM_DRAWS, seed: int = 0) -> Draws:
    """The fitted losses plus normal noise of the size that the residuals have, each draw fitted."""
    _require_drawable(num_draws, seed)
    rng, points = np.random.default_rng(seed), fitted.points
    own, shared, freedom = noise_parts(fitted)
    shocks = own * rng.normal(size=(num_draws, len(points))) / np.sqrt(points.weights)
    shocks += shared * rng.normal(size=(num_draws, points.num_clusters))[:, points.clusters]
    theta = _refit(fitted, num_draws, log_losses=fitted.fitted + shocks)
    noise = np.hypot(own, shared) * rng.normal(size=num_draws)
    return Draws(fit=fitted, method="noise", theta=theta, noise=noise, freedom=freedom)


def noise_parts(fitted: Fit) -> tuple[float, float, int]:
    """The deviations of log loss of a run of weight 1 and of its configuration, and the degrees of freedom of both.

    Where rows lie far out, they count as `TUNING` scales, but for least squares, which they move as far as they lie;
    where none does, the standard deviation is told best by squares. Configurations are given noise of their own where
    their means lie further from the law than seeds let them (F test at `_POOLED`); its size is then told by
    configurations less parameters.
    """
    points, num_params = fitted.points, fitted.law.num_free
    freedom, groups = len(points) - num_params, points.configurations
    within, between = len(points) - points.num_clusters, points.num_clusters - num_params
    far = far_out(fitted.residuals, points.weights, fitted.scale, num_params)
    is_robust = len(far) > 0 and not np.isinf(fitted.delta)
    scale, most = (fitted.scale, TUNING * fitted.scale) if is_robust else (fitted.deviation, np.inf)
    scale = scale if fitted.scale else 0.0  # all but a few residuals are rounding
    if within < 1 or between < 1 or scale == 0:
        return scale, 0.0, freedom
    clipped = np.clip(fitted.residuals * np.sqrt(points.weights), -most, most)
    counts = np.bincount(groups)
    means = np.bincount(groups, clipped) / counts
    of_seeds = float(((clipped - means[groups]) ** 2).sum()) / within
    of_groups = float((counts * means**2).sum()) / between
    if of_seeds == 0 or stats.f.sf(of_groups / of_seeds, between, within) > _POOLED:
        return (scale, 0.0, freedom) if of_seeds else (0.0, scale, between)
    unit = scale / np.sqrt((clipped**2).sum() / freedom)  # clipping makes them smaller
    each = len(points) / points.num_clusters
    return unit * np.sqrt(of_seeds), unit * np.sqrt((of_groups - of_seeds) / each), between


def draw_pairs(fitted: Fit, num_draws: int = NUM_DRAWS, seed: int = 0) -> Draws:
    """Clusters of runs drawn again with replacement, each draw fitted from the fit's own parameters."""
    _require_drawable(num_draws, seed)
    rng, points = np.random.default_rng(seed), fitted.points
    num_clusters = points.num_clusters
    counts = rng.multinomial(num_clusters, np.full(num_clusters, 1 / num_clusters), size=num_draws)
    theta = _refit(fitted, num_draws, weights=counts[:, points.clusters].astype(float))
    noise = _noise(fitted, num_draws, rng)
    return Draws(fit=fitted, method="pairs", theta=theta, noise=noise, freedom=np.inf)


def draw_wild(fitted: Fit, num_draws: int = NUM_DRAWS, seed: int = 0) -> Draws:
    """The fitted losses plus each cluster's residuals times a factor of its own, each draw fitted.

    ValueError for no more clusters than parameters: nothing is then left to tell the noise from.
    """
    _require_drawable(num_draws, seed)
    num_clusters, num_params = fitted.points.num_clusters, fitted.law.num_free
    if num_clusters <= num_params:
        raise ValueError(
            f"{num_clusters} clusters cannot give intervals for {num_params} parameters; use at least {num_params + 1}:"
            " more sizes, or seeds that are clusters of their own"
        )
    rng, leverage = np.random.default_rng(seed), Leverage.of(fitted)
    shocks = wild_factors(fitted.points, num_draws, rng) * leverage.deleted(fitted.residuals)
    theta = _refit(fitted, num_draws, log_losses=fitted.fitted + shocks)
    noise = _noise(fitted, num_draws, rng)
    return Draws(fit=fitted, method="wild", theta=theta, noise=noise, freedom=leverage)


def wild_factors(points: Points, num_draws: int, rng: np.random.Generator) -> np.ndarray:
    """(num_draws, n): for each draw one factor a cluster, of mean 0 and variance 1 (Webb's six points)."""
    six = np.concatenate([-_SIX_POINTS, _SIX_POINTS])
    return rng.choice(six, size=(num_draws, points.num_clusters))[:, points.clusters]


def _refit(
    fitted: Fit, num_draws: int, log_losses: np.ndarray | None = None, weights: np.ndarray | None = None
) -> np.ndarray:
    """theta (num_draws, p) of resamples, from the fit's own parameters."""
    coordinates = Coordinates.of(fitted.law, fitted.points)
    middle = float(np.log(fitted.points.losses).mean())
    problem = coordinates.problem(fitted.delta, None if log_losses is None else log_losses - middle, weights)
    begin = np.broadcast_to(coordinates.centred(fitted.theta), (num_draws, len(fitted.theta)))
    return coordinates.theta(minimise(problem, begin, _TOLERANCE).theta)


def _noise(fitted: Fit, num_draws: int, rng: np.random.Generator) -> np.ndarray:
    """Residuals drawn again, either sign alike, with the spread that n - p degrees of freedom give them."""
    spread = np.sqrt(fitted.num_points / (fitted.num_points - fitted.law.num_free))
    return rng.choice(fitted.residuals, num_draws) * rng.choice([-1.0, 1.0], num_draws) * spread


def _column(place: int, theta: np.ndarray) -> np.ndarray:
    return theta[:, place]


def _spread(draws: np.ndarray) -> float:
    """The standard deviation of draws, as their middle 68 % tell it: a few draws at a bound, where a coefficient may be
    any number, do not make it. Of skewed draws it is the smaller: beta's of Epoch AI's points 0.018, where the standard
    deviation is 0.021."""
    low, high = np.quantile(draws, stats.norm.cdf([-1.0, 1.0]))
    return float(high - low) / 2


def _t_over_normal(degrees_of_freedom: float) -> float:
    """Of the quantiles at the ends."""
    return float(stats.t.ppf(1 - _TAIL, degrees_of_freedom) / stats.norm.ppf(1 - _TAIL))


def _ends(value: float, draws: np.ndarray, stretch: float) -> tuple[float, float]:
    """The percentiles, stretched about `value`."""
    low, high = value + stretch * (np.quantile(draws, [_TAIL, 1 - _TAIL]) - value)
    return min(float(low), value), max(float(high), value)  # draws may all lie on one side, as at a bound


def _exp(logs: tuple[float, float]) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.exp(logs)


def _require_drawable(num_draws: int, seed: int) -> None:
    if seed < 0:
        raise ValueError(f"seed = {seed} is not possible; use 0 or more")
    if num_draws < 100:
        raise ValueError(f"bootstrap = {num_draws} is too few for the ends of a 95 % interval; use 100 to 100000")
