"""The activation study's tables, figures, verdicts and JSON of all numbers, from result files to the storage."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd

from helpers.analysis.conditions import condition_file_name
from helpers.analysis.figures import STYLE, save_figure
from helpers.analysis.fits.arms import ArmFindings
from helpers.analysis.json_text import json_text, records
from helpers.analysis.results import require_results
from helpers.analysis.tables import escaped, save_table
from helpers.config import to_json
from helpers.runs.metrics import metrics_path, read_metrics
from helpers.storage import Storage, publish, publish_text
from helpers.studies.activation.figures import law_curves, multiplier_curve, scaling_figure
from helpers.studies.activation.findings import ActivationFindings, find, verdict
from helpers.studies.activation.runs import conditions_of, load_files, run_table

_HEADINGS = {
    "size": "size", "activation": "activation", "seed": "seed", "d_model": "width", "n_layer": "layers",
    "non_embedding": "N, non-embedding", "matmul": "N, matmul", "without_positions": "N, without positions",
    "total": "N, all", "tokens": "tokens D", "steps": "steps", "repetition": "times each token", "lr": "peak LR",
    "flops_non_embedding": "C = 6 N D", "flops_exact": "exact FLOPs", "xe": "XE (nats/token)", "law": "law",
    "parameter": "parameter", "value": "value", "low": "95 % from", "high": "to", "num_runs": "runs",
    "convention": "compute counted by", "gelu": "GeLU exponent", "swiglu": "SwiGLU exponent",
    "difference": "difference", "predicted": "predicted XE", "error": "error (nats/token)",
    "relative_error": "relative error", "ppl_error": "error of ppl", "is_covered": "in the interval",
    "is_primary": "counts", "error_in_seeds": "error (deviations of seeds)", "distance": "ln(C / C fitted)",
    "refused": "refused because", "rule": "rule", "num_params": "parameters", "aicc": "AICc",
    "delta": "above the best", "squares": "sum of squares", "xe_deviation": "± over seeds",
}  # fmt: skip


def analyse(storage: Storage) -> list[Path]:
    """Write the tables, figures, verdicts and all numbers, and return their paths.

    Each condition has its own: figures of further ones append its name, tables have a part for each. ValueError if
    there is no usable result, with the reason for each file that was left out.
    """
    files = load_files(storage)
    require_results(files, storage)
    runs = run_table(files)
    findings = [find(runs, condition, storage) for condition in conditions_of(runs)]
    paths = [
        path for name, (title, make) in _TABLES.items() for path in _save_table(storage, name, title, make, findings)
    ]
    paths += _save_lr_table(storage, runs)
    for number, own in enumerate(findings):
        paths += _save_figures(storage, own, f"-{condition_file_name(own.condition)}" if number else "")
    paths.append(_save_metrics(storage, runs))
    paths.append(publish_text(storage.table("activation_verdict.md"), verdicts(findings, files.left_out)))
    text = json_text(all_numbers(findings, runs, files.left_out))
    return storage.delivered([*paths, publish_text(storage.table("activation_scaling.json"), text)])


def verdicts(findings: Sequence[ActivationFindings], left_out: Sequence[str]) -> str:
    """The verdict of each condition, with the runs that it speaks for and those that it leaves out."""
    total = sum(_num_runs(own) for own in findings)
    parts = ["# Does SwiGLU move the exponent?"]
    for own in findings:
        others = total - _num_runs(own)
        scope = f"Condition: {own.condition}. {_num_runs(own)} runs"
        scope += f"; {others} runs of other conditions are not in it." if others else "."
        parts += [escaped(scope), verdict(own)]
    parts += [f"Left out: {escaped(line)}" for line in left_out]
    return "\n\n".join(parts) + "\n"


def _num_runs(findings: ActivationFindings) -> int:
    return len(findings.anchors) + len(findings.held_out)


def all_numbers(findings: Sequence[ActivationFindings], runs: pd.DataFrame, left_out: Sequence[str]) -> dict[str, Any]:
    """Everything that the tables, the figures and the verdicts say, as JSON types (NaN where a number is missing)."""
    return {
        "conditions": [_numbers_of(own) for own in findings],
        "learning_rates": records(learning_rates(runs)),
        "runs": records(runs.drop(columns="but_for_lr")),
        "left_out": list(left_out),
    }


def _numbers_of(findings: ActivationFindings) -> dict[str, Any]:
    return {
        "condition": findings.condition,
        "num_runs": _num_runs(findings),
        "verdict": verdict(findings),
        "laws": {name: _law_numbers(found) for name, found in findings.laws.items()},
        "forms": [dataclasses.asdict(form) for form in findings.forms],
        "conventions": records(findings.sensitivity),
        "smallest_detectable_difference": findings.detectable,
        "held_out": records(findings.predictions),
        "baselines": records(_baselines(findings)),
        "missing": findings.reasons,
    }


def _law_numbers(found: ArmFindings) -> dict[str, Any]:
    (comparison,) = found.comparisons
    return {
        "parameters": {key: to_json(e) for key, e in found.draws.parameters().items()},
        "exponent_difference": to_json(comparison.difference),
        "equivalence": to_json(comparison.equivalence) | {"is_equivalent": comparison.equivalence.is_equivalent},
        "multipliers": [{"flops": flops, **to_json(e)} for flops, e in comparison.multipliers],
        "crossing": to_json(comparison.crossing),
        "f_test_p_value": found.exponent_test.p_value,
        "f_test_bootstrap_p_value": found.exponent_test.bootstrap_p_value,
        "own_offset_p_value": found.offset_test.p_value if found.offset_test else None,
        "warnings": list(found.draws.warnings),
        "starts_agreeing": [found.draws.fit.num_agreeing, found.draws.fit.num_starts],
        "objective": found.draws.fit.objective,
    }


def learning_rates(runs: pd.DataFrame) -> pd.DataFrame:
    """XE of each size and activation at each peak learning rate that was tried, among runs that agree in all else."""
    columns = ["but_for_lr", "size", "activation", "lr"]
    groups = runs.groupby(columns, sort=False)["xe"]
    table = groups.agg(xe="mean", xe_deviation="std", num_runs="count").reset_index()
    return table.rename(columns={"but_for_lr": "condition"})


def _runs(findings: ActivationFindings) -> pd.DataFrame:
    columns = [
        "size", "activation", "seed", "d_model", "n_layer", "non_embedding", "matmul", "without_positions", "total",
        "tokens", "repetition", "lr", "flops_non_embedding", "flops_exact", "xe",
    ]  # fmt: skip
    return pd.concat([findings.anchors, findings.held_out])[columns]


def _laws(findings: ActivationFindings) -> pd.DataFrame:
    rows = []
    for name, found in findings.laws.items():
        (comparison,) = found.comparisons
        named = found.draws.parameters() | {"b[swiglu] - b[gelu]": comparison.difference}
        named |= {f"compute multiplier at {flops:.1e}": estimate for flops, estimate in comparison.multipliers}
        rows += [
            {"law": name, "parameter": key, "value": e.value, "low": e.low, "high": e.high, "num_runs": e.num_runs}
            for key, e in named.items()
        ]
    return pd.DataFrame(rows, columns=["law", "parameter", "value", "low", "high", "num_runs"])


def _held_out(findings: ActivationFindings) -> pd.DataFrame:
    columns = [
        "size", "activation", "seed", "law", "is_primary", "predicted", "low", "high", "xe", "error",
        "relative_error", "ppl_error", "error_in_seeds", "distance", "is_covered", "refused",
    ]  # fmt: skip
    table = findings.predictions[columns]
    words = {column: table[column].map({True: "yes", False: "no"}) for column in ("is_primary", "is_covered")}
    return table.assign(**words)


def _baselines(findings: ActivationFindings) -> pd.DataFrame:
    """The mean error of each plain rule over the runs of a held-out size and activation."""
    rows = [
        {"activation": held.arm, "rule": rule, "predicted": loss, "error": loss - held.loss}
        for held in findings.baselines
        for rule, loss in held.baselines.items()
    ]
    table = pd.DataFrame(rows, columns=["activation", "rule", "predicted", "error"])
    return table.groupby(["activation", "rule"], sort=False, as_index=False).mean()


def _forms(findings: ActivationFindings) -> pd.DataFrame:
    return pd.DataFrame(map(dataclasses.asdict, findings.forms))


_TABLES: dict[str, tuple[str, Callable[[ActivationFindings], pd.DataFrame]]] = {
    "activation_runs": ("Runs", _runs),
    "activation_laws": ("Laws fitted to the anchors", _laws),
    "activation_forms": ("Which law the anchors support", _forms),
    "activation_conventions": ("The exponent under five ways to count compute", lambda own: own.sensitivity),
    "activation_held_out": ("Held-out runs", _held_out),
    "activation_baselines": ("Held-out runs by plainer rules", _baselines),
}


def _save_table(
    storage: Storage,
    name: str,
    title: str,
    make: Callable[[ActivationFindings], pd.DataFrame],
    findings: Sequence[ActivationFindings],
) -> list[Path]:
    tables = {own.condition: make(own) for own in findings}
    return save_table(storage, name, title, tables, "Every part speaks for one condition.", _HEADINGS)


def _save_lr_table(storage: Storage, runs: pd.DataFrame) -> list[Path]:
    tables = {
        condition: own.drop(columns="condition")
        for condition, own in learning_rates(runs).groupby("condition", sort=False)
    }
    note = "Runs of a part agree in all but size, activation, seed and learning rate."
    return save_table(storage, "activation_lr", "Learning rates", tables, note, _HEADINGS)


def _save_figures(storage: Storage, findings: ActivationFindings, suffix: str) -> list[Path]:
    name = f"activation_scaling{suffix}"
    num_seeds, device = findings.anchors["seed"].nunique(), ", ".join(sorted(set(findings.anchors["device"])))
    caption = (
        f"{findings.condition}; {len(findings.anchors)} fitted runs, {num_seeds} seeds, {device}; bands: 95 % for one "
        "further run"
    )
    figure = scaling_figure(findings, caption)
    paths = save_figure(storage, name, figure, law_curves(findings))
    with mpl.rc_context(STYLE | {"pdf.fonttype": 42}):
        pdf = publish(
            storage.figure(f"{name}.pdf"),
            lambda temporary: figure.savefig(temporary, format="pdf", metadata={"CreationDate": None}),
        )
    curve = multiplier_curve(findings).to_csv(index=False, lineterminator="\n")
    return [*paths, pdf, publish_text(storage.figure(f"activation_multiplier{suffix}.csv"), curve)]


def _save_metrics(storage: Storage, runs: pd.DataFrame) -> Path:
    """Every logged step of every run as one CSV."""
    logs = []
    for run in runs.itertuples():
        rows = pd.DataFrame(read_metrics(metrics_path(storage, run.run_id)))
        logs.append(rows.assign(run_id=run.run_id, size=run.size, activation=run.activation, seed=run.seed))
    text = pd.concat(logs).to_csv(index=False, lineterminator="\n")
    return publish_text(storage.table("activation_metrics.csv"), text)
