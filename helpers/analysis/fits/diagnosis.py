"""Words on rows and parameters that a person should look at before the numbers."""

from typing import Any

import numpy as np

from helpers.analysis.fits.answer import rows_far_out
from helpers.analysis.fits.coordinates import Coordinates
from helpers.analysis.fits.fit import Fit
from helpers.analysis.fits.intervals import Draws
from helpers.analysis.fits.laws import OFFSET, Law

_MANY_TOKENS, _FOLLOWING = 5, 0.5
"""Rows of one N, and the correlation of their neighbours' residuals, that checkpoints of one run have."""
_MOST_ON_BOUND = 0.16
"""Of the draws: the middle 68 % then hold a bound, and there is no standard error."""
_MOST_NAMED = 10


def far_rows(fitted: Fit) -> list[dict[str, Any]]:
    """The rows far out, with their residual of log loss and in standard deviations of the noise."""
    points, residuals = fitted.points, fitted.residuals
    return [
        {
            "row": int(points.rows[place]), "loss": float(points.losses[place]), "residual": float(residuals[place]),
            "deviations": float(residuals[place] * np.sqrt(points.weights[place]) / fitted.scale),
        }
        for place in rows_far_out(fitted)
    ]  # fmt: skip


def far_words(fitted: Fit) -> list[str]:
    """One sentence on them; nothing where there are none."""
    rows = far_rows(fitted)
    if not rows:
        return []
    named = ", ".join(f"row {row['row']} ({row['residual']:+.3g})" for row in rows[:_MOST_NAMED])
    more = f" and {len(rows) - _MOST_NAMED} more" if len(rows) > _MOST_NAMED else ""
    return [
        f"{len(rows)} of {fitted.num_points} rows lie further from the law than one in a hundred such tables has any,"
        f" with their residual of log loss: {named}{more}; they are kept and hardly move the fit"
    ]


def checkpoint_words(fitted: Fit) -> list[str]:
    """A warning where rows of one N look like checkpoints of one run: their residuals follow each other along D."""
    points = fitted.points
    if points.scales.shape[1] != 2 or points.num_clusters < len(points):
        return []
    before, after = [], []
    for size in np.unique(points.scales[:, 0]):
        own = np.flatnonzero(points.scales[:, 0] == size)
        if len(own) >= _MANY_TOKENS:
            ordered = fitted.residuals[own[np.argsort(points.scales[own, 1], kind="stable")]]
            before.append(ordered[:-1] - ordered.mean())
            after.append(ordered[1:] - ordered.mean())
    if not before:
        return []
    first, second = np.concatenate(before), np.concatenate(after)
    norm = float(np.sqrt((first @ first) * (second @ second)))
    if norm == 0 or first @ second / norm < _FOLLOWING:
        return []
    return [
        f"residuals of rows of one N follow each other along D (correlation {first @ second / norm:.2f}): if they are"
        " checkpoints of one run, name its column as --cluster; counted as runs they make intervals too narrow"
    ]


def parameter(draws: Draws, name: str, numbers: dict[str, float]) -> dict[str, Any]:
    """A parameter's numbers, without those that are a bound of the search and not the points': 0 where the bound means
    none, and else nothing, with words."""
    law, place = draws.fit.law, draws.fit.law.names.index(name)
    if law.is_fixed[place]:
        return numbers | {"standard_error": 0.0, "note": "fixed"}
    lower, upper = draws.shares_at_bounds()[:, place]
    words, tail = [], 0.025
    if lower > tail:
        least = 0.0 if _may_be_zero(law, name) else None
        numbers = numbers | {"low": least}
        words.append(f"the points allow {'none' if least == 0 else 'any small one'}")
    if upper > tail:
        numbers = numbers | {"high": None}
        words.append("the points set no upper end")
    if lower + upper > _MOST_ON_BOUND:
        numbers = numbers | {"standard_error": None}
    side = _side(draws.fit, place)
    if side == "lower" and _may_be_zero(law, name):
        numbers = numbers | {"value": 0.0, "low": 0.0, "standard_error": None}
        words.append("the best fit has none")
    elif side:
        numbers = numbers | {"value": None, "low": None, "high": None, "standard_error": None}
        words.append("the best fit is on a bound of the search")
    return numbers | ({"note": "; ".join(words)} if words else {})


def _may_be_zero(law: Law, name: str) -> bool:
    return law.has_offset and (name.split("[")[0] == OFFSET or name.split("[")[0] in law.exponents)


def _side(fitted: Fit, place: int) -> str:
    bounds = Coordinates.of(fitted.law, fitted.points)
    at = bounds.centred(fitted.theta)[place]
    return "lower" if at <= bounds.lower[place] + 1e-9 else "upper" if at >= bounds.upper[place] - 1e-9 else ""
