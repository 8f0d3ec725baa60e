"""A mean with its 95 % interval: what runs alone say of it, and what runs and the papers they were measured on say.

Were the experiment repeated, other seeds would train the runs and other papers would be drawn for evaluation. Runs of
one grid are measured on the same papers, so the spread between them holds the noise of seeds and leaves out what they
share. With D_r the number of run r of n,

    Var(mean D) = Var(D_r - D_s) / 2n + Cov(D_r, D_s),

where the first term is the sample variance over n and the second comes from papers: it is estimated from the products,
paper by paper, of the deviations of two runs (clustering by runs and by papers; Cameron, Gelbach & Miller 2011,
J. Bus. Econ. Stat. 29:238).
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

CONFIDENCE = 0.95
_UPPER = (1 + CONFIDENCE) / 2


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
    """The mean of runs, with an interval that holds the noise of seeds and that of the papers they share.

    The two parts of the variance have quantiles of their own, Student's with n - 1 degrees of freedom for runs and with
    papers less components for papers; the interval has their mean, weighted by the parts (Cochran & Cox 1950,
    Experimental Designs). With three runs it covers 95 to 97 % whatever the parts, where Satterthwaite's degrees of
    freedom, taken from a variance of three runs, cover as little as 92 %.
    """
    alone = mean_over_runs(np.array([np.mean([papers.mean for papers in run.values()]) for run in runs]))
    shared, freedom = shared_variance(runs)
    if shared == 0:
        return alone
    parts = np.array([alone.standard_error**2, shared])
    quantile = float(parts @ stats.t.ppf(_UPPER, [alone.degrees_of_freedom, freedom]) / parts.sum())
    equivalent = float(special.stdtridf(_UPPER, quantile))  # of the one t distribution with that quantile
    return Estimate.of(alone.value, float(np.sqrt(parts.sum())), equivalent, len(runs))


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
