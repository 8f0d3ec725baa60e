"""Which rows are held out: a comparison of one column, as a person writes it."""

import re

import numpy as np
import pandas as pd

from helpers.analysis.fits.allocation import FLOPS
from helpers.analysis.fits.laws import Law
from helpers.analysis.fits.points import Points
from helpers.analysis.fits.read_table import to_numbers

_FORM = re.compile(r"\s*(?P<name>.+?)\s*(?P<sign><=|>=|<|>)\s*(?P<number>[^<>=]+?)\s*$")
_SIGNS = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal}


def parse_holdout(text: str, law: Law, frame: pd.DataFrame):
    """The rule of `--holdout`: from points to the mask of rows that it holds for.

    A name is one of the law's scales, C (their product, times 6 for N and D: FLOPs), or a column of the table.
    ValueError for another form or name.
    """
    found = _FORM.match(text)
    try:
        number = float(found["number"]) if found else float("nan")
    except ValueError:
        number = float("nan")
    if np.isnan(number):
        raise ValueError(f"holdout = {text!r} is not a comparison with a number; use {law.terms[-1].scale} > 1e9")
    name, compare = found["name"].strip("'\""), _SIGNS[found["sign"]]
    scales = [term.scale for term in law.terms]
    if name not in (*scales, "C", *frame.columns):
        raise ValueError(f"holdout = {text!r} names {name!r}; use {', '.join([*scales, 'C'])} or a column of the table")

    def mask(points: Points) -> np.ndarray:
        if name in scales:
            values = points.scales[:, scales.index(name)]
        elif name == "C" and name not in frame.columns:
            values = points.scales[:, :2].prod(axis=1) * (1.0 if len(scales) == 1 else FLOPS)
        else:
            values = to_numbers(frame[name])[0][points.rows - 1]
        return compare(values, number)

    return mask


def select(points: Points, rule) -> tuple[Points, Points]:
    """The points to fit, and those held out; ValueError where either has none."""
    held = rule(points)
    if held.all() or not held.any():
        raise ValueError(f"holdout takes {held.sum()} of {len(points)} rows; use one that leaves rows on both sides")
    return points.take(~held), points.take(held)
