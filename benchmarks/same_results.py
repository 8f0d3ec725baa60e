"""Whether two storages hold the same results: every number of every run, under the same run_ids.

    python -m benchmarks.same_results STORAGE OTHER

What may differ is where and when a run was made (provenance), the revision of the code that wrote it, and settings that
a later version left out because they had one legal value. Exits with 1 and names each difference otherwise.
"""

import json
import sys
from pathlib import Path

from helpers.config import RunConfig, to_json
from helpers.settings import from_json

_NOT_COMPARED = ("provenance", "sha256")


def differences(first: Path, second: Path) -> list[str]:
    """A line for each result that only one storage has, and for each number in which two results differ."""
    names = [{path.name for path in (root / "results").glob("*.jsonl")} for root in (first, second)]
    found = [f"{name} is in one storage only" for name in sorted(names[0] ^ names[1])]
    for name in sorted(names[0] & names[1]):
        rows = [_rows(root / "results" / name) for root in (first, second)]
        if len(rows[0]) != len(rows[1]):
            found.append(f"{name} has {len(rows[0])} and {len(rows[1])} lines")
        for number, pair in enumerate(zip(*rows, strict=False)):
            keys = pair[0].keys() | pair[1].keys()
            found += [f"{name} line {number}: {key}" for key in sorted(keys) if pair[0].get(key) != pair[1].get(key)]
    return found


def _rows(path: Path) -> list[dict]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        for key in _NOT_COMPARED:
            row.pop(key, None)
        if "config" in row:
            row["config"] = to_json(from_json(RunConfig, row["config"]))
            row["config"].pop("execution")
    return rows


def main(first: str, second: str) -> int:
    found = differences(Path(first), Path(second))
    compared = len(list((Path(first) / "results").glob("*.jsonl")))
    print("\n".join(found) or f"{compared} results are equal in every number")
    return 1 if found or not compared else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
