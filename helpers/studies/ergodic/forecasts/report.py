"""The forecasts in words: how many count, what came, and which are refused."""

from pathlib import Path

import numpy as np
import pandas as pd

from helpers.analysis.report_blocks import Block, Heading, Picture, Points, Table, Text
from helpers.studies.ergodic.forecasts.outcome import below

HEADINGS = {
    "k": "K", "num_runs": "runs", "forecast": "forecast XE", "xe": "XE (nats/token)", "excess": "XE - forecast",
    "low": "95 % from (t)", "high": "to (t)", "num_matched": "matched runs", "forecast_dxe": "forecast ΔXE",
    "dxe": "matched ΔXE", "bound": "ln K / T",
}  # fmt: skip


def forecasts_blocks(by_run: pd.DataFrame, by_k: pd.DataFrame, figure: Path) -> list[Block]:
    """The section of one condition. `figure` is drawn where a forecast names an XE and counts."""
    heading = Heading("What theory said before the runs")
    if by_run.empty:
        return [heading, Text("No run has a forecast: they were begun before this version wrote one.")]
    refused = [f"Refused: the forecast of {run.run_id} ({run.refused})." for run in by_run.itertuples() if run.refused]
    if by_k.empty:
        text = (
            "The source's law is not known, so that theory forecasts no XE: it says that an ideal learner's matched "
            "ΔXE lies between 0 and ln K / T, which was written before each run and stands beside matched ΔXE above."
        )
        return [heading, Text(text), *([Points(refused)] if refused else [])]
    picture = Picture(figure.read_bytes(), figure.name, "The forecast beside the outcome.")
    table = Table(by_k, "Forecast and outcome by K; the excess with t intervals over runs", HEADINGS)
    return [
        heading,
        Points([_lead(by_run), *map(_sentence, by_k.to_dict("records")), *_wrong(by_k), *refused]),
        picture,
        table,
    ]


def _lead(by_run: pd.DataFrame) -> str:
    counting = (by_run["refused"] == "").sum()
    return (
        f"{counting} of {len(by_run)} forecasts count: each is the exact XE of an ideal learner on the run's "
        "evaluation windows, written before the first step; the result carries the same number."
    )


def _sentence(row: dict[str, float]) -> str:
    start = f"K = {row['k']}: forecast {row['forecast']:.4f}, outcome {row['xe']:.4f} nats per token"
    if not np.isfinite(row["low"]):
        return f"{start} (1 run)."
    span = f"95 % interval {row['low']:+.4f} to {row['high']:+.4f}, {row['num_runs']} runs"
    return f"{start}: {row['excess']:+.4f} ({span})."


def _wrong(by_k: pd.DataFrame) -> list[str]:
    return [f"K = {k}: the models lose less than an ideal learner can, which no model may." for k in below(by_k)]
