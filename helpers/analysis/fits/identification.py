"""Which laws a design cannot tell: refused before anything is fitted, with the reason and what would help."""

import numpy as np

from helpers.analysis.fits.laws import Law
from helpers.analysis.fits.points import Points

_COLLINEAR = 1e-3
"""The share of the variance of one log scale that is no straight line in the others; rounding D = 20 N leaves less."""


def require_identified(law: Law, points: Points) -> None:
    """ValueError unless the points can tell the parameters of the law, with at least one point to spare."""
    if points.scales.shape[1] != len(law.terms):
        names = " and ".join(term.scale for term in law.terms)
        raise ValueError(
            f"law = {law.name!r} is a law of {names}, so use {len(law.terms)} scales, not {points.scales.shape[1]}"
        )
    if set(points.arm_names) != set(law.arms):
        raise ValueError(f"arms = {list(law.arms)} are not those of the points; use law.across({points.arm_names})")
    if len(points) <= law.num_free:
        raise ValueError(
            f"num_points = {len(points)} is too few for the {law.num_free} parameters of law = {law.name!r};"
            f" use at least {law.num_free + 1}"
        )
    if np.ptp(np.log(points.losses)) == 0:
        raise ValueError(f"all {len(points)} losses equal {points.losses[0]:g}; use runs whose losses differ")
    for arm in law.arms:
        _require_scales(law, points.scales[points.arms == arm], f" in arm {arm!r}" if arm else "")


def _require_scales(law: Law, scales: np.ndarray, where: str) -> None:
    """Enough distinct values of each scale, and two scales that do not move together."""
    for term, column in zip(law.terms, scales.T, strict=True):
        num_distinct = len(np.unique(column))
        if num_distinct < law.min_scales:
            reason = ": with fewer, E and the exponent trade places" if law.has_offset else ""
            raise ValueError(
                f"law = {law.name!r} needs {law.min_scales} distinct values of {term.scale}{where}, not {num_distinct}"
                f"{reason}; use more sizes{', or law = power' if law.name == 'offset' else ''}"
            )
    if len(law.terms) > 1:
        _require_apart(law, np.log(scales), where)


def _require_apart(law: Law, logs: np.ndarray, where: str) -> None:
    """No scale that the others give by a power of each, and what such runs tell nevertheless."""
    for place, term in reversed(list(enumerate(law.terms))):  # the third scale is the first to be doubted
        if _alone(logs, place) >= _COLLINEAR:
            continue
        others = " and ".join(other.scale for other in law.terms if other is not term)
        if len(law.terms) > 2:
            raise ValueError(
                f"{term.scale} follows from {others}{where}, so {term.exponent} cannot be told; use runs in which it is"
                " varied alone, or law = 'chinchilla'"
            )
        power = float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])
        raise ValueError(
            f"N and D move together{where} (D ~ N^{power:.3g}), so alpha and beta cannot be told apart; use runs of one"
            f" N at several D. What these runs tell is E and one exponent b of compute, between alpha / {1 + power:.3g}"
            f" and beta / {(1 + power) / power:.3g}: law = 'offset' in x = C = 6 N D"
        )


def _alone(logs: np.ndarray, place: int) -> float:
    """The share of the variance of one column (of n, scales) that a straight line in the others leaves."""
    column = logs[:, place] - logs[:, place].mean()
    others = np.column_stack([np.ones(len(logs)), np.delete(logs, place, axis=1)])
    left = column - others @ np.linalg.lstsq(others, column, rcond=None)[0]
    return float(left @ left / (column @ column))
