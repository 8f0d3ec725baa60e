"""The smallest slope on log2 K that a grid can detect: before it runs, and from what it measured."""

import numpy as np
import pandas as pd
from scipy import stats

from helpers.analysis.estimates import CONFIDENCE

POWER = 0.8


def smallest_detectable(standard_error: float, degrees_of_freedom: float) -> float:
    """The effect that a two-sided t test at 5 % detects in 80 % of experiments: (t_.975 + t_.8) standard errors.

    Infinite without a degree of freedom.
    """
    if degrees_of_freedom < 1:
        return float("inf")
    quantiles = stats.t.ppf([(1 + CONFIDENCE) / 2, POWER], degrees_of_freedom)
    return float(quantiles.sum() * standard_error)


def smallest_detectable_slope(ks: np.ndarray, seed_deviation: float) -> float:
    """The smallest detectable slope (nats a doubling of K) of runs at `ks`, those on one component included.

    `seed_deviation` is the standard deviation of XE between seeds. It is taken as common to the components of a run,
    whose levels are then known from runs that share them: what is left is least squares of one number a run. The noise
    of evaluation papers is not known before there are runs, and is left out. Infinite for fewer than three runs, or a
    single K.
    """
    log2_k = np.log2(np.asarray(ks, dtype=float))
    spread = float(((log2_k - log2_k.mean()) ** 2).sum())
    if spread == 0:
        return float("inf")
    return smallest_detectable(seed_deviation / np.sqrt(spread), len(log2_k) - 2)


def seed_deviation(matched: pd.DataFrame) -> tuple[float, int]:
    """The standard deviation of XE between seeds, and its degrees of freedom, from rows of `matched_by_run`.

    The matched dXE of a run with K components holds its own noise and a K-th of that of each of K runs on one
    component, so that its variance is 1 + 1 / K times that of a run's XE; pooled over K above 1. NaN and 0 where no K
    has two matched runs.
    """
    groups = matched[(matched["k"] > 1) & matched["dxe"].notna()].groupby("k")["dxe"]
    freedom = groups.count() - 1
    if freedom.sum() == 0:
        return float("nan"), 0
    variance = groups.var(ddof=1) / (1 + 1 / groups.count().index)
    return float(np.sqrt((variance * freedom).sum() / freedom.sum())), int(freedom.sum())
