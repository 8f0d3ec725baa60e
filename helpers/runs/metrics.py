"""Rows that a training gathers: metrics.jsonl, one for each log, and measurements.jsonl, what is evaluated on the way.

The rows travel in the checkpoint, from which a run goes on, and each file is rewritten whole beside it: a lost or
damaged one is whole again with the next checkpoint. Its last line carries the SHA-256 of all, and each names its run.
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
class RowLog:
    """The rows of one file of a run: kept here and published whole, for a file on Drive is never appended to."""

    outbox: Outbox
    path: Path
    rows: list[dict[str, Any]] = field(default_factory=list)

    def publish(self) -> None:
        """Send the file to the storage; without a row there is none."""
        if self.rows:
            text = sealed_lines([{"run_id": self.outbox.run_id} | _finite(row) for row in self.rows])
            self.outbox.put(self.path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: the gradient norm of an update that overflowed is null."""
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}


def metrics_path(storage: Storage, run_id: str) -> Path:
    return storage.run(run_id) / "metrics.jsonl"


def measurements_path(storage: Storage, run_id: str) -> Path:
    return storage.run(run_id) / "measurements.jsonl"


def check_rows(path: Path, run_id: str) -> list[dict[str, Any]]:
    """The rows of a file that is whole. ValueError if it is missing, was cut or altered, or is another run's."""
    try:
        rows = read_sealed_lines(path, "file of rows")
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing") from error
    for row in rows:
        if (owner := row.pop("run_id", None)) != run_id:
            raise ValueError(f"{path} belongs to run {owner}")
    return rows


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics file up to the first that is broken, none if it does not exist."""
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
