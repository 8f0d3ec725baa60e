"""A linear mixed model with crossed random effects, at the maximum of its restricted likelihood (REML).

    y = X beta + sum_g Z_g u_g + noise,  u_g ~ N(0, variance_g),  noise ~ N(0, known + variance I)

with one u for each level of a factor g (components, runs, seeds) and a covariance that is known beforehand. The
likelihood of the variances (Patterson & Thompson 1971, Biometrika 58:545) is climbed with its own gradient: with V the
covariance of y and P = V^-1 - V^-1 X (X' V^-1 X)^-1 X' V^-1, the derivative by the variance of V_g = Z_g Z_g' is
-(tr P V_g - y' P V_g P y) / 2. The variances are searched as logarithms, for they span ten decades: components of text
differ by 0.6 nats where runs differ by 0.002. From starts that are not near them, general minimisers stop on the way.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import linalg, optimize

RESIDUAL = "residual"
_LOWEST, _HIGHEST = -18.0, 25.0
"""Logs of a variance, in units of what least squares with a level for each group leaves."""
_STARTS = tuple(itertools.product((-0.5, -4.0), (-0.5, -3.0)))
"""Logs of the variances of the groups, and of the residual."""


@dataclass(frozen=True, kw_only=True)
class MixedFit:
    """The fixed effects and variances of highest restricted likelihood."""

    coefficients_P: np.ndarray
    covariance_PP: np.ndarray
    weights_PN: np.ndarray
    """The weight of each observation in each coefficient: generalised least squares."""
    precision_NN: np.ndarray
    """The inverse of the observations' covariance."""
    variances: dict[str, float]
    """By name of the factor; the residual's is `RESIDUAL`."""
    log_likelihood: float
    """Restricted, with its constant, so that it can be compared with other programs'."""


@dataclass(frozen=True, kw_only=True)
class _Model:
    """What the likelihood is made of, in units in which the variances are near 1."""

    y_N: np.ndarray
    design_NP: np.ndarray
    same: dict[str, np.ndarray]
    """Z_g Z_g' (N, N) of each factor, and the identity of the residual."""
    known_NN: np.ndarray

    def covariance(self, logs: np.ndarray) -> np.ndarray:
        return self.known_NN + sum(np.exp(log) * same for log, same in zip(logs, self.same.values(), strict=True))

    def solved(self, logs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        """V^-1, V^-1 X, (X' V^-1 X)^-1, and log |V| + log |X' V^-1 X|."""
        factor = linalg.cho_factor(self.covariance(logs), lower=True)
        inverse_NN = linalg.cho_solve(factor, np.eye(len(self.y_N)))
        weighted_NP = inverse_NN @ self.design_NP
        information = linalg.cho_factor(self.design_NP.T @ weighted_NP, lower=True)
        volume = 2 * sum(float(np.log(np.diag(part[0])).sum()) for part in (factor, information))
        return inverse_NN, weighted_NP, linalg.cho_solve(information, np.eye(self.design_NP.shape[1])), volume

    def loss_and_gradient(self, logs: np.ndarray) -> tuple[float, np.ndarray]:
        """Minus the log likelihood without its constant, and its derivatives by the logs of the variances."""
        try:
            inverse_NN, weighted_NP, covariance_PP, volume = self.solved(logs)
        except linalg.LinAlgError:  # variances so far apart that V is singular in floating point
            return 1e30, np.zeros(len(logs))
        project_NN = inverse_NN - weighted_NP @ covariance_PP @ weighted_NP.T
        left_N = project_NN @ self.y_N
        slopes = [
            np.exp(log) * ((project_NN * same).sum() - left_N @ same @ left_N) / 2
            for log, same in zip(logs, self.same.values(), strict=True)
        ]
        return (volume + float(self.y_N @ left_N)) / 2, np.array(slopes)


def fit_mixed(
    y_N: np.ndarray, design_NP: np.ndarray, factors: Mapping[str, np.ndarray], known_NN: np.ndarray | None = None
) -> MixedFit:
    """The fit of highest likelihood. `factors` has a level (N,) of each observation; `known_NN` is a covariance that
    the observations have beforehand, in their own unit squared.

    ValueError where the fixed effects and levels leave nothing: there is then no noise to be known.
    """
    unit = _unit(y_N, design_NP, factors)
    if unit == 0:
        raise ValueError("these runs have no residual at all, so that there is no noise to tell; use runs that differ")
    middle = design_NP @ np.linalg.lstsq(design_NP, y_N, rcond=None)[0]
    same = {name: (levels[:, None] == levels).astype(float) for name, levels in factors.items()}
    model = _Model(
        y_N=(y_N - middle) / unit,
        design_NP=design_NP,
        same=same | {RESIDUAL: np.eye(len(y_N))},
        known_NN=np.zeros((len(y_N), len(y_N))) if known_NN is None else known_NN / unit**2,
    )
    bounds = [(_LOWEST, _HIGHEST)] * len(model.same)
    ends = [
        optimize.minimize(model.loss_and_gradient, start, jac=True, method="L-BFGS-B", bounds=bounds,
                          options={"ftol": 1e-13, "gtol": 1e-7, "maxiter": 300})
        for start in _starts(model, factors)
    ]  # fmt: skip
    best = min(ends, key=lambda end: end.fun)
    return _fit(model, best.x, float(best.fun), middle, unit)


def _fit(model: _Model, logs: np.ndarray, loss: float, middle: np.ndarray, unit: float) -> MixedFit:
    inverse_NN, weighted_NP, covariance_PP, _ = model.solved(logs)
    weights_PN = covariance_PP @ weighted_NP.T
    num, num_fixed = model.design_NP.shape
    variances = {name: float(np.exp(log)) * unit**2 for name, log in zip(model.same, logs, strict=True)}
    return MixedFit(
        coefficients_P=weights_PN @ (model.y_N * unit + middle),
        covariance_PP=covariance_PP * unit**2,
        weights_PN=weights_PN,
        precision_NN=inverse_NN / unit**2,
        variances=variances,
        log_likelihood=-loss - (num - num_fixed) * (np.log(2 * np.pi) / 2 + np.log(unit)),
    )


def _starts(model: _Model, factors: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The factor that dominates has the variance of its levels' means, the others and the residual lower ones."""
    means = [_variance_of_means(model.y_N, levels) for levels in factors.values()]
    largest = int(np.argmax(means))
    starts = []
    for others, residual in _STARTS:
        logs = np.full(len(means) + 1, others)
        logs[largest], logs[-1] = np.log(max(means[largest], 1e-6)), residual
        starts.append(np.clip(logs, _LOWEST, _HIGHEST))
    return starts


def _variance_of_means(y_N: np.ndarray, levels: np.ndarray) -> float:
    codes = np.unique(levels, return_inverse=True)[1]
    means = np.bincount(codes, y_N) / np.bincount(codes)
    return float(means.var(ddof=1)) if len(means) > 1 else 0.0


def _unit(y_N: np.ndarray, design_NP: np.ndarray, factors: Mapping[str, np.ndarray]) -> float:
    """The deviation that is left beside the fixed effects and the levels of the first factor; 0 for rounding alone."""
    first = next(iter(factors.values()))
    levels = (first[:, None] == np.unique(first)).astype(float)
    whole = np.column_stack([design_NP, levels])
    left = float((y_N - whole @ np.linalg.lstsq(whole, y_N, rcond=None)[0]).std())
    return left if left > 1e-12 * max(1.0, float(np.abs(y_N).max())) else 0.0
