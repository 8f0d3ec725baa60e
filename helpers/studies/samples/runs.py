"""The runs of the sample-scaling study as one table: what each was, what its best epoch reached, and at what cost.

A condition is what runs share beside the axes. An arm is what a law is fitted to: runs that differ in samples and seed.
"""

from typing import Any

import numpy as np
import pandas as pd

from helpers.analysis.conditions import condition_names, shared_settings
from helpers.analysis.results import Found, ResultFiles, number, read_results
from helpers.config import RunConfig
from helpers.runs.metrics import metrics_path, read_metrics
from helpers.runs.result_file import Result, Row
from helpers.runs.sessions import sessions
from helpers.storage import Storage
from helpers.studies.samples.presets import AXES, NAME

ARM = ["match", "context", "embedding"]


def load_files(storage: Storage) -> ResultFiles:
    """The result files of the study."""
    return read_results(storage, NAME, _check)


def run_table(files: ResultFiles, storage: Storage) -> pd.DataFrame:
    """One row a run, sorted by condition, arm, samples and seed. Perplexity and accuracy are those of the best epoch,
    and so are `steps`: what the reported weights were trained with."""
    settings = [shared_settings(found.config, ("study", *AXES)) for found in files.found.values()]
    rows = [
        {"condition": name, **_row(found), **_cost(storage, found.result.run["run_id"])}
        for name, found in zip(condition_names(settings), files.found.values(), strict=True)
    ]
    return pd.DataFrame(rows).sort_values(["condition", *ARM, "samples", "seed"]).reset_index(drop=True)


def conditions_of(runs: pd.DataFrame) -> list[str]:
    """The conditions, that with most runs first."""
    counts = runs["condition"].value_counts()
    return sorted(counts.index, key=lambda name: (-counts[name], name))


def epochs_of(result: Result) -> list[Row]:
    """Each epoch with what it trained on and how it was validated, in order."""
    validated = {row["epoch"]: row for row in result.rows_of("validation")}
    return [
        {**validated[row["epoch"]], "train_xe": row["train_xe"]}
        for row in result.rows_of("epoch")
        if row["epoch"] in validated
    ]


def _check(result: Result, config: RunConfig) -> None:
    """ValueError, LookupError or TypeError for a result whose numbers cannot be counted."""
    row = _row(Found(result, config))
    for name in ("tokens", "ppl", "accuracy", "steps", "epochs"):
        number(row[name])


def _row(found: Found) -> dict[str, Any]:
    result, config = found
    epochs = epochs_of(result)
    if not epochs:
        raise ValueError("holds no epoch")
    best = min(epochs, key=lambda row: row["xe"])
    first = result.rows_of("epoch")[0]["step"]
    return {
        "run_id": result.run["run_id"],
        "samples": config.data.samples,
        "match": config.passes.match,
        "context": config.model.context,
        "embedding": config.model.embedding,
        "seed": config.seed,
        "tokens": result.run["unique_tokens"],
        "validation_tokens": best["predictions"] + 1,
        "xe": best["xe"],
        "xe_se": best["se"],
        "ppl": best["ppl"],
        "accuracy": best["accuracy"],
        "accuracy_se": best["accuracy_se"],
        "train_xe": best["train_xe"],
        "best_epoch": best["epoch"],
        "epochs": epochs[-1]["epoch"],
        "is_stopped": epochs[-1]["epoch"] < config.train.epochs,
        "steps": _steps(result, best["epoch"], first),
        "steps_all": _steps(result, epochs[-1]["epoch"], first),
        "device": sessions(result.run["provenance"])[-1]["device"],
        **_contexts(result),
    }


def _steps(result: Result, epoch: int, first: int) -> int:
    """Optimiser steps on next tokens until the end of an epoch."""
    (row,) = (row for row in result.rows_of("validation") if row["epoch"] == epoch)
    return row["step"] - first


def _contexts(result: Result) -> dict[str, Any]:
    """The fixed-point phase, and the effective ranks of what came of it; NaN where there was none."""
    iterations, passes = result.rows_of("iteration"), result.rows_of("passes")
    ranks = {(row["of"], row["centred"]): row for row in result.rows_of("rank")}
    row: dict[str, Any] = {
        "iterations": len(iterations) or np.nan,
        "converged": iterations[-1]["converged"] if iterations else np.nan,
        "contraction": _mean_contraction(iterations),
        "pass_contraction": passes[-1]["contraction"] if passes else np.nan,
        "status": passes[-1]["status"] if passes else "",
    }
    for of in ("train", "validation"):
        for centred, suffix in ((False, ""), (True, "_centred")):
            for name in ("percent", "low", "high"):
                row[f"{of}_{name}{suffix}"] = ranks.get((of, centred), {}).get(name, np.nan)
    return row


def _mean_contraction(iterations: list[Row]) -> float:
    """The geometric mean of the ratios of successive residuals, from the largest one on: what an iteration left."""
    residuals = [row["residual"] for row in iterations if row["residual"]]
    if len(residuals) < 2:
        return np.nan
    top = int(np.argmax(residuals))
    after = len(residuals) - 1 - top
    return float((residuals[-1] / residuals[top]) ** (1 / after)) if after else np.nan


def _cost(storage: Storage, run_id: str) -> dict[str, float]:
    """Peak memory of a run in bytes, as its log has it; NaN where that is lost."""
    rows = [row["memory_bytes"] for row in read_metrics(metrics_path(storage, run_id)) if row.get("memory_bytes")]
    return {"memory_bytes": float(max(rows)) if rows else np.nan}
