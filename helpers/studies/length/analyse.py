"""The length study's summaries, tables, figures and verdicts, from result files to the storage.

Of each run, in runs/<run_id>/report/, what the document lists: checkpoint_NNN/summary.json and its figure,
all_summaries.json, metadata.json, evolution.png. Of each comparison, in fig/ and tables/: figures, tables, verdicts.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from helpers.analysis.conditions import condition_file_name
from helpers.analysis.figures import STYLE, save_figure
from helpers.analysis.json_text import json_text
from helpers.analysis.results import require_results
from helpers.analysis.tables import escaped, save_table
from helpers.config import file_name, to_json
from helpers.runs.checkpoints import best_path
from helpers.storage import Storage, publish, publish_text
from helpers.studies.length.figures import arms_figure, strides_figure, strides_table, windows_figure, windows_table
from helpers.studies.length.findings import Comparison, Finding, arm_findings, arm_name, comparisons
from helpers.studies.length.results import MULTIPLES, REFERENCE_ARM, LengthRun, load_files, runs_of
from helpers.studies.length.run_figures import checkpoint_figure, evolution_figure
from helpers.studies.length.words import arms_text, excess_text, stride_text, verdicts

_HEADINGS = {
    "arm": "arm", "window": "W", "seed": "seed", "steps": "steps", "tokens": "tokens", "parameters": "parameters",
    "seconds_per_step": "s / step", "best_step": "best at step", "xe": "XE after W", "num_seeds": "seeds",
    "ended_early": "ended by patience",
    **{f"{name}_{k}": f"{word} @ {k} W" for k in MULTIPLES for name, word in
       (("ttt", "PPL TTT"), ("sw", "PPL SW"), ("ratio", "SW / TTT"), ("after", "PPL after"))},
    "sw_last": "PPL SW, last", "hypothesis": "hypothesis", "statement": "statement", "quantity": "number",
    "value": "value", "low": "95 % from", "high": "to", "p_value": "p", "verdict": "verdict",
}  # fmt: skip


def analyse(storage: Storage) -> list[Path]:
    """Write everything, and return the paths. ValueError if there is no usable result, with the reason for each file
    that was left out."""
    files = load_files(storage)
    require_results(files, storage)
    runs = runs_of(files, storage)
    paths = [path for run in runs for path in save_run(storage, run)]
    texts = ["# Length generalisation"]
    conditions = list(dict.fromkeys(run.condition for run in runs))
    found: dict[str, list[Comparison]] = {name: [] for name in conditions}
    for comparison in comparisons(runs):
        found[comparison.condition].append(comparison)
        of_it = len(comparison.small) + len(comparison.large)
        texts.append(verdicts(comparison, len(runs) - of_it))
        numbers = strides_table(comparison)
        by_window = {w: dict(zip(own["label"], own["xe"], strict=True)) for w, own in numbers.groupby("window")}
        texts.append(stride_text(by_window))
        paths += _save_comparison(storage, comparison, conditions)
    arms: dict[str, list[tuple[LengthRun, Finding]]] = {}
    for name in conditions:
        own = [run for run in runs if run.condition == name]
        arms[name] = arm_findings(own)
        if arms[name]:
            texts.append(arms_text(arms[name], name))
            figure = arms_figure(arms[name], name)
            paths += save_figure(storage, f"length_arms{_suffix(name, conditions)}", figure, _arm_table(arms[name]))
        texts.append(excess_text([run for run in own if run.arm == REFERENCE_ARM]))
    if not any(found.values()):
        texts.append("No hypothesis can be told: two windows of one condition, arm and seed are needed.")
    texts += [f"Left out: {escaped(line)}" for line in files.left_out]
    paths += _save_tables(storage, runs, found, arms)
    text = "\n\n".join(part for part in texts if part) + "\n"
    return storage.delivered([*paths, publish_text(storage.table("length_verdicts.md"), text)])


def save_run(storage: Storage, run: LengthRun) -> list[Path]:
    """The document's files of one run; a figure of each evaluation for the reference alone. One that is there already
    and of the same numbers is left."""
    folder = storage.run(run.run_id) / "report"
    paths = [publish_text(folder / "metadata.json", json_text(metadata(storage, run)))]
    summaries = [summary_of(run, number) for number in range(len(run.steps))]
    paths.append(publish_text(folder / "all_summaries.json", json_text(summaries)))
    for number, (step, summary) in enumerate(zip(run.steps, summaries, strict=True)):
        place, name = folder / f"checkpoint_{number:03d}", chunk_name(run, number)
        text = json_text(summary)
        is_same = (place / "summary.json").exists() and (place / "summary.json").read_text(encoding="utf-8") == text
        if run.arm == REFERENCE_ARM and not (is_same and (place / name).exists()):
            paths.append(_save_png(place / name, checkpoint_figure(run, step)))
        paths.append(publish_text(place / "summary.json", text))
    return [*paths, _save_png(folder / "evolution.png", evolution_figure(run))]


def chunk_name(run: LengthRun, number: int) -> str:
    longest, chunk = MULTIPLES[-1] * run.window, run.chunk
    return f"chunk_eval_W{run.window}_T{longest}_K{chunk}_S{chunk}_stride1_ckpt{number:03d}.png"


def summary_of(run: LengthRun, number: int) -> dict[str, Any]:
    """What the document's summary.json holds, and the strides and sequences behind it."""
    stream, summary = run.config.stream, run.summaries[number]
    settings = {
        "checkpoint_idx": number, "training_window": run.window, "eval_max_length": MULTIPLES[-1] * run.window,
        "chunk_size": run.chunk, "chunk_stride": run.chunk, "window_stride": 1, "num_sequences": stream.sequences,
    }  # fmt: skip
    along = {"ttt": run.chunks("carried", summary["step"]), "sw": run.chunks("window", summary["step"])}
    for name, chunks_BX in along.items():
        ppl_X = np.exp(np.median(chunks_BX, axis=0))
        settings |= {f"{name}_ppl_{word}": float(of(ppl_X)) for word, of in _SPREAD.items()}
    return settings | {key: value for key, value in summary.items() if key != "kind"}


_SPREAD = {"mean": np.mean, "min": np.min, "max": np.max}


def metadata(storage: Storage, run: LengthRun) -> dict[str, Any]:
    """What the document's metadata.json holds at the end of a run."""
    line, config, best = run.found.result.run, run.config, run.best
    is_end = best["step"] == run.end
    path = storage.snapshot(run.run_id, run.end) if is_end else best_path(storage, run.run_id)
    return {
        "run_id": run.run_id,
        "model_size": config.model.size,
        "parameters": line["params"]["total"],
        "training_window": run.window,
        "eval_max_length": MULTIPLES[-1] * run.window,
        "max_train_steps": config.train.steps,
        "num_eval_checkpoints": config.stream.evaluations,
        "eval_steps": run.steps,
        "learning_rate": config.train.peak_lr,
        "weight_decay": config.train.weight_decay,
        "warmup_steps": config.train.warmup_steps,
        "early_stop_patience": config.stream.patience,
        "early_stop_threshold": f"{config.stream.min_delta} {config.stream.threshold}",
        "seed": config.seed,
        "start_time": line["provenance"]["started"],
        "end_time": line["provenance"]["finished"],
        "total_steps_completed": run.end,
        "total_checkpoints_evaluated": len(run.steps),
        "best_checkpoint_idx": run.steps.index(best["step"]),
        "best_step": best["step"],
        "best_xe_after_1xW": best["xe"],
        "early_stopped": run.end < config.train.steps,
        "best_model": str(path.relative_to(storage.root)),
        "final_model": str(storage.snapshot(run.run_id, run.end).relative_to(storage.root)),
        "config": to_json(config),
    }


def run_table(runs: Sequence[LengthRun]) -> pd.DataFrame:
    """The document's table, one row a run: PPL of both modes along the sequence and their ratio, at every multiple."""
    rows = []
    for run in runs:
        summary = run.summaries[-1]
        row = {
            "arm": arm_name(run.arm), "window": run.window, "seed": run.config.seed, "steps": run.end,
            "tokens": run.found.result.run["tokens_seen"], "parameters": run.found.result.run["params"]["total"],
            "seconds_per_step": run.seconds_per_step, "best_step": run.best["step"],
            "ended_early": "yes" if run.end < run.config.train.steps else "no",
        }  # fmt: skip
        for k in MULTIPLES:
            ttt, sw = summary[f"ttt_mean_ppl_at_{k}xW"], summary[f"sw_mean_ppl_at_{k}xW"]
            row |= {f"ttt_{k}": ttt, f"sw_{k}": sw, f"ratio_{k}": sw / ttt}
        rows.append(row)
    return pd.DataFrame(rows)


def context_table(runs: Sequence[LengthRun]) -> pd.DataFrame:
    """PPL of the same last targets after each length of context, and from a window; one row a run."""
    rows = []
    for run in runs:
        row = {"arm": arm_name(run.arm), "window": run.window, "seed": run.config.seed}
        row |= {f"after_{k}": float(np.exp(run.after(k).mean())) for k in MULTIPLES}
        rows.append(row | {"sw_last": float(np.exp(run.from_window().mean()))})
    return pd.DataFrame(rows)


def hypothesis_table(found: Sequence[Comparison]) -> pd.DataFrame:
    rows = []
    for comparison in found:
        for one in comparison.hypotheses():
            e = one.estimate
            row = {"arm": arm_name(comparison.arm), "hypothesis": one.name, "statement": one.statement}
            row |= {"quantity": one.quantity, "value": e.value, "low": e.low, "high": e.high, "p_value": e.p_value}
            rows.append(row | {"num_seeds": e.num_runs, "verdict": one.verdict})
    return pd.DataFrame(rows)


def _arm_table(found: Sequence[tuple[LengthRun, Finding]]) -> pd.DataFrame:
    rows = []
    for run, one in found:
        e = one.estimate
        row = {"arm": one.name, "window": run.window, "quantity": one.quantity, "value": e.value, "low": e.low}
        rows.append(row | {"high": e.high, "p_value": e.p_value, "num_seeds": e.num_runs})
    return pd.DataFrame(rows)


def _save_tables(
    storage: Storage, runs: Sequence[LengthRun], found: dict[str, list[Comparison]],
    arms: dict[str, list[tuple[LengthRun, Finding]]],
) -> list[Path]:  # fmt: skip
    own = {name: [run for run in runs if run.condition == name] for name in found}
    stride = "the window at stride 1, means over sequences."
    tables = {
        "length_runs": ("Along the sequence", {name: run_table(of) for name, of in own.items()}, f"PPL of {stride}"),
        "length_contexts": (
            "The same targets after ever more context",
            {name: context_table(of) for name, of in own.items()},
            f"The last targets of every sequence: text differs in no column. SW: {stride}",
        ),
        "length_hypotheses": (
            "The four hypotheses",
            {name: hypothesis_table(of) for name, of in found.items() if of},
            "Intervals are of 95 %, over seeds and sequences.",
        ),
        "length_arms": (
            "One factor at a time",
            {name: _arm_table(of) for name, of in arms.items() if of},
            "The arm less the reference of the same window and seed.",
        ),
    }
    return [
        path
        for name, (title, parts, note) in tables.items()
        if parts
        for path in save_table(storage, name, title, parts, note, _HEADINGS)
    ]


def _save_comparison(storage: Storage, comparison: Comparison, conditions: Sequence[str]) -> list[Path]:
    suffix = _suffix(comparison.condition, conditions)
    if comparison.arm != REFERENCE_ARM:
        suffix += f"-{file_name('_'.join(comparison.arm))}"
    paths = save_figure(
        storage, f"length_windows{suffix}", windows_figure(comparison), windows_table(comparison)
    )  # fmt: skip
    return paths + save_figure(
        storage, f"length_strides{suffix}", strides_figure(comparison), strides_table(comparison)
    )


def _suffix(condition: str, conditions: Sequence[str]) -> str:
    """The first condition has the plain names."""
    return "" if condition == conditions[0] else f"-{condition_file_name(condition)}"


def _save_png(path: Path, figure: Figure) -> Path:
    with mpl.rc_context(STYLE | {"savefig.dpi": 130}):
        return publish(path, lambda temporary: figure.savefig(temporary, format="png", metadata={"Software": None}))
