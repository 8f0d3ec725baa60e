"""Ridge regression in closed form, and the share of variance that it explains of what it was not fitted to.

N samples, D features, K targets.
"""

from dataclasses import dataclass

import numpy as np

PENALTY = 1e-6
"""Of the mean variance of the features: enough for features that are copies of one another, and no more, for there are
hundreds of samples a feature."""


@dataclass(frozen=True, kw_only=True)
class Ridge:
    """A linear map with an offset."""

    weights_DK: np.ndarray
    offset_K: np.ndarray

    def __call__(self, features_ND: np.ndarray) -> np.ndarray:
        return features_ND @ self.weights_DK + self.offset_K


def fit_ridge(features_ND: np.ndarray, targets_NK: np.ndarray) -> Ridge:
    """The map that minimises the squared error and the penalty on its weights (Hoerl & Kennard 1970); the offset is
    not penalised."""
    mean_D, mean_K = features_ND.mean(axis=0), targets_NK.mean(axis=0)
    centred_ND = features_ND - mean_D
    gram_DD = centred_ND.T @ centred_ND
    gram_DD += PENALTY * max(float(np.trace(gram_DD)) / len(gram_DD), np.finfo(float).tiny) * np.eye(len(gram_DD))
    weights_DK = np.linalg.solve(gram_DD, centred_ND.T @ (targets_NK - mean_K))
    return Ridge(weights_DK=weights_DK, offset_K=mean_K - mean_D @ weights_DK)


def explained(targets_NK: np.ndarray, predicted_NK: np.ndarray) -> float:
    """R2: 1 less the squared error over the squared deviation from the mean, both summed over the K targets. Below 0
    where the mean would have predicted better."""
    left = float(((targets_NK - predicted_NK) ** 2).sum())
    total = float(((targets_NK - targets_NK.mean(axis=0)) ** 2).sum())
    return 1 - left / total
