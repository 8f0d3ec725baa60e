"""What single clusters of runs weigh in a fit: their residuals from a fit without them, and how few of them decide.

To first order in the parameters, with V = (J' W J)^-1 and H = W^1/2 J V J' W^1/2. A fit's residuals are too small,
above all where a cluster pulls the curve; (I - H_gg)^-1 r_g is what cluster g has from a fit without it (CR3, as in
MacKinnon, Nielsen & Webb 2023, J. Econometrics 232:272). That makes up for more than it should, and a number may rest
on few of the clusters, as an exponent does on those at the ends of the scales. By how much the variance is overstated,
and the degrees of freedom on which it is told, follow from the design if the noise of all runs is alike (Bell &
McCaffrey 2002, Survey Methodology 28:169).
"""

from dataclasses import dataclass

import numpy as np

from helpers.analysis.fits.coordinates import Coordinates
from helpers.analysis.fits.fit import Fit
from helpers.analysis.fits.laws import log_loss_and_jacobian

_LOWEST_EIGENVALUE = 1e-3


@dataclass(frozen=True)
class Accuracy:
    """Of the spread of draws as the standard error of one number."""

    overstated: float
    """The spread over the deviation that it stands for."""
    degrees_of_freedom: float


@dataclass(frozen=True, kw_only=True)
class Leverage:
    """At one fit's parameters."""

    basis_NR: np.ndarray
    """Orthonormal columns whose product is H."""
    influence_PN: np.ndarray
    """The change of theta by a change of each run's log loss times the root of its weight."""
    roots_N: np.ndarray
    """Of the weights."""
    clusters: tuple[tuple[np.ndarray, np.ndarray], ...]
    """The rows of each, and (I - H_gg)^-1."""

    @classmethod
    def of(cls, fitted: Fit) -> "Leverage":
        coordinates, points = Coordinates.of(fitted.law, fitted.points), fitted.points
        _, jacobian = log_loss_and_jacobian(coordinates.design, coordinates.centred(fitted.theta)[None])
        roots = np.sqrt(points.weights)
        left, sizes, right = np.linalg.svd(roots[:, None] * jacobian[0] * ~fitted.law.is_fixed, full_matrices=False)
        moves = sizes > 1e-10 * sizes[0]
        basis = left[:, moves]
        rows = [np.flatnonzero(points.clusters == cluster) for cluster in range(points.num_clusters)]
        return cls(
            basis_NR=basis,
            influence_PN=coordinates.matrix @ (right[moves].T / sizes[moves]) @ basis.T,
            roots_N=roots,
            clusters=tuple((own, _inverse(basis[own])) for own in rows),
        )

    def deleted(self, residuals_N: np.ndarray) -> np.ndarray:
        """(N,) the residuals of each cluster from a fit without it."""
        scaled, deleted = self.roots_N * residuals_N, np.empty(len(residuals_N))
        for rows, inverse in self.clusters:
            deleted[rows] = inverse @ scaled[rows]
        return deleted / self.roots_N

    def accuracy(self, gradient_P: np.ndarray) -> Accuracy:
        """Of draws of a number with this gradient by theta; nothing is known of one that no run moves."""
        weight_N = gradient_P @ self.influence_PN
        own = [inverse @ weight_N[rows] for rows, inverse in self.clusters]
        shared = np.stack(
            [self.basis_NR[rows].T @ values for (rows, _), values in zip(self.clusters, own, strict=True)]
        )
        products = np.diag([float(values @ values) for values in own]) - shared @ shared.T
        total = float(np.trace(products))
        if not (np.isfinite(total) and total > 0):
            return Accuracy(1.0, len(self.clusters) - 1)
        return Accuracy(float(np.sqrt(total / (weight_N @ weight_N))), max(total**2 / float((products**2).sum()), 1.0))


def _inverse(basis: np.ndarray) -> np.ndarray:
    """(I - basis basis')^-1."""
    sizes, vectors = np.linalg.eigh(np.eye(len(basis)) - basis @ basis.T)
    # A cluster that a parameter serves alone has no residual in that direction, and an eigenvalue of 0.
    return vectors / np.maximum(sizes, _LOWEST_EIGENVALUE) @ vectors.T
