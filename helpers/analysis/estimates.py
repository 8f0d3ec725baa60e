"""A mean with its 95 % interval: what runs alone say of it, and what runs and the papers they were measured on say.

Were the experiment repeated, other seeds would train the runs and other papers would be drawn for evaluation. Runs of
one grid are measured on the same papers, so the spread between them holds the noise of seeds and leaves out what they
share. With D_r the number of run r of n,

    Var(mean D) = Var(D_r - D_s) / 2n + Cov(D_r, D_s),

where the first term is the sample variance over n and the second comes from papers: it is estimated from the products,
paper by paper, of the deviations of two runs (clustering by runs and by papers; Cameron, Gelbach & Miller 2011,
J. Bus. Econ. Stat. 29:238).
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats

CONFIDENCE = 0.95
LEAST_RUNS_OF_A_BAND = 3
"""Of two runs a band is 13 standard errors to each side: it covers the page, and says nothing."""
_UPPER = (1 + CONFIDENCE) / 2
_LOWEST_LOG_TAIL = -200.0
"""A probability of 1e-87. Far below it scipy's quantile of Student's t is wrong: isf(1e-300, 3) is -inf (1.17.1)."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with its 95 % interval, all in its own unit."""

    value: float
    low: float
    high: float
    standard_error: float
    degrees_of_freedom: float
    p_value: float
    """Two-sided, against 0."""
    num_runs: int

    @classmethod
    def of(cls, value: float, standard_error: float, degrees_of_freedom: float, num_runs: int) -> "Estimate":
        """The estimate with Student's t interval; infinite where there is no degree of freedom."""
        if degrees_of_freedom < 1:
            nan = float("nan")
            return cls(
                value=value, low=-np.inf, high=np.inf, standard_error=nan,
                degrees_of_freedom=0, p_value=nan, num_runs=num_runs,
            )  # fmt: skip
        half = float(stats.t.ppf(_UPPER, degrees_of_freedom)) * standard_error
        statistic = abs(value) / standard_error if standard_error else (np.inf if value else 0.0)
        return cls(
            value=value, low=value - half, high=value + half, standard_error=standard_error,
            degrees_of_freedom=degrees_of_freedom, p_value=float(2 * stats.t.sf(statistic, degrees_of_freedom)),
            num_runs=num_runs,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Spread:
    """The variance of a mean in parts, each with degrees of freedom of its own: those of runs, and those of papers.

    A quantile is the mean of the parts' Student quantiles, weighted by the parts (Cochran & Cox 1950, Experimental
    Designs). With three runs the interval covers 95 to 97 % whatever the parts, where Satterthwaite's degrees of
    freedom, taken from a variance of three runs, cover as little as 92 %.
    """

    variances: tuple[float, ...]
    freedoms: tuple[float, ...]

    @property
    def error(self) -> float:
        return float(np.sqrt(sum(self.variances)))

    def quantile(self, probability: float) -> float:
        """In standard errors."""
        return self._beyond_which(1 - probability)

    def beyond(self, statistic: float) -> float:
        """P(t > statistic) for a statistic of 0 or more: the level at which the quantile is the statistic. The part
        with few degrees of freedom rules far in the tail, which no single Student's t knows."""
        if not statistic > 0:
            return 0.5
        lowest, highest = _LOWEST_LOG_TAIL, float(np.log(0.5))
        if statistic >= self._beyond_which(float(np.exp(lowest))):
            return 0.0
        return float(
            np.exp(optimize.brentq(lambda log: self._beyond_which(float(np.exp(log))) - statistic, lowest, highest))
        )

    def _beyond_which(self, tail: float) -> float:
        total = sum(self.variances)
        weights = np.array(self.variances) / total if total else np.eye(len(self.variances))[0]
        return float(sum(w * stats.t.isf(tail, n) for w, n in zip(weights, self.freedoms, strict=True) if w))


@dataclass(frozen=True, kw_only=True)
class Equivalence:
    """Two one-sided tests (Schuirmann 1987, J. Pharmacokinet. Biopharm. 15:657) of |difference| < margin."""

    value: float
    low: float
    high: float
    """The 90 % interval: equivalence at 5 % is that it lies within the margin."""
    margin: float
    p_value: float
    num_runs: int

    @property
    def is_equivalent(self) -> bool:
        return bool(self.p_value < 1 - CONFIDENCE)


@dataclass(frozen=True, kw_only=True)
class PaperMeans:
    """What one run is on the P evaluation papers of one component, in an order that all runs share."""

    windows: np.ndarray
    """[P] windows of each paper."""
    values: np.ndarray
    """[P] their mean."""

    @property
    def weights(self) -> np.ndarray:
        """[P] each paper's share of the windows."""
        return self.windows / self.windows.sum()

    @property
    def mean(self) -> float:
        """The mean over windows."""
        return float(self.weights @ self.values)

    @property
    def deviations(self) -> np.ndarray:
        """[P] how much each paper moves the mean away from where the others have it."""
        return self.weights * (self.values - self.mean)


Measured = Mapping[str, PaperMeans]
"""One run on each of its components, by name; the run's number is the mean over them."""


def mean_over_runs(values: np.ndarray) -> Estimate:
    """The mean of one number a run (or a seed), with the t interval of independent runs."""
    values = np.asarray(values, dtype=float)
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
    return Estimate.of(float(values.mean()), error, len(values) - 1, len(values))


def mean_over_runs_and_papers(runs: Sequence[Measured]) -> Estimate:
    """The mean of runs, with an interval that holds the noise of seeds and that of the papers they share."""
    return estimate_with_papers(_numbers(runs), runs)


def estimate_with_papers(values: np.ndarray, *measured: Sequence[Measured]) -> Estimate:
    """The mean of one number a run (or a seed), made of what `measured` has of each paper: parts that are summed, each
    on papers of its own."""
    spread = _spread(values, measured)
    if not spread.freedoms[0] or spread.variances[1] == 0:
        return mean_over_runs(values)
    # The degrees of freedom of the one t distribution that has the quantile.
    equivalent = float(special.stdtridf(_UPPER, spread.quantile(_UPPER)))
    estimate = Estimate.of(float(np.mean(values)), spread.error, equivalent, len(values))
    return dataclasses.replace(estimate, p_value=2 * spread.beyond(abs(estimate.value) / spread.error))


def equivalence_with_papers(runs: Sequence[Measured], margin: float) -> Equivalence:
    """Whether the mean of runs lies within +- `margin`, by the two parts of its variance; p is 1 for a single run."""
    values = _numbers(runs)
    spread, value = _spread(values, (runs,)), float(values.mean())
    if not spread.freedoms[0]:
        return Equivalence(value=value, low=-np.inf, high=np.inf, margin=margin, p_value=1.0, num_runs=len(runs))
    inside, half = margin - abs(value), spread.quantile(CONFIDENCE) * spread.error
    if spread.error:
        p = spread.beyond(inside / spread.error) if inside > 0 else 1 - spread.beyond(-inside / spread.error)
    else:
        p = float(inside <= 0)
    return Equivalence(value=value, low=value - half, high=value + half, margin=margin, p_value=p, num_runs=len(runs))


def _numbers(runs: Sequence[Measured]) -> np.ndarray:
    return np.array([np.mean([papers.mean for papers in run.values()]) for run in runs])


def _spread(values: np.ndarray, measured: Sequence[Sequence[Measured]]) -> Spread:
    alone = mean_over_runs(values)
    shared = [shared_variance(runs) for runs in measured]
    freedom = max(1, min((freedom for variance, freedom in shared if variance), default=1))
    variances = (alone.standard_error**2, sum(variance for variance, _ in shared))
    return Spread(variances=variances, freedoms=(alone.degrees_of_freedom, freedom))


def shared_variance(runs: Sequence[Measured]) -> tuple[float, int]:
    """The mean covariance of two runs' numbers from the papers that both were measured on, and its degrees of freedom.

    Never below 0; 0 and 0 where no two runs share a component.
    """
    total, freedom = 0.0, 0
    for name in sorted(set(itertools.chain.from_iterable(runs))):
        moved_RP = np.stack([run[name].deviations / len(run) for run in runs if name in run])
        total += sum_of_products(moved_RP)
        freedom += moved_RP.shape[1] - 1 if len(moved_RP) > 1 else 0
    return max(0.0, total / max(1, len(runs) * (len(runs) - 1))), freedom


def sum_of_products(moved_RP: np.ndarray) -> float:
    """The covariances from P papers of what they do to R runs, summed over all pairs of two runs."""
    num_papers = moved_RP.shape[1]
    products_P = moved_RP.sum(axis=0) ** 2 - (moved_RP**2).sum(axis=0)
    return float(products_P.sum()) * num_papers / max(1, num_papers - 1)
