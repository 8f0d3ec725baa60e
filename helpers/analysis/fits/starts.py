"""Where the descents begin: a grid of exponents, each with plain and with projected coefficients."""

import itertools

import numpy as np
from scipy.optimize import nnls

from helpers.analysis.fits.coordinates import Coordinates
from helpers.analysis.fits.laws import OFFSET, Law

_EXPONENTS = (0.03, 0.08, 0.15, 0.25, 0.4, 0.7, 1.5)
_OFFSET_SHARES = (0.2, 0.8)
"""Of a typical loss, for the plain starts."""


def starts(law: Law, coordinates: Coordinates) -> np.ndarray:
    """(num_starts, p) in `coordinates`: for each pair (or single) of exponents the plain coefficients and, as the law
    is linear in them once the exponents are fixed, the non-negative least-squares ones (variable projection, Golub &
    Pereyra 1973)."""
    values = itertools.product(_EXPONENTS, repeat=len(law.exponents))
    grid = [dict(zip(law.exponents, value, strict=True)) for value in values]
    begin = [_plain(law, exponents, share) for exponents in grid for share in _OFFSET_SHARES[: 1 + law.has_offset]]
    begin += [_projected(law, coordinates, _plain(law, exponents, 0.5)) for exponents in grid]
    return np.clip(np.stack(begin), coordinates.lower, coordinates.upper)


def _plain(law: Law, exponents: dict[str, float], share: float) -> np.ndarray:
    """E at a share of a typical loss, and the terms sharing the rest."""
    rest = np.log((1 - share) / len(law.terms)) if law.has_offset else 0.0
    parameters = [name.split("[")[0] for name in law.names]
    return np.array([np.log(share) if name == OFFSET else exponents.get(name, rest) for name in parameters])


def _projected(law: Law, coordinates: Coordinates, begin: np.ndarray) -> np.ndarray:
    """`begin` with its coefficients and E replaced: least squares of relative residuals, none below zero."""
    design, is_exponent = coordinates.design, law.is_exponent
    decay = np.exp(design[:, :, is_exponent] @ begin[is_exponent] - coordinates.log_losses[:, None])
    basis = np.einsum("nkc,nk->nc", design[:, :, ~is_exponent], decay)
    coefficients = nnls(basis, np.ones(len(basis)))[0]
    projected = begin.copy()
    projected[~is_exponent] = np.log(np.maximum(coefficients, np.exp(coordinates.lower[~is_exponent])))
    return projected
