"""The effective rank of contexts: how many directions they fill, and how sure that is.

erank = exp(H) with H the entropy of the singular values over their sum (Roy & Vetterli 2007, EUSIPCO, definition 1).
The document takes the contexts as they are; without their mean is another number, which says more of how they differ.

N tokens, D width, G groups.
"""

from dataclasses import dataclass

import numpy as np

from helpers.analysis.estimates import Estimate

GROUPS = 20
"""Runs of consecutive tokens that the jackknife leaves out in turn: contexts of neighbours are alike."""


def effective_rank(singular_values: np.ndarray) -> float:
    """Of singular values, or of anything proportional to them."""
    share = singular_values / singular_values.sum()
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))


@dataclass(frozen=True, kw_only=True)
class _Moments:
    """What the singular values of rows follow from: their products, their sums, and how many there are."""

    products_DD: np.ndarray
    sums_D: np.ndarray
    count: int

    @classmethod
    def of(cls, rows_ND: np.ndarray) -> "_Moments":
        return cls(products_DD=rows_ND.T @ rows_ND, sums_D=rows_ND.sum(axis=0), count=len(rows_ND))

    def without(self, other: "_Moments") -> "_Moments":
        return _Moments(
            products_DD=self.products_DD - other.products_DD,
            sums_D=self.sums_D - other.sums_D,
            count=self.count - other.count,
        )

    def effective_rank(self, *, centred: bool) -> float:
        mean = np.outer(self.sums_D, self.sums_D) / self.count if centred else 0.0
        return effective_rank(np.sqrt(np.linalg.eigvalsh(self.products_DD - mean).clip(min=0)))


def rank_estimate(contexts_ND: np.ndarray, *, centred: bool) -> Estimate:
    """The effective rank with its 95 % interval over tokens, by a jackknife over groups of neighbours (a bootstrap
    would repeat rows, which lowers a rank). ValueError for fewer than two tokens a group."""
    rows_ND = np.asarray(contexts_ND, dtype=np.float64)
    if len(rows_ND) < 2 * GROUPS:
        raise ValueError(f"{len(rows_ND)} contexts give no effective rank with an interval; use {2 * GROUPS} or more")
    groups = [_Moments.of(rows) for rows in np.array_split(rows_ND, GROUPS)]
    whole = _Moments(
        products_DD=sum(group.products_DD for group in groups),
        sums_D=sum(group.sums_D for group in groups),
        count=len(rows_ND),
    )
    left_G = np.array([whole.without(group).effective_rank(centred=centred) for group in groups])
    error = float(np.sqrt((GROUPS - 1) / GROUPS * ((left_G - left_G.mean()) ** 2).sum()))
    return Estimate.of(whole.effective_rank(centred=centred), error, GROUPS - 1, num_runs=1)
