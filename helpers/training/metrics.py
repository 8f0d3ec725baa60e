"""metrics.jsonl: a line for each log of a run, rewritten whole beside each checkpoint and cut back on resume."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers.storage import publish_text


@dataclass(kw_only=True)
class MetricsLog:
    """The lines of one run; a file on Drive is never appended to, so they are kept here and published whole."""

    path: Path
    rows: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def resume(cls, path: Path, step: int) -> "MetricsLog":
        """The lines up to `step`: later ones belong to steps that will be trained again. A broken line ends them."""
        return cls(path=path, rows=[row for row in read_metrics(path) if row["step"] <= step])

    def publish(self) -> None:
        publish_text(self.path, "".join(json.dumps(row) + "\n" for row in self.rows))


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
