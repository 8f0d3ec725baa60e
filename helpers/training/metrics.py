"""metrics.jsonl: a line for each log of a run, rewritten whole beside each checkpoint and cut back on resume."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers.outbox import Outbox
from helpers.storage import Storage


@dataclass(kw_only=True)
class MetricsLog:
    """The lines of one run; a file on Drive is never appended to, so they are kept here and published whole."""

    outbox: Outbox
    rows: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def resume(cls, outbox: Outbox, step: int) -> "MetricsLog":
        """The lines up to `step`: later ones belong to steps that will be trained again. A broken line ends them."""
        path = metrics_path(outbox.storage, outbox.run_id)
        return cls(outbox=outbox, rows=[row for row in read_metrics(path) if row["step"] <= step])

    def publish(self) -> None:
        text = "".join(json.dumps(row) + "\n" for row in self.rows)
        path = metrics_path(self.outbox.storage, self.outbox.run_id)
        self.outbox.put(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def metrics_path(storage: Storage, run_id: str) -> Path:
    return storage.run(run_id) / "metrics.jsonl"


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a metrics file, none if it does not exist."""
    rows: list[dict[str, Any]] = []
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                break
            if not isinstance(row, dict) or not isinstance(row.get("step"), int):
                break
            rows.append(row)
    return rows
