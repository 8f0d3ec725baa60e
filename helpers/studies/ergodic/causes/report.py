"""The causes in words: a sentence each at the largest K that it is known at, a table of all, and what is missing."""

from pathlib import Path

import numpy as np
import pandas as pd

from helpers.analysis.report_blocks import Block, Heading, Picture, Points, Table, Text
from helpers.studies.ergodic.causes.parts import CAUSES, PARTS, SUPPORTED, tells_causes

HEADINGS = {"k": "K", **{part: part for part in PARTS}}
_ASKED = {
    "exposure": "fewer tokens of each component, at equal repeats",
    "repetition": "fewer repeats of each token, at equal tokens",
    "interference": "the other components, in the largest model",
    "capacity": "what the largest model does not pay of that",
    "identification": "not knowing which component is read (exact)",
}


def causes_blocks(parts: pd.DataFrame, figure: Path) -> list[Block]:
    """The section of one condition; nothing for an allocation that is no total. `figure` is where it is drawn if the
    arms suffice for it."""
    if parts.empty:
        return []
    if not tells_causes(parts):
        return [Heading("What moves XE"), Points(missing_sentences(parts))]
    text = (
        "Matched ΔXE at constant total tokens is the sum of these causes, each the difference of two arms of the grid "
        "at equal seeds, components and windows. A cause is supported where its 95 % interval leaves zero out, "
        "contradicted where the interval lies within ±ln K / T, which is what theory allows an ideal learner, and "
        "cannot be told otherwise. Intervals are not adjusted for their number."
    )
    picture = Picture(figure.read_bytes(), figure.name, "The causes of matched ΔXE.")
    table = Table(wide(parts), "Causes of matched ΔXE [95 % interval] (seeds): verdict", HEADINGS)
    points = Points([*sentences(parts), *missing_sentences(parts)])
    return [Heading("What moves XE"), Text(text), points, picture, table]


def sentences(parts: pd.DataFrame) -> list[str]:
    """One for each cause, at the largest K at which it has a value."""
    known = parts[parts["value"].notna()].sort_values("k")
    last = {cause: rows.iloc[-1].to_dict() for cause, rows in known.groupby("cause")}
    return [_sentence(cause, last[cause]) for cause in CAUSES if cause in last]


def _sentence(cause: str, row: dict[str, float]) -> str:
    moves = "" if row["verdict"] != SUPPORTED else ", raises XE" if row["value"] > 0 else ", lowers XE"
    interval = "one seed, so no interval"
    if np.isfinite(row["low"]):
        interval = f"95 % interval {row['low']:+.4f} to {row['high']:+.4f}, {row['num_seeds']} seeds"
    return (
        f"{cause.capitalize()} ({_ASKED[cause]}): {row['verdict']}{moves}. At K = {row['k']} it is {row['value']:+.4f} "
        f"nats per token ({interval})."
    )


def missing_sentences(parts: pd.DataFrame) -> list[str]:
    """Why causes are missing, each reason once."""
    gone = parts[parts["value"].isna() & (parts["cause"] != "total")].groupby("cause", sort=False)
    return [f"Missing: {cause} ({rows['reason'].iloc[0]})." for cause, rows in gone]


def wide(parts: pd.DataFrame) -> pd.DataFrame:
    """One row a K, a column for each part in words."""
    cells = parts.assign(text=[_cell(row) for row in parts.to_dict("records")])
    return (
        cells.pivot(index="k", columns="cause", values="text")
        .reindex(columns=PARTS)
        .reset_index()
        .rename_axis(columns=None)
    )


def _cell(row: dict[str, float]) -> str:
    if np.isnan(row["value"]):
        return "missing"
    interval = f" [{row['low']:.4f}, {row['high']:.4f}]" if np.isfinite(row["low"]) else ""
    return f"{row['value']:.4f}{interval} ({row['num_seeds']}): {row['verdict']}"
