"""The points of a fit: a loss at each scale, the arm it belongs to, and which runs are resampled together."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from helpers.analysis.fits.read_table import to_numbers

LARGEST = 1e100
"""Scales and losses lie between its inverse and it: beyond, products and squares of them are no longer numbers."""
SCHEDULE_COLUMN = "schedule_complete"
_MANY_DIGITS = 7
"""Of a loss: two runs do not agree in so many."""
_TRUTH = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


@dataclass(frozen=True, kw_only=True)
class Points:
    """One row a run. Built by `Points.of` or `read_points`, which refuse what no law can be fitted to."""

    scales: np.ndarray
    """(n, scales), positive: compute, or parameters and tokens."""
    losses: np.ndarray
    """(n,), positive."""
    arms: np.ndarray
    """(n,) labels; all empty where there is one arm only."""
    clusters: np.ndarray
    """(n,) codes from 0: runs of one cluster are resampled together."""
    weights: np.ndarray
    """(n,) of mean 1: how much each run's squared residual counts, as the inverse of its variance."""
    rows: np.ndarray
    """(n,) the row of the table that each is, 1 for the first below the header."""

    @classmethod
    def of(
        cls,
        scales: np.ndarray,
        losses: np.ndarray,
        arms: Sequence[str] | None = None,
        clusters: Sequence | None = None,
        weights: np.ndarray | None = None,
        rows: np.ndarray | None = None,
    ) -> "Points":
        """Points from columns; `scales` is (n,) or (n, scales). Without `clusters`, runs at the same scales are one:
        the seeds of a configuration, and the runs of other arms that are matched with it.

        ValueError for numbers that are not positive, and columns of different lengths.
        """
        losses, scales = np.asarray(losses, dtype=float), np.asarray(scales, dtype=float)
        scales = scales[:, None] if scales.ndim == 1 else scales
        labels = np.full(len(losses), "") if arms is None else np.asarray([str(arm) for arm in arms])
        together = [tuple(row) for row in scales] if clusters is None else list(clusters)
        lengths = {"losses": len(losses), "scales": len(scales), "arms": len(labels), "clusters": len(together)}
        if not len(losses) or len(set(lengths.values())) > 1:
            raise ValueError(f"{', '.join(f'{num} {name}' for name, num in lengths.items())}: use one of each a run")
        for name, column in (("a loss", losses), *(("a scale", column) for column in scales.T)):
            _require_positive(name, column)
        weights = np.ones(len(losses)) if weights is None else np.asarray(weights, dtype=float)
        _require_positive("a weight", weights)
        return cls(
            scales=scales, losses=losses, arms=labels, clusters=pd.factorize(pd.Series(together))[0],
            weights=weights / weights.mean(), rows=np.arange(1, len(losses) + 1) if rows is None else np.asarray(rows),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.losses)

    def take(self, rows: np.ndarray) -> "Points":
        """The points at `rows`, a mask or indices."""
        columns = {name: getattr(self, name)[rows] for name in ("scales", "losses", "arms", "weights", "rows")}
        columns["weights"] = columns["weights"] / columns["weights"].mean()
        return Points(**columns, clusters=pd.factorize(self.clusters[rows])[0])

    @cached_property
    def arm_names(self) -> tuple[str, ...]:
        """In the order in which they appear; the first is the reference of every comparison."""
        return tuple(dict.fromkeys(self.arms.tolist()))

    @property
    def num_clusters(self) -> int:
        return int(self.clusters.max()) + 1

    @cached_property
    def configurations(self) -> np.ndarray:
        """(n,) codes from 0: runs of one arm at the same scales differ in their seed only."""
        return pd.factorize(pd.Series(list(zip(self.arms, map(tuple, self.scales), strict=True))))[0]

    @property
    def extent(self) -> np.ndarray:
        """(n,) the log of the product of the scales: the order from small to large."""
        return np.log(self.scales).sum(axis=1)

    @property
    def seed_deviation(self) -> float:
        """The pooled standard deviation of log loss between runs of one configuration; NaN without replicates."""
        groups = pd.Series(np.log(self.losses)).groupby(self.configurations)
        freedom = len(self) - groups.ngroups
        return float(np.sqrt((groups.var(ddof=0) * groups.size()).sum() / freedom)) if freedom else float("nan")


def read_points(
    frame: pd.DataFrame,
    *,
    y: str,
    x: str = "",
    n: str = "",
    d: str = "",
    flop: str = "",
    arm: str = "",
    cluster: Sequence[str] = (),
    weights: str = "",
    drop_top: int = 0,
) -> tuple[Points, list[str]]:
    """Points from the named columns of a table, and words on every row that was left out.

    The scale is `x`, or `n` (parameters) with `d` (tokens), or `n` with `flop`, from which D = FLOP / (6 N). Rows
    whose column `schedule_complete` is false are left out: their loss is not that of a run of so many tokens, and so
    are copies of a row. Then the `drop_top` highest losses are. Rows that agree in all `cluster` columns are resampled
    together; `weights` are inverse variances of log loss.
    """
    notes: list[str] = []
    frame = _complete(frame.reset_index(drop=True), notes)
    named = dict.fromkeys(name for name in (y, x, n, d, flop, arm, weights, *cluster) if name)
    frame = _without_copies(frame, [str(_column(frame, name).name) for name in named], notes)
    frame = _without_separators(frame, [name for name in (y, x, n, d, flop, weights) if name], notes)
    losses = _numbers(frame, y)
    scales = _scales(frame, x, n, d, flop)
    arms = _labels(frame, arm).tolist() if arm else None
    clusters = list(zip(*(_labels(frame, column) for column in cluster), strict=True)) if cluster else None
    counts = _numbers(frame, weights) if weights else None
    points = Points.of(scales, losses, arms, clusters, counts, rows=frame.index.to_numpy() + 1)
    if not 0 <= drop_top < len(points):
        raise ValueError(f"drop_top = {drop_top} is not possible for {len(points)} rows; use 0 to {len(points) - 1}")
    if drop_top:
        kept = np.sort(np.argsort(losses, kind="stable")[:-drop_top])
        notes.append(f"the {drop_top} highest losses are left out, as asked")
        points = points.take(kept)
    return points, notes


def _complete(frame: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """The rows whose schedule ended."""
    if SCHEDULE_COLUMN not in frame.columns:
        return frame
    complete = frame[SCHEDULE_COLUMN].astype(str).str.lower().map(_TRUTH)
    if complete.isna().any():
        value = frame[SCHEDULE_COLUMN][complete.isna()].iloc[0]
        raise ValueError(f"{SCHEDULE_COLUMN} = {value!r} is neither true nor false")
    left_out = int((~complete.astype(bool)).sum())
    if left_out:
        notes.append(f"{left_out} of {len(frame)} rows are left out: their schedule had not ended at that token count")
    return frame[complete.astype(bool)]


def _without_copies(frame: pd.DataFrame, columns: list[str], notes: list[str]) -> pd.DataFrame:
    """The rows without those that are copies: equal in everything that is fitted, where that is no chance.

    Seeds of one configuration may agree in a loss that was rounded; every row the same number of times, or a loss of
    many digits, is a table that was written twice.
    """
    if frame.empty:
        return frame
    is_copy = frame.duplicated(columns)
    counts = frame.groupby(columns, dropna=False).size()
    digits = frame.loc[is_copy, columns[0]].astype(str).str.replace(r"\D", "", regex=True).str.strip("0").str.len()
    if not is_copy.any() or not (counts.nunique() == 1 or (digits >= _MANY_DIGITS).all()):
        if is_copy.any():
            first = int(frame.index[is_copy][0]) + 1
            notes.append(
                f"{is_copy.sum()} rows equal an earlier one in all named columns (the first is row {first}); they are"
                " counted as runs of their own: remove them if they are copies"
            )
        return frame
    notes.append(
        f"{is_copy.sum()} of {len(frame)} rows are copies of others (the first is row"
        f" {int(frame.index[is_copy][0]) + 1}) and are left out: a copy is not a run"
    )
    return frame[~is_copy]


def _without_separators(frame: pd.DataFrame, columns: list[str], notes: list[str]) -> pd.DataFrame:
    """Columns of numbers that were written with thousands separators, as numbers."""
    for name in dict.fromkeys(columns):
        numbers, is_grouped = to_numbers(frame[name])
        if is_grouped:
            frame = frame.assign(**{name: pd.Series(numbers, frame.index).where(~np.isnan(numbers), frame[name])})
            notes.append(f"column {name!r} has thousands separators: its first number is read as {numbers[0]:.15g}")
    return frame


def _scales(frame: pd.DataFrame, x: str, n: str, d: str, flop: str) -> np.ndarray:
    """(n, 1) of x, or (n, 2) of parameters and tokens, or (n, 3) of those and x."""
    given = {name for name, column in {"x": x, "n": n, "d": d, "flop": flop}.items() if column}
    if given == {"x"}:
        return _numbers(frame, x)[:, None]
    third = [_numbers(frame, x)] if x else []
    if given - {"x"} == {"n", "d"}:
        return np.stack([_numbers(frame, n), _numbers(frame, d), *third], axis=1)
    if given - {"x"} == {"n", "flop"}:
        parameters = _numbers(frame, n)
        return np.stack([parameters, _numbers(frame, flop) / (6 * parameters), *third], axis=1)
    raise ValueError(f"scales = {sorted(given)} cannot be used; name x, or n and d, or n and flop (D = FLOP / (6 N))")


def _column(frame: pd.DataFrame, name: str) -> pd.Series:
    if name not in frame.columns:
        raise ValueError(f"column {name!r} is not in the table; it has {', '.join(map(repr, frame.columns))}")
    if frame.empty:
        raise ValueError(f"column {name!r} has no rows to fit")
    return frame[name]


def _numbers(frame: pd.DataFrame, name: str) -> np.ndarray:
    """A column as positive numbers, or a ValueError that names the row (1 is the first below the header)."""
    column = _column(frame, name)
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(float)
    _require_positive(f"column {name!r}", numbers, column.tolist(), [int(row) + 1 for row in frame.index])
    return numbers


def _labels(frame: pd.DataFrame, name: str) -> np.ndarray:
    column = _column(frame, name)
    if column.isna().any():
        raise ValueError(f"column {name!r} has no label in row {int(column.index[column.isna()][0]) + 1}")
    return column.astype(str).to_numpy()


def _require_positive(
    name: str, numbers: np.ndarray, texts: Sequence | None = None, rows: Sequence[int] | None = None
) -> None:
    """ValueError unless all numbers are positive and of a size to compute with: their logs are what is fitted."""
    wrong = np.flatnonzero(~((numbers >= 1 / LARGEST) & (numbers <= LARGEST)))
    if len(wrong):
        first = wrong[0]
        value, row = texts[first] if texts else numbers[first], rows[first] if rows else first + 1
        raise ValueError(
            f"{name} = {value!r} in row {row} is not a positive number, {1 / LARGEST:g} to {LARGEST:g} (such rows:"
            f" {len(wrong)} of {len(numbers)}); remove these runs, or give the column in other units"
        )
