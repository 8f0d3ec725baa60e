"""What the result files say of each run beside its numbers: its settings and its provenance.

Tables and statistics need neither; the report names the provenance of every number, and a comparison of conditions
has to know that they differ in one setting and in no other.
"""

import copy
from typing import Any

from helpers.analysis.results import Results
from helpers.config import RunConfig
from helpers.evaluation.result_file import read_result
from helpers.overrides import from_json
from helpers.storage import Storage

RunLine = dict[str, Any]


def run_lines(storage: Storage, results: Results) -> dict[str, RunLine]:
    """The run line of every run that is counted, by run_id.

    LookupError if a result file went away after `results` were loaded.
    """
    wanted, found = set(results.runs["run_id"]), {}
    paths = [path for path in storage.results().glob("*.jsonl") if not path.name.startswith(".")]
    for path in sorted(paths, key=lambda path: (len(path.name), path.name)):
        if wanted <= found.keys():
            break
        try:
            line = read_result(path).run
        except (ValueError, OSError):
            continue  # named in results.left_out
        if line["run_id"] in wanted:
            found.setdefault(line["run_id"], line)
    gone = sorted(wanted - found.keys())
    if gone:
        raise LookupError(f"the result of run {gone[0]} went away while it was analysed; analyse again")
    return found


def alike_but_for(results: Results, lines: dict[str, RunLine], condition: str, setting: str) -> list[str]:
    """The conditions whose science is that of `condition` but for one setting such as `model.size`; itself first."""
    first = results.runs.drop_duplicates("condition").set_index("condition")["run_id"]
    science = {name: _without(lines[run_id]["config"], setting) for name, run_id in first.items()}
    others = [name for name in results.conditions if name != condition and science[name] == science[condition]]
    return [condition, *others]


def _without(config: dict[str, Any], setting: str) -> dict[str, Any]:
    """A run's science without what a grid varies, and without one more setting."""
    science = copy.deepcopy(from_json(RunConfig, config).science())
    for name in ("k", "seed", "data.components", "data.shuffle_labels", setting):
        *sections, last = name.split(".")
        part = science
        for section in sections:
            part = part[section]
        del part[last]
    return science
