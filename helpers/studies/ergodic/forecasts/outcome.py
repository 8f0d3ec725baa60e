"""What theory said of the runs beside what came: for each run, and for each K with the interval over runs."""

import contextlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from helpers.analysis.estimates import mean_over_runs
from helpers.seals import read_sealed
from helpers.storage import Storage
from helpers.studies.ergodic.contrasts import with_k1
from helpers.studies.ergodic.forecasts.place import NUMBERS, forecast_path
from helpers.studies.ergodic.matched import matched_by_run
from helpers.studies.ergodic.results import Results
from helpers.studies.ergodic.roles import GRID

RUN_COLUMNS = [
    "run_id", "role", "k", "seed", "forecast", "xe", "excess", "forecast_dxe", "dxe", "bound", "refused",
]  # fmt: skip
K_COLUMNS = ["k", "num_runs", "forecast", "xe", "excess", "low", "high", "num_matched", "forecast_dxe", "dxe", "bound"]


def forecast_by_run(results: Results, condition: str, files: Mapping[str, dict[str, Any]]) -> pd.DataFrame:
    """One row a run that has a forecast: `forecast` XE (NaN where theory says nothing of it), `xe`, `excess` of the one
    over the other, the same for matched dXE, and why a forecast is `refused`; empty where it counts.

    `files` holds what each run's forecast file says now, and nothing for one that is gone or damaged.
    """
    runs = results.runs_of(condition).set_index("run_id")
    said = results.further["forecast"].set_index("run_id")
    said = said[said.index.isin(runs.index)]
    matched = matched_by_run(with_k1(results, condition, GRID)).set_index("run_id")["dxe"]
    outcome = runs["xe"].reindex(said.index)
    table = pd.DataFrame(
        {
            "role": said["role"], "k": said["k"], "seed": said["seed"], "forecast": said["xe"].astype(float),
            "xe": outcome, "excess": outcome - said["xe"].astype(float), "forecast_dxe": said["dxe"].astype(float),
            "dxe": matched.reindex(said.index), "bound": said["bound"].astype(float),
            "refused": [_refused(row, files.get(run_id)) for run_id, row in said.iterrows()],
        }
    )  # fmt: skip
    return table.rename_axis("run_id").reset_index()[RUN_COLUMNS]


def forecast_files(results: Results, storage: Storage) -> dict[str, dict[str, Any]]:
    """What the forecast file says of each run that has a forecast in its result, if it is there and whole."""
    found = {}
    for run_id in results.further["forecast"]["run_id"]:
        path = forecast_path(storage, run_id)
        storage.look(path)
        with contextlib.suppress(OSError, ValueError):
            found[run_id] = read_sealed(path)
    return found


def forecast_by_k(by_run: pd.DataFrame) -> pd.DataFrame:
    """One row a K of the grid's runs whose forecast counts and names an XE: means, and the excess with its t interval
    over runs."""
    counted = by_run[(by_run["role"] == GRID) & (by_run["refused"] == "") & by_run["forecast"].notna()]
    rows = []
    for k, own in counted.groupby("k"):
        excess, has_dxe = mean_over_runs(own["excess"].to_numpy(float)), own[own["dxe"].notna()]
        rows.append(
            {
                "k": k, "num_runs": len(own), "forecast": own["forecast"].mean(), "xe": own["xe"].mean(),
                "excess": excess.value, "low": excess.low, "high": excess.high, "num_matched": len(has_dxe),
                "forecast_dxe": has_dxe["forecast_dxe"].mean(), "dxe": has_dxe["dxe"].mean(),
                "bound": own["bound"].mean(),
            }
        )  # fmt: skip
    return pd.DataFrame(rows, columns=K_COLUMNS)


def below(by_k: pd.DataFrame) -> list[int]:
    """The K at which runs lose less than an ideal learner can: there something is wrong."""
    return [int(k) for k in by_k.loc[np.isfinite(by_k["high"]) & (by_k["high"] < 0), "k"]]


def _refused(row: pd.Series, file: dict[str, Any] | None) -> str:
    """Why a forecast does not count, or nothing."""
    if file is None:
        return "its file is gone or damaged"
    if not row["started"] or row["started"] <= file["written"]:
        return "it was not written before the training started"
    carried = {name: None if pd.isna(row[name]) else row[name] for name in NUMBERS}
    is_same = carried == {name: file[name] for name in NUMBERS}
    return "" if is_same else "its file says other numbers than the result"
