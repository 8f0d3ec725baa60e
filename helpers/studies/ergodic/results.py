"""Result files -> two tables: one row a run, and one row a run and component, both at the end of the run.

Only runs that share a condition may be averaged (`conditions`). The runs on one component of an allocation under which
they train as under `full` are stored once, there, and count in both conditions.
"""

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from helpers.analysis.conditions import Settings, condition_file_name, condition_names, shared_settings, without
from helpers.analysis.results import ResultFiles, array, number, number_or_nan, read_results, require_results, text
from helpers.config import ALIKE_AT_ONE, RunConfig, portable_name
from helpers.runs.result_file import Result
from helpers.runs.sessions import changes, sessions
from helpers.storage import Storage
from helpers.studies.ergodic.forecasts.place import NUMBERS
from helpers.studies.ergodic.presets import NAME
from helpers.studies.ergodic.roles import BASELINE, VARIED, role_of

RUN_COLUMNS = (
    "run_id", "condition", "role", "k", "seed", "source", "size", "components", "allocation", "order", "sampling",
    "shuffle", "is_baseline", "window_tokens", "step", "xe", "ppl", "bayes_xe", "bayes_known_xe", "tokens_seen",
    "unique_tokens", "repetition", "params_total", "params_non_embedding", "params_matmul", "flops_exact", "flops_6nd",
    "device", "precision", "num_sessions", "changes",
)  # fmt: skip
XE_COLUMNS = (
    "run_id", "condition", "role", "k", "seed", "component", "split", "windows", "unique_tokens", "xe", "ppl", "se",
    "bayes_xe", "bayes_known_xe", "xe_by_position", "bayes_xe_by_position", "bayes_known_xe_by_position",
    "paper_windows", "paper_xe", "paper_first_xe",
)  # fmt: skip
TOTAL_TOKENS = "training tokens"
FURTHER = {
    "belief": ("layer", "r2", "r2_untrained", "r2_shuffled"),
    "forecast": (*NUMBERS, "started"),
}
"""The kinds of rows that a result may hold beside XE, and their columns."""


@dataclass(frozen=True, kw_only=True)
class Results:
    """What the result files of the study hold."""

    runs: pd.DataFrame
    """One row a run (RUN_COLUMNS); XE in nats per token, the mean over its components at the last step. Exact Bayes
    values are NaN where they are not known."""
    xe: pd.DataFrame
    """One row a run and component (XE_COLUMNS); `*_by_position` are arrays of shape (T,), or None if not known;
    `paper_*` of shape (P,), one value a test paper, in an order that all runs share; that of the first token is None
    in files that do not hold it."""
    run_lines: dict[str, dict[str, Any]]
    """What each counted file says of its run as a whole, by run_id: settings and provenance."""
    settings: dict[str, Settings]
    """What the runs of a condition share, by its name."""
    further: dict[str, pd.DataFrame]
    """Rows of further kinds (FURTHER) at the end of the runs, with run_id, condition, role, k and seed."""
    left_out: list[str]
    """`file: reason`, for every file that is not counted."""
    lenders: dict[str, str] = field(default_factory=dict)
    """For a condition whose runs on one component are stored in another, the name of that one."""

    @property
    def conditions(self) -> list[str]:
        """The conditions, that with most runs first; one that holds nothing but what it lends is none."""
        runs = self.runs
        only_lent = {name for name in self.lenders.values() if (runs.loc[runs["condition"] == name, "k"] == 1).all()}
        counts = runs["condition"].value_counts().drop(list(only_lent))
        return sorted(counts.index, key=lambda condition: (-counts[condition], condition))

    def runs_of(self, condition: str) -> pd.DataFrame:
        """The rows of `runs` of one condition, of every role."""
        return self._rows(self.runs, condition)

    def of(self, condition: str, role: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The rows of `runs` and of `xe` of one condition and role: grid, baseline (one named component) or control
        (shuffled labels)."""
        runs, xe = (self._rows(frame, condition) for frame in (self.runs, self.xe))
        return runs[runs["role"] == role], xe[xe["role"] == role]

    def _rows(self, frame: pd.DataFrame, condition: str) -> pd.DataFrame:
        own = frame[frame["condition"] == condition]
        if condition not in self.lenders:
            return own
        lent = frame[(frame["condition"] == self.lenders[condition]) & (frame["k"] == 1)]
        return pd.concat([lent.assign(condition=condition), own])

    def file_suffix(self, condition: str) -> str:
        """What the files of a condition have after their name: nothing for the condition with most runs."""
        return "" if condition == self.conditions[0] else f"-{condition_file_name(condition)}"

    def allocations(self, condition: str) -> dict[str, str]:
        """The conditions that equal `condition` but for the allocation, itself among them, by their allocation."""
        alike = self.alike_but_for(condition, "data.allocation")
        return {self.settings[name]["data"]["allocation"]: name for name in alike}

    def held_constant(self, condition: str) -> str:
        """What of the training tokens is the same at every K."""
        exposed = self.settings[condition]["data"]["allocation"] == "constant_exposure"
        return "training tokens of each component" if exposed else TOTAL_TOKENS

    def alike_but_for(self, condition: str, setting: str) -> list[str]:
        """The conditions that equal `condition` but for one setting such as `model.size`; itself first."""
        shared = {name: without(settings, setting) for name, settings in self.settings.items()}
        others = [name for name in self.conditions if name != condition and shared[name] == shared[condition]]
        return [condition, *others]


def load_results(storage: Storage) -> Results:
    """Every usable result of the study in `storage`; what is not usable is named in `left_out`."""
    return results_of(read_results(storage, NAME, _check))


def usable_results(storage: Storage) -> Results:
    """`load_results`; ValueError if there is no usable one, with the reason for each file that was left out."""
    files = read_results(storage, NAME, _check)
    require_results(files, storage)
    return results_of(files)


def results_of(files: ResultFiles) -> Results:
    """The tables of files that were read."""
    shared_columns = ("run_id", "condition", "role", "k", "seed")
    settings = [shared_settings(config, VARIED) for _, config in files.found.values()]
    names = condition_names(settings)
    runs, xe, further = [], [], {kind: [] for kind in FURTHER}
    for (result, config), condition in zip(files.found.values(), names, strict=True):
        shared = {"run_id": result.run["run_id"], "condition": condition, "role": role_of(config)}
        shared |= {"k": config.k, "seed": config.seed}
        runs.append(shared | _run_row(result, config))
        xe += [shared | row for row in _xe_rows(result)]
        for kind, rows in further.items():
            rows += [shared | row for row in _further_rows(result, kind)]
    return Results(
        runs=_frame(runs, RUN_COLUMNS),
        xe=_frame(xe, XE_COLUMNS),
        further={kind: _frame(rows, (*shared_columns, *FURTHER[kind])) for kind, rows in further.items()},
        run_lines={run_id: found.result.run for run_id, found in files.found.items()},
        settings=dict(zip(names, settings, strict=True)),
        left_out=files.left_out,
        lenders=_lenders(dict(zip(names, settings, strict=True))),
    )


def _lenders(settings: dict[str, Settings]) -> dict[str, str]:
    """Which condition holds the runs on one component of which other."""
    whole = {name: without(own, "data.allocation") for name, own in settings.items()}
    allocation = {name: own["data"]["allocation"] for name, own in settings.items()}
    return {
        name: other
        for name in settings
        for other in settings
        if allocation[name] in ALIKE_AT_ONE and allocation[other] == "full" and whole[name] == whole[other]
    }


def _check(result: Result, config: RunConfig) -> None:
    """ValueError, LookupError or TypeError for a result whose numbers cannot be counted."""
    _run_row(result, config)
    rows = _xe_rows(result)
    for kind in FURTHER:
        _further_rows(result, kind)
    if any(len(row["xe_by_position"]) != config.data.window_tokens for row in rows):
        raise ValueError(f"has curves that are not of {config.data.window_tokens} positions")
    evaluated = sorted(row["component"] for row in rows)
    if evaluated != sorted(result.run["components"]):
        raise ValueError(f"evaluates {evaluated} at its last step, but was trained on {result.run['components']}")


def _run_row(result: Result, config: RunConfig) -> dict[str, Any]:
    run, last, data = result.run, result.summaries[-1], config.data
    session = sessions(run["provenance"])[-1]
    return {
        "source": portable_name(data.source),
        "size": config.model.size,
        "components": tuple(map(text, run["components"])),
        "allocation": config.science()["data"]["allocation"],
        "order": data.order,
        "sampling": data.sampling,
        "shuffle": data.shuffle_labels,
        "is_baseline": role_of(config) == BASELINE,
        "window_tokens": data.window_tokens,
        "step": number(last["step"]),
        "xe": number(last["xe"]),
        "ppl": number(last["ppl"]),
        "bayes_xe": number_or_nan(last["bayes_xe"]),
        "bayes_known_xe": number_or_nan(last["bayes_known_xe"]),
        "tokens_seen": number(run["tokens_seen"]),
        "unique_tokens": number(run["unique_tokens"]),
        "repetition": number(run["tokens_seen_per_unique_token"]),
        "params_total": number(run["params"]["total"]),
        "params_non_embedding": number(run["params"]["non_embedding"]),
        "params_matmul": number(run["params"]["matmul"]),
        "flops_exact": number(run["flops"]["exact"]),
        "flops_6nd": number(run["flops"]["6ND"]),
        "device": text(session["device"]),
        "precision": text(session["precision"]),
        "num_sessions": len(sessions(run["provenance"])),
        "changes": "; ".join(changes(run["provenance"])),
    }


def _xe_rows(result: Result) -> list[dict[str, Any]]:
    """The rows of the last step, in the run's order of components."""
    last_step = result.summaries[-1]["step"]
    return [_xe_row(row, result) for row in result.rows_of("xe") if row["step"] == last_step]


def _xe_row(row: dict[str, Any], result: Result) -> dict[str, Any]:
    texts = {name: text(row[name]) for name in ("component", "split")}
    numbers = {name: number(row[name]) for name in ("windows", "xe", "ppl")}
    numbers["unique_tokens"] = number(result.run["unique_tokens_by_component"][texts["component"]])
    numbers |= {name: number_or_nan(row[name]) for name in ("se", "bayes_xe", "bayes_known_xe")}
    curve = array(row["xe_by_position"])
    bayes = {name: row[name] for name in ("bayes_xe_by_position", "bayes_known_xe_by_position")}
    curves = {name: None if values is None else array(values, len(curve)) for name, values in bayes.items()}
    papers = {"paper_windows": array(row["by_paper"]["windows"])}
    papers["paper_xe"] = array(row["by_paper"]["xe"], len(papers["paper_windows"]))
    first = row["by_paper"].get("first_xe")
    papers["paper_first_xe"] = None if first is None else array(first, len(papers["paper_windows"]))
    return texts | numbers | curves | papers | {"xe_by_position": curve}


def _further_rows(result: Result, kind: str) -> list[dict[str, Any]]:
    """The rows of a further kind at the last step, those of a forecast with the start of the training."""
    last_step = result.summaries[-1]["step"]
    rows = [row for row in result.rows_of(kind) if row["step"] == last_step]
    if kind == "forecast":
        rows = [row | {"started": result.run["provenance"].get("started", "")} for row in rows]
    return [{name: _text_or_number(row[name]) for name in FURTHER[kind]} for row in rows]


def _text_or_number(value: Any) -> str | float:
    return text(value) if isinstance(value, str) else number_or_nan(value)


def _frame(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=list(columns))
    by = [name for name in ("condition", "role", "k", "seed", "run_id", "component") if name in columns]
    return frame.sort_values(by).reset_index(drop=True)
