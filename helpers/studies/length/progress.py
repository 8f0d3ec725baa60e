"""How far each begun run is, from the storage alone: best and latest evaluation, trend, speed, time left.

python -m helpers status --study length --preset demo --loop --interval 60
"""

from collections.abc import Sequence

import numpy as np

from helpers.grid.text import duration
from helpers.runs.length import training_tokens
from helpers.runs.metrics import measurements_path, metrics_path, read_metrics
from helpers.runs.result_file import Row
from helpers.runs.status import RunStatus
from helpers.storage import Storage
from helpers.studies.length.presets import FACTORS

TREND_EVALUATIONS = 5


def progress(runs: Sequence[RunStatus], storage: Storage) -> str:
    """A line for each run that has been measured at least once or is at its steps; empty if there is none."""
    lines = [line for run in runs if (line := _line(run, storage))]
    return "\n".join(["", *lines, ""]) if lines else ""


def _line(run: RunStatus, storage: Storage) -> str:
    config = run.config
    logs = read_metrics(metrics_path(storage, config.run_id))
    if run.status == "missing" or not logs:
        return ""
    factors = [getattr(getattr(config, section), name) for section, name in (factor.split(".") for factor in FACTORS)]
    name = f"W {config.data.window_tokens} {' '.join(factors)} seed {config.seed}"
    parts = [f"{name}: {run.status}, step {logs[-1]['step']:,}"]
    parts += _measured(run.result.summaries if run.result else _summaries(storage, config.run_id))
    if run.status != "done":
        parts += _time(logs, training_tokens(config))
    return "; ".join(parts)


def _summaries(storage: Storage, run_id: str) -> list[Row]:
    return [row for row in read_metrics(measurements_path(storage, run_id)) if row.get("kind") == "summary"]


def _measured(summaries: Sequence[Row]) -> list[str]:
    """Best, latest with its ratio SW / TTT at 10 W, and the trend of the last evaluations."""
    if not summaries:
        return ["not measured yet"]
    best, latest = min(summaries, key=lambda row: row["xe"]), summaries[-1]
    ttt, sw = latest["ttt_ppl_at_10xW"], latest["sw_ppl_at_10xW"]
    parts = [
        f"best XE {best['xe']:.4f} at step {best['step']:,}",
        f"latest {latest['xe']:.4f} at step {latest['step']:,}",
        f"PPL at 10 W: TTT {ttt:.1f}, SW {sw:.1f}, SW / TTT {sw / ttt:.3f}",
    ]
    last = summaries[-TREND_EVALUATIONS:]
    if len(last) > 1:
        slope = float(np.polyfit([row["step"] for row in last], [row["xe"] for row in last], 1)[0])
        parts.append(f"trend {1000 * slope:+.4f} nats a 1,000 steps over {len(last)} evaluations")
    return parts


def _time(logs: Sequence[Row], num_tokens: int | None) -> list[str]:
    """Speed and what is left at that speed, evaluations not counted: the median over the last logs."""
    speed = float(np.median([row["tokens_per_s"] for row in logs[-TREND_EVALUATIONS:]]))
    parts = [f"{speed:,.0f} tokens/s"]
    if num_tokens is not None:
        parts.append(f"{duration(max(0.0, (num_tokens - logs[-1]['tokens']) / speed))} of training left at most")
    return parts
