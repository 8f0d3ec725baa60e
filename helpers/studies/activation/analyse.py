"""The activation study's tables, figure, verdict and JSON of all numbers, from result files to the storage."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd

from helpers.analysis.figures import STYLE, save_figure
from helpers.analysis.results import usable_results
from helpers.analysis.tables import markdown
from helpers.config import to_json
from helpers.runs.metrics import metrics_path, read_metrics
from helpers.storage import Storage, publish, publish_text
from helpers.studies.activation.figures import law_curves, multiplier_curve, scaling_figure
from helpers.studies.activation.findings import ActivationFindings, find, verdict
from helpers.studies.activation.runs import run_table

STUDY = "activation"
_HEADINGS = {
    "size": "size", "activation": "activation", "seed": "seed", "d_model": "width", "n_layer": "layers",
    "non_embedding": "N, non-embedding", "matmul": "N, matmul", "without_positions": "N, without positions",
    "total": "N, all", "tokens": "tokens D", "steps": "steps", "repetition": "times each token", "lr": "peak LR",
    "flops_non_embedding": "C = 6 N D", "flops_exact": "exact FLOPs", "xe": "XE (nats/token)", "law": "law",
    "parameter": "parameter", "value": "value", "low": "95 % from", "high": "to", "num_runs": "runs",
    "convention": "compute counted by", "gelu": "GeLU exponent", "swiglu": "SwiGLU exponent",
    "difference": "difference", "predicted": "predicted XE", "error": "error (nats/token)",
    "relative_error": "relative error", "ppl_error": "error of ppl", "is_covered": "in the interval",
    "is_primary": "counts", "refused": "refused because", "rule": "rule", "num_params": "parameters",
    "aicc": "AICc", "delta": "above the best", "squares": "sum of squares", "xe_deviation": "± over seeds",
}  # fmt: skip


def analyse(storage: Storage) -> list[Path]:
    """Write the tables, the figure, the verdict and all numbers, and return their paths.

    ValueError if there is no usable result, with the reason for each file that was left out.
    """
    results = usable_results(storage, STUDY)
    runs = run_table(results)
    findings = find(runs, storage)
    tables = {
        "activation_runs": ("Runs", _runs(findings)),
        "activation_laws": ("Laws fitted to the anchors", _laws(findings)),
        "activation_forms": ("Which law the anchors support", pd.DataFrame(map(dataclasses.asdict, findings.forms))),
        "activation_conventions": ("The exponent under five ways to count compute", findings.sensitivity),
        "activation_held_out": ("Held-out runs", _held_out(findings)),
        "activation_baselines": ("Held-out runs by plainer rules", _baselines(findings)),
        "activation_lr": ("Learning rates", learning_rates(runs)),
    }
    paths = [path for name, table in tables.items() for path in _save_table(storage, name, *table)]
    paths += _save_figure(storage, findings)
    paths.append(_save_metrics(storage, runs))
    text = f"# Does SwiGLU move the exponent?\n\n{verdict(findings)}\n"
    paths.append(publish_text(storage.table("activation_verdict.md"), text))
    numbers = _finite(all_numbers(findings, runs))
    text = json.dumps(numbers, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return [*paths, publish_text(storage.table("activation_scaling.json"), text)]


def all_numbers(findings: ActivationFindings, runs: pd.DataFrame) -> dict[str, Any]:
    """Everything that the tables, the figure and the verdict say, as JSON types (NaN where a number is missing)."""
    laws = {}
    for name, found in findings.laws.items():
        (comparison,) = found.comparisons
        laws[name] = {
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
    return {
        "verdict": verdict(findings),
        "laws": laws,
        "forms": [dataclasses.asdict(form) for form in findings.forms],
        "conventions": _records(findings.sensitivity),
        "smallest_detectable_difference": findings.detectable,
        "held_out": _records(findings.predictions),
        "baselines": _records(_baselines(findings)),
        "learning_rates": _records(learning_rates(runs)),
        "missing": findings.reasons,
        "runs": _records(runs.drop(columns="recipe")),
    }


def learning_rates(runs: pd.DataFrame) -> pd.DataFrame:
    """XE of each size and activation at each peak learning rate that was tried; one row where only one was."""
    columns = ["size", "activation", "lr"]
    groups = runs.groupby(columns, sort=False)["xe"]
    return groups.agg(xe="mean", xe_deviation="std", num_runs="count").reset_index()


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
        "relative_error", "ppl_error", "is_covered", "refused",
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


def _save_table(storage: Storage, name: str, title: str, table: pd.DataFrame) -> list[Path]:
    text = f"# {title}\n\n{markdown(table, _HEADINGS)}\n"
    csv = publish_text(storage.table(f"{name}.csv"), table.to_csv(index=False, lineterminator="\n"))
    return [csv, publish_text(storage.table(f"{name}.md"), text)]


def _save_figure(storage: Storage, findings: ActivationFindings) -> list[Path]:
    num_seeds, device = findings.anchors["seed"].nunique(), findings.anchors["device"].iloc[0]
    caption = f"{len(findings.anchors)} fitted runs, {num_seeds} seeds, {device}; bands: 95 % for one further run"
    figure = scaling_figure(findings, caption)
    paths = save_figure(storage, "activation_scaling", figure, law_curves(findings))
    with mpl.rc_context(STYLE | {"pdf.fonttype": 42}):
        pdf = publish(
            storage.figure("activation_scaling.pdf"),
            lambda temporary: figure.savefig(temporary, format="pdf", metadata={"CreationDate": None}),
        )
    curve = multiplier_curve(findings).to_csv(index=False, lineterminator="\n")
    return [*paths, pdf, publish_text(storage.figure("activation_multiplier.csv"), curve)]


def _save_metrics(storage: Storage, runs: pd.DataFrame) -> Path:
    """Every logged step of every run as one CSV."""
    logs = []
    for run in runs.itertuples():
        rows = pd.DataFrame(read_metrics(metrics_path(storage, run.run_id)))
        logs.append(rows.assign(run_id=run.run_id, size=run.size, activation=run.activation, seed=run.seed))
    text = pd.concat(logs).to_csv(index=False, lineterminator="\n")
    return publish_text(storage.table("activation_metrics.csv"), text)


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return json.loads(table.to_json(orient="records", date_format="iso", double_precision=15))


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
