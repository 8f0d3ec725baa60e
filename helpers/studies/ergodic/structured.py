"""A covariance of many observations that is never written down: noise nested in groups, and a few shared directions.

    V = B + U U',  B = residual I + sum_g variance_g Z_g Z_g'

where each group of one factor lies in one group of the next (runs in seeds) and U (N, few) has the components and what
is known beforehand. B acts by means: an observation has a precision, a group's mean has the sum of its items'
precisions as precision before its own variance is added, and so on to the coarsest factor. Only deviations from a mean
and the mean itself are weighed, so that nothing cancels however far the variances lie apart. U is added by Woodbury's
identity. Everything is linear in N.
"""

from dataclasses import dataclass

import numpy as np
from scipy import linalg, sparse


@dataclass(frozen=True)
class Groups:
    """Which group of one factor each item (an observation, or a group of the finer factor) lies in."""

    of_item_I: np.ndarray
    _indicator_GI: sparse.csr_array

    @classmethod
    def of(cls, of_item_I: np.ndarray) -> "Groups":
        items = np.arange(len(of_item_I))
        return cls(of_item_I, sparse.csr_array((np.ones(len(items)), (of_item_I, items))))

    @property
    def counts_G(self) -> np.ndarray:
        """Of items."""
        return np.bincount(self.of_item_I)

    def means(self, values_I: np.ndarray) -> np.ndarray:
        """[groups, ...] of [items, ...]."""
        return (self.sums(values_I).T / self.counts_G).T

    def sums(self, values_I: np.ndarray) -> np.ndarray:
        """[groups, ...] of [items, ...]."""
        return self._indicator_GI @ values_I

    def spread(self, values_G: np.ndarray) -> np.ndarray:
        """[items, ...]: to each item its group's value."""
        return values_G[self.of_item_I]


@dataclass(frozen=True, kw_only=True)
class NestedCovariance:
    """B. Level 0 are the observations, level g the groups of the g-th factor."""

    factors: list[Groups]
    """Finest first."""
    precisions: list[np.ndarray]
    """(items,) of each level: of an item's mean as its parent sees it, its own variance included."""
    totals: list[np.ndarray]
    """(groups,) of each factor: the sum of the items' precisions."""

    @classmethod
    def of(
        cls, num_observations: int, residual: float, factors: list[Groups], variances: np.ndarray
    ) -> "NestedCovariance":
        precisions, totals = [np.full(num_observations, 1 / residual)], []
        for groups, variance in zip(factors, variances, strict=True):
            totals.append(groups.sums(precisions[-1]))
            precisions.append(1 / (1 / totals[-1] + variance))
        return cls(factors=factors, precisions=precisions, totals=totals)

    @property
    def log_volume(self) -> float:
        """log |B|."""
        return float(sum(np.log(p).sum() for p in self.totals) - sum(np.log(p).sum() for p in self.precisions))

    def solve(self, values_NQ: np.ndarray) -> np.ndarray:
        """B^-1 values."""
        return self._solve(0, values_NQ)

    def diagonals(self) -> list[np.ndarray]:
        """For each level from the observations on, the diagonal of Z' B^-1 Z, where Z is the level's indicator."""
        found = [self.precisions[-1]]
        for level in reversed(range(len(self.factors))):
            share = self._shares(level)
            own, parent = self.precisions[level], self.factors[level].spread(found[0])
            found.insert(0, own * (1 - share) + share**2 * parent)
        return found

    def _solve(self, level: int, values_IQ: np.ndarray) -> np.ndarray:
        precision_I = self.precisions[level][:, None]
        if level == len(self.factors):
            return precision_I * values_IQ
        groups = self.factors[level]
        means_GQ = groups.sums(precision_I * values_IQ) / self.totals[level][:, None]
        of_group = groups.spread(self._solve(level + 1, means_GQ))
        return precision_I * (values_IQ - groups.spread(means_GQ)) + self._shares(level)[:, None] * of_group

    def _shares(self, level: int) -> np.ndarray:
        """(items,) the weight of an item in the mean of its group."""
        return self.precisions[level] / self.factors[level].spread(self.totals[level])


@dataclass(frozen=True, kw_only=True)
class Covariance:
    """V."""

    blocks: NestedCovariance
    shared_NU: np.ndarray
    solved_NU: np.ndarray
    """B^-1 U."""
    inverse_UU: np.ndarray
    """(I + U' B^-1 U)^-1."""
    log_volume: float
    """log |V|."""

    @classmethod
    def of(cls, blocks: NestedCovariance, shared_NU: np.ndarray) -> "Covariance":
        """LinAlgError where V is singular in floating point."""
        solved_NU = blocks.solve(shared_NU)
        inverse_UU, log_volume = _inverse(np.eye(shared_NU.shape[1]) + shared_NU.T @ solved_NU)
        return cls(
            blocks=blocks, shared_NU=shared_NU, solved_NU=solved_NU, inverse_UU=inverse_UU,
            log_volume=blocks.log_volume + log_volume,
        )  # fmt: skip

    def solve(self, values_NQ: np.ndarray) -> np.ndarray:
        """V^-1 values."""
        solved_NQ = self.blocks.solve(values_NQ)
        return solved_NQ - self.solved_NU @ (self.inverse_UU @ (self.shared_NU.T @ solved_NQ))

    def fixed_effects(self, design_NP: np.ndarray) -> "FixedEffects":
        """LinAlgError where the design is singular."""
        solved_NP = self.blocks.solve(design_NP)
        mixed_UP = self.inverse_UU @ (self.shared_NU.T @ solved_NP)
        weighted_NP = solved_NP - self.solved_NU @ mixed_UP
        covariance_PP, log_volume = _inverse(design_NP.T @ weighted_NP)
        return FixedEffects(
            observations=self, weighted_NP=weighted_NP, covariance_PP=covariance_PP, log_volume=log_volume
        )


@dataclass(frozen=True, kw_only=True)
class FixedEffects:
    """Generalised least squares under V, and P = V^-1 - V^-1 X (X' V^-1 X)^-1 X' V^-1."""

    observations: Covariance
    weighted_NP: np.ndarray
    """V^-1 X."""
    covariance_PP: np.ndarray
    """(X' V^-1 X)^-1."""
    log_volume: float
    """log |X' V^-1 X|."""

    @property
    def weights_PN(self) -> np.ndarray:
        """The weight of each observation in each coefficient."""
        return self.covariance_PP @ self.weighted_NP.T

    def project(self, values_N: np.ndarray) -> np.ndarray:
        """P values."""
        solved_N = self.observations.solve(values_N[:, None])[:, 0]
        return solved_N - self.weighted_NP @ (self.covariance_PP @ (self.weighted_NP.T @ values_N))

    def trace_of(self, directions_NQ: np.ndarray) -> float:
        """tr Z' P Z of a few directions."""
        solved_NQ = self.observations.solve(directions_NQ)
        moved_PQ = self.weighted_NP.T @ directions_NQ
        return float((directions_NQ * solved_NQ).sum() - (moved_PQ * (self.covariance_PP @ moved_PQ)).sum())

    def by_level(self, left_N: np.ndarray) -> tuple[list[float], list[float]]:
        """|Z' left|^2 and tr Z' P Z of each nested factor and, last, of the observations themselves."""
        of = self.observations
        used, inner = (of.solved_NU, self.weighted_NP), (of.inverse_UU, self.covariance_PP)
        squares, traces = [float(left_N @ left_N)], []
        diagonals = of.blocks.diagonals()
        traces.append(float(diagonals[0].sum()) - _traces(used, inner))
        for groups, diagonal in zip(of.blocks.factors, diagonals[1:], strict=True):
            used, left_N = tuple(groups.sums(part) for part in used), groups.sums(left_N)
            squares.append(float(left_N @ left_N))
            traces.append(float(diagonal.sum()) - _traces(used, inner))
        return [*squares[1:], squares[0]], [*traces[1:], traces[0]]


def _traces(used: tuple[np.ndarray, ...], inner: tuple[np.ndarray, ...]) -> float:
    """The sum of tr F K F'."""
    return float(sum((part @ middle * part).sum() for part, middle in zip(used, inner, strict=True)))


def _inverse(matrix: np.ndarray) -> tuple[np.ndarray, float]:
    """Of a positive definite matrix, and the log of its determinant."""
    factor = linalg.cho_factor(matrix, lower=True)
    return linalg.cho_solve(factor, np.eye(len(matrix))), 2 * float(np.log(np.diag(factor[0])).sum())
