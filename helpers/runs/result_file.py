"""`results/<run_id>.jsonl`: one run line, a line for each component and step, and the summaries, last and hashed.

The file's existence is what "done" means, so it is written whole and after everything else. Its last line carries the
SHA-256 of all lines: a file that was cut or altered is recognised and not counted.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.config import RunConfig
from helpers.data.fetch_arxiv import cache_id
from helpers.seals import read_sealed_lines, sealed_lines
from helpers.storage import Storage, publish_text

SCHEMA = 1


@dataclass(frozen=True)
class Result:
    run: dict[str, Any]
    xe: list[dict[str, Any]]
    """A line for each evaluated step and component, steps ascending."""
    summaries: list[dict[str, Any]]
    """A line for each evaluated step, ascending: the last is the end of the run."""


def write_result(path: Path, result: Result) -> Path:
    """Publish `result` at `path` whole."""
    return publish_text(path, result_text(result))


def result_text(result: Result) -> str:
    """The lines of a result file, each list sorted by step."""
    return sealed_lines([result.run, *_by_step(result.xe), *_by_step(result.summaries)])


def read_result(path: Path) -> Result:
    """The result at `path`; ValueError says what is wrong with a file that is cut, altered or of another schema."""
    rows = read_sealed_lines(path, "result file")
    if rows[0].get("kind") != "run":
        raise ValueError(f"{path} does not begin with a run line")
    if rows[0].get("schema") != SCHEMA:
        raise ValueError(f"{path} has schema {rows[0].get('schema')!r}; this version reads {SCHEMA}")
    missing = sorted({"run_id", "study", "config", "provenance"} - rows[0].keys())
    if missing:
        raise ValueError(f"{path} has no {missing[0]} in its run line")
    of_kind = {kind: [row for row in rows[1:] if row.get("kind") == kind] for kind in ("xe", "summary")}
    return Result(rows[0], of_kind["xe"], of_kind["summary"])


def finished_result(config: RunConfig, storage: Storage, report: Callable[[str], None]) -> Result | None:
    """The result of a run that is done, or None. A damaged file is reported and does not count.

    ValueError if the result was measured on other data than the source holds now.
    """
    path = storage.result(config.run_id)
    if not path.exists():
        return None
    try:
        result = read_result(path)
        if result.run["run_id"] != config.run_id:
            raise ValueError(f"{path} is the result of run {result.run['run_id']}")
    except ValueError as error:
        report(f"{error}; the run is evaluated again")
        return None
    measured_on, now = result.run["provenance"].get("cache_id"), cache_id(config.data)
    if measured_on != now:
        raise ValueError(
            f"run {config.run_id} is done, but on other data (cache {measured_on}; the source now gives {now}); "
            "use another --storage for the new data"
        )
    return result


def _by_step(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: row["step"])
