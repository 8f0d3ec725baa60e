"""A linear mixed model with random effects, at the maximum of its restricted likelihood (REML).

    y = X beta + sum_g Z_g u_g + noise,  u_g ~ N(0, variance_g),  noise ~ N(0, L L' + variance I)

with one u for each level of a factor g (components, runs, seeds) and a covariance L L' that is known beforehand. The
likelihood of the variances (Patterson & Thompson 1971, Biometrika 58:545) is climbed with its own gradient: with V the
covariance of y and P = V^-1 - V^-1 X (X' V^-1 X)^-1 X' V^-1, the derivative by the variance of V_g = Z_g Z_g' is
-(tr P V_g - y' P V_g P y) / 2. The variances are searched as logarithms, for they span ten decades: components of text
differ by 0.6 nats where runs differ by 0.002. From starts that are not near them, general minimisers stop on the way.

V is never written down (`structured`): its cost is linear in the number of observations.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import linalg, optimize

from helpers.studies.ergodic.structured import Covariance, Groups, NestedCovariance

RESIDUAL = "residual"
_LOWEST, _LOWEST_RESIDUAL, _HIGHEST, _BEYOND = -18.0, -14.0, 7.0, 5.0
"""Logs of a variance, in units of what least squares with a level for each crossed group leaves: from nothing to far
more than can be left; a crossed factor's reaches as far beyond the variance of its levels' means. Wider bounds hold
variances at which the likelihood is rounding, and may look like the highest of all."""
_STARTS = tuple(itertools.product((-0.5, -4.0), (-0.5, -3.0)))
"""Logs of the variances of the groups, and of the residual."""


@dataclass(frozen=True, kw_only=True)
class MixedFit:
    """The fixed effects and variances of highest restricted likelihood."""

    coefficients_P: np.ndarray
    covariance_PP: np.ndarray
    weights_PN: np.ndarray
    """The weight of each observation in each coefficient: generalised least squares."""
    observations: Covariance
    """Of y, in units of `unit` squared."""
    unit: float
    variances: dict[str, float]
    """By name of the factor; the residual's is `RESIDUAL`."""
    log_likelihood: float
    """Restricted, with its constant, so that it can be compared with other programs'."""

    def solve(self, values_NQ: np.ndarray) -> np.ndarray:
        """The inverse of the observations' covariance, times each column."""
        return self.observations.solve(values_NQ) / self.unit**2


@dataclass(frozen=True, kw_only=True)
class _Model:
    """What the likelihood is made of, in units in which the variances are near 1. The variances come in the order of
    `crossed`, `nested`, residual."""

    y_N: np.ndarray
    design_NP: np.ndarray
    crossed: dict[str, np.ndarray]
    """(N, levels) of each factor: 1 where the observation has the level."""
    nested: dict[str, Groups]
    """Finest first: in which level each item of the factor before it (an observation, for the first) lies."""
    known_NL: np.ndarray

    @property
    def names(self) -> list[str]:
        return [*self.crossed, *self.nested, RESIDUAL]

    def covariance(self, logs: np.ndarray) -> Covariance:
        variances = np.exp(logs)
        split = len(self.crossed)
        loadings = [np.sqrt(v) * level for v, level in zip(variances, self.crossed.values(), strict=False)]
        blocks = NestedCovariance.of(len(self.y_N), variances[-1], list(self.nested.values()), variances[split:-1])
        return Covariance.of(blocks, np.concatenate([*loadings, self.known_NL], axis=1))

    def loss_and_gradient(self, logs: np.ndarray) -> tuple[float, np.ndarray]:
        """Minus the log likelihood without its constant, and its derivatives by the logs of the variances."""
        try:
            covariance = self.covariance(logs)
            fixed = covariance.fixed_effects(self.design_NP)
        except linalg.LinAlgError:  # variances so far apart that V is singular in floating point
            return 1e30, np.zeros(len(logs))
        left_N = fixed.project(self.y_N)
        squares = float(self.y_N @ left_N)
        if not squares > 0:  # rounding: a sum of squares
            return 1e30, np.zeros(len(logs))
        slopes = [float((left_N @ level) @ (left_N @ level)) for level in self.crossed.values()]
        traces = [fixed.trace_of(level) for level in self.crossed.values()]
        nested_slopes, nested_traces = fixed.by_level(left_N)
        slopes, traces = np.array(slopes + nested_slopes), np.array(traces + nested_traces)
        loss = (covariance.log_volume + fixed.log_volume + squares) / 2
        return loss, np.exp(logs) * (traces - slopes) / 2


def fit_mixed(
    y_N: np.ndarray,
    design_NP: np.ndarray,
    crossed: Mapping[str, np.ndarray],
    nested: Mapping[str, np.ndarray],
    known_NL: np.ndarray | None = None,
) -> MixedFit:
    """The fit of highest likelihood.

    `crossed` and `nested` have a level (N,) of each observation by factor. Crossed factors have few levels. Nested ones
    may have many; they are listed finest first, and all observations of a level share that of the next. `known_NL` @
    `known_NL`' is a covariance that the observations have beforehand, in their own unit squared. ValueError where the
    fixed effects and levels leave nothing: there is then no noise to be known.
    """
    unit = _unit(y_N, design_NP, crossed)
    if unit == 0:
        raise ValueError("these runs have no residual at all, so that there is no noise to tell; use runs that differ")
    middle = design_NP @ np.linalg.lstsq(design_NP, y_N, rcond=None)[0]
    model = _Model(
        y_N=(y_N - middle) / unit,
        design_NP=design_NP,
        crossed={name: _one_hot(levels) for name, levels in crossed.items()},
        nested=_groups(nested),
        known_NL=np.zeros((len(y_N), 0)) if known_NL is None else known_NL / unit,
    )
    bounds = _bounds(model, [*crossed.values()])
    ends = [
        optimize.minimize(model.loss_and_gradient, start, jac=True, method="L-BFGS-B", bounds=bounds,
                          options={"ftol": 1e-13, "gtol": 1e-7, "maxiter": 300})
        for start in _starts(model, [*crossed.values(), *nested.values()], bounds)
    ]  # fmt: skip
    best = min(ends, key=lambda end: end.fun)
    return _fit(model, best.x, float(best.fun), middle, unit)


def _fit(model: _Model, logs: np.ndarray, loss: float, middle: np.ndarray, unit: float) -> MixedFit:
    covariance = model.covariance(logs)
    fixed = covariance.fixed_effects(model.design_NP)
    num, num_fixed = model.design_NP.shape
    return MixedFit(
        coefficients_P=fixed.weights_PN @ (model.y_N * unit + middle),
        covariance_PP=fixed.covariance_PP * unit**2,
        weights_PN=fixed.weights_PN,
        observations=covariance,
        unit=unit,
        variances={name: float(np.exp(log)) * unit**2 for name, log in zip(model.names, logs, strict=True)},
        log_likelihood=-loss - (num - num_fixed) * (np.log(2 * np.pi) / 2 + np.log(unit)),
    )


def _bounds(model: _Model, crossed: list[np.ndarray]) -> list[tuple[float, float]]:
    """Of the logs of the variances."""
    means = [np.log(max(_variance_of_means(model.y_N, levels), 1.0)) for levels in crossed]
    of_crossed = [(_LOWEST, float(log) + _BEYOND) for log in means]
    return [*of_crossed, *[(_LOWEST, _HIGHEST)] * len(model.nested), (_LOWEST_RESIDUAL, _HIGHEST)]


def _starts(model: _Model, factors: list[np.ndarray], bounds: list[tuple[float, float]]) -> list[np.ndarray]:
    """The factor that dominates has the variance of its levels' means, the others and the residual lower ones."""
    means = [_variance_of_means(model.y_N, levels) for levels in factors]
    largest = int(np.argmax(means))
    starts = []
    for others, residual in _STARTS:
        logs = np.full(len(means) + 1, others)
        logs[largest], logs[-1] = np.log(max(means[largest], 1e-6)), residual
        starts.append(np.clip(logs, *np.transpose(bounds)))
    return starts


def _variance_of_means(y_N: np.ndarray, levels: np.ndarray) -> float:
    codes = np.unique(levels, return_inverse=True)[1]
    means = np.bincount(codes, y_N) / np.bincount(codes)
    return float(means.var(ddof=1)) if len(means) > 1 else 0.0


def _unit(y_N: np.ndarray, design_NP: np.ndarray, crossed: Mapping[str, np.ndarray]) -> float:
    """The deviation that is left beside the fixed effects and the crossed levels; 0 for rounding alone."""
    whole = np.column_stack([design_NP, *(_one_hot(levels) for levels in crossed.values())])
    left = float((y_N - whole @ np.linalg.lstsq(whole, y_N, rcond=None)[0]).std())
    return left if left > 1e-12 * max(1.0, float(np.abs(y_N).max())) else 0.0


def _one_hot(levels: np.ndarray) -> np.ndarray:
    return (levels[:, None] == np.unique(levels)).astype(float)


def _groups(nested: Mapping[str, np.ndarray]) -> dict[str, Groups]:
    """ValueError if a level of a factor lies in two of the next."""
    found, item_of_N = {}, np.arange(len(next(iter(nested.values()), [])))
    for name, levels in nested.items():
        codes_N = np.unique(levels, return_inverse=True)[1]
        codes_I = np.full(item_of_N.max() + 1, -1)
        codes_I[item_of_N] = codes_N
        if (codes_I[item_of_N] != codes_N).any():
            raise ValueError(f"{name}: levels of the finer factor lie in two levels of this one; give them as crossed")
        found[name], item_of_N = Groups.of(codes_I), codes_N
    return found
