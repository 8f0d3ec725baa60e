"""`results/<run_id>.jsonl`: one run line, rows of whatever kinds its study measures, and the summaries, last, hashed.

The file's existence is what "done" means, so it is written whole and after everything else. Its last line carries the
SHA-256 of all lines: a file that was cut or altered is recognised and not counted.
"""

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.config import RunConfig, canonical_json
from helpers.data.cache_id import cache_id
from helpers.outbox import Outbox
from helpers.seals import read_sealed_lines, sealed_lines
from helpers.storage import Storage, publish_text

SCHEMA = 1


Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one evaluation found: rows of whatever kinds its study reads, and the summary of the step."""

    rows: list[Row]
    summary: Row


@dataclass(frozen=True, kw_only=True)
class Result:
    run: Row
    rows: list[Row]
    """Of any kind; each names its `kind` and `step`."""
    summaries: list[Row]
    """One for each evaluated step, ascending: the last is the end of the run, and has `xe`."""

    def rows_of(self, kind: str) -> list[Row]:
        """The rows of one kind, steps ascending."""
        return [row for row in self.rows if row["kind"] == kind]

    def replaced(self, step: int, measured: Measured) -> "Result":
        """The same with what was measured of `step` instead of what stood there."""
        rows = [row for row in self.rows if row["step"] != step]
        summaries = [row for row in self.summaries if row["step"] != step]
        return dataclasses.replace(self, rows=rows + measured.rows, summaries=[*summaries, measured.summary])


def write_result(path: Path, result: Result) -> Path:
    """Publish `result` at `path` whole."""
    return publish_text(path, result_text(result))


def put_result(outbox: Outbox, result: Result) -> None:
    """Send `result` to the storage through the outbox of its run."""
    text = result_text(result)
    path = outbox.storage.result(outbox.run_id)
    outbox.put(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def result_text(result: Result) -> str:
    """The lines of a result file, each list sorted by step."""
    return sealed_lines([result.run, *_by_step(result.rows), *_by_step(result.summaries)])


def read_result(path: Path) -> Result:
    """The result at `path`; ValueError says what is wrong with a file that is cut, altered or of another schema."""
    run, *others = read_sealed_lines(path, "result file")
    if run.get("kind") != "run":
        raise ValueError(f"{path} does not begin with a run line")
    if run.get("schema") != SCHEMA:
        raise ValueError(f"{path} has schema {run.get('schema')!r}; this version reads {SCHEMA}")
    missing = sorted({"run_id", "study", "config", "provenance"} - run.keys())
    if missing:
        raise ValueError(f"{path} has no {missing[0]} in its run line")
    if not all(isinstance(row.get("kind"), str) and isinstance(row.get("step"), int) for row in others):
        raise ValueError(f"{path} has a line without a kind or a step")
    if not others or others[-1]["kind"] != "summary":
        raise ValueError(f"{path} holds no summary")
    return Result(
        run=run,
        rows=[row for row in others if row["kind"] != "summary"],
        summaries=[row for row in others if row["kind"] == "summary"],
    )


def end_digest(result: Result) -> str:
    """SHA-256 of what a result says of the end of its run: an evaluation of an earlier step leaves it as it is."""
    last = result.summaries[-1]["step"]
    end = [result.run, *(row for row in [*result.rows, *result.summaries] if row["step"] == last)]
    return hashlib.sha256(canonical_json(end).encode("utf-8", "surrogatepass")).hexdigest()


def finished_result(config: RunConfig, storage: Storage, report: Callable[[str], None]) -> Result | None:
    """The result of a run that is done, or None. A damaged file is reported and does not count.

    ValueError if the result was measured on other data than the source holds now.
    """
    path = storage.result(config.run_id)
    if not storage.has(path):
        return None
    try:
        result = read_result(path)
        if result.run["run_id"] != config.run_id:
            raise ValueError(f"{path} is the result of run {result.run['run_id']}")
    except ValueError as error:
        report(f"{error}; the run is evaluated again")
        return None
    require_same_data(config, result)
    return result


def require_same_data(config: RunConfig, result: Result) -> None:
    """ValueError if a result was measured on other data than the source of its run holds now."""
    measured_on, now = result.run["provenance"].get("cache_id"), cache_id(config.data)
    if measured_on != now:
        raise ValueError(
            f"run {config.run_id} is done, but on other data (cache {measured_on}; the source now gives {now}); "
            "use another --storage for the new data"
        )


def _by_step(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: row["step"])
