"""Differences with 95 % intervals over what would differ were it all repeated: seeds, and sequences.

Runs of one condition are measured on the same sequences, so the noise of these is shared: an interval over seeds alone
would be too narrow, and one over sequences alone too. Means have the interval of `analysis.estimates` (Student's t over
seeds, with the covariance that sequences bring), which keeps its promise at three seeds; curves and what is no mean,
such as a crossing, have a bootstrap that draws seeds and sequences both.

S seeds, B sequences, X chunks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from helpers.analysis.estimates import Estimate, PaperMeans, mean_over_runs_and_papers
from helpers.counter_rng import Stream, integers_below, salt_of, words

NUM_DRAWS = 1_000
_SALT = salt_of("bootstrap over seeds and sequences")


def mean_difference(differences_SB: Sequence[np.ndarray]) -> Estimate:
    """The mean over sequences and seeds; infinite with one seed, which says nothing of others."""
    ones = [np.ones(len(values_B)) for values_B in differences_SB]
    pairs = zip(ones, differences_SB, strict=True)
    return mean_over_runs_and_papers([{"": PaperMeans(windows=n, values=values_B)} for n, values_B in pairs])


@dataclass(frozen=True, kw_only=True)
class Band:
    """A curve and its interval, point by point."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def bootstrap_band(values_SBX: np.ndarray) -> Band:
    """The mean curve over seeds and sequences, with the middle 95 % of resampled means."""
    draws_RX = resampled(values_SBX, lambda curve_X: curve_X)
    low, high = np.percentile(draws_RX, [2.5, 97.5], axis=0)
    return Band(value=values_SBX.mean(axis=(0, 1)), low=low, high=high)


def resampled(values_SBX: np.ndarray, of_curve: Callable[[np.ndarray], np.ndarray | float]) -> np.ndarray:
    """`of_curve` of the mean curve of each of NUM_DRAWS resamples, seeds and sequences drawn with replacement."""
    num_seeds, num_sequences, _ = values_SBX.shape
    drawn = words(0, Stream.EVALUATION, NUM_DRAWS * (num_seeds + num_sequences), salt=_SALT)
    seeds_RS = integers_below(num_seeds, drawn[: NUM_DRAWS * num_seeds]).reshape(NUM_DRAWS, num_seeds)
    sequences_RB = integers_below(num_sequences, drawn[NUM_DRAWS * num_seeds :]).reshape(NUM_DRAWS, num_sequences)
    weights_RB = np.stack([np.bincount(draw, minlength=num_sequences) for draw in sequences_RB]) / num_sequences
    by_seed_RSX = np.einsum("rb,sbx->rsx", weights_RB, values_SBX)
    return np.array([of_curve(own_SX[seeds].mean(axis=0)) for own_SX, seeds in zip(by_seed_RSX, seeds_RS, strict=True)])


def crossing(difference_X: np.ndarray, first: int, width: int) -> float:
    """Where the running mean over `width` chunks of NLL(window) - NLL(carried), from chunk `first` on, turns from above
    0 to below for good: in chunks; NaN if it is above 0 at the end, or never was."""
    smooth = np.convolve(difference_X[first:], np.ones(width) / width, mode="valid")
    above = np.flatnonzero(smooth > 0)
    if not len(above) or above[-1] == len(smooth) - 1:
        return float("nan")
    return float(first + above[-1] + 1 + width / 2)


def correlation(left: Sequence[float], right: Sequence[float]) -> tuple[float, float, float]:
    """Pearson's r with its 95 % interval by Fisher's transformation; infinite bounds below four points."""
    if len(left) < 4 or np.ptp(left) == 0 or np.ptp(right) == 0:
        return float("nan"), -np.inf, np.inf
    found = stats.pearsonr(left, right)
    interval = found.confidence_interval()
    return float(found.statistic), float(interval.low), float(interval.high)
