"""How much of the exact posterior can be read from the residual stream, for each K and layer, over runs."""

import numpy as np
import pandas as pd

from helpers.analysis.estimates import mean_over_runs
from helpers.studies.ergodic.results import Results
from helpers.studies.ergodic.roles import GRID

READINGS = {"r2": "trained", "r2_untrained": "untrained", "r2_shuffled": "shuffled"}
COLUMNS = [
    "k", "layer", "num_runs", "r2", "r2_low", "r2_high", "r2_untrained", "r2_untrained_low", "r2_untrained_high",
    "r2_shuffled", "r2_shuffled_low", "r2_shuffled_high", "gain", "gain_low", "gain_high", "verdict",
]  # fmt: skip


def beliefs(results: Results, condition: str) -> pd.DataFrame:
    """One row a K and layer of the grid's runs that were measured: mean held-out R2 of each reading with its t interval
    over runs, and `gain`, the trained R2 less the untrained at the same initialisation, with its verdict.

    supported: the interval of the gain lies above 0. contradicted: below 0.
    """
    runs, _ = results.of(condition, GRID)
    rows = results.further["belief"]
    rows = rows[rows["run_id"].isin(runs["run_id"])]
    table = [_row(k, layer, own) for (k, layer), own in rows.groupby(["k", "layer"])]
    return pd.DataFrame(table, columns=COLUMNS)


def _row(k: int, layer: int, rows: pd.DataFrame) -> dict[str, object]:
    row: dict[str, object] = {"k": k, "layer": int(layer), "num_runs": len(rows)}
    columns = {name: rows[name] for name in READINGS} | {"gain": rows["r2"] - rows["r2_untrained"]}
    for name, values in columns.items():
        estimate = mean_over_runs(values.to_numpy(float))
        row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    return row | {"verdict": _verdict(row["gain_low"], row["gain_high"])}


def _verdict(low: float, high: float) -> str:
    return "supported" if low > 0 else "contradicted" if high < 0 else "cannot tell"


def last_layers(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of each K's last layer."""
    return table[table["layer"] == table["layer"].max()] if len(table) else table


def half_widths(rows: pd.DataFrame, name: str) -> np.ndarray:
    """The lengths (2, N) of error bars down and up, NaN where a single run has no interval."""
    lengths = np.stack([rows[name] - rows[f"{name}_low"], rows[f"{name}_high"] - rows[name]]).astype(float)
    return np.where(np.isfinite(lengths), lengths, np.nan)
