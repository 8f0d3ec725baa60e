"""metrics.jsonl: a line for each log of a run, rewritten whole beside each checkpoint.

The lines travel in the checkpoint, from which a run goes on: the file is for readers, and one that is lost or damaged
is whole again with the next checkpoint. Its last line carries the SHA-256 of all, and each names its run.
"""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers.outbox import Outbox
from helpers.seals import read_sealed_lines, sealed_lines
from helpers.storage import Storage


@dataclass(kw_only=True)
class MetricsLog:
    """The lines of one run; a file on Drive is never appended to, so they are kept here and published whole."""

    outbox: Outbox
    rows: list[dict[str, Any]] = field(default_factory=list)

    def publish(self) -> None:
        text = sealed_lines([{"run_id": self.outbox.run_id} | _finite(row) for row in self.rows])
        path = metrics_path(self.outbox.storage, self.outbox.run_id)
        self.outbox.put(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: the gradient norm of an update that overflowed is null."""
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}


def metrics_path(storage: Storage, run_id: str) -> Path:
    return storage.run(run_id) / "metrics.jsonl"


def check_metrics(path: Path, run_id: str) -> None:
    """ValueError if the metrics file at `path` is missing, was cut or altered, or is another run's."""
    try:
        owners = {row.get("run_id") for row in read_sealed_lines(path, "metrics file")} - {run_id}
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing") from error
    if owners:
        raise ValueError(f"{path} belongs to run {owners.pop()}")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file up to the first that is broken, none if it does not exist."""
    rows: list[dict[str, Any]] = []
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                break
            if not isinstance(row, dict) or not isinstance(row.get("step"), int):
                break
            rows.append(row)
    return rows
