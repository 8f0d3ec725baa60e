"""The tables of the sample-scaling study, each of one condition."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from helpers.studies.samples.findings import CONTROLS, SampleFindings
from helpers.studies.samples.laws import document_points, fit_law, fitted_table, prediction_table, regression_table

_ARM = ["match", "context", "embedding", "samples", "seed"]
_Z = 1.96  # of the normal distribution: samples of a validation are many


def results(findings: SampleFindings) -> pd.DataFrame:
    """The document's table, a row a run, perplexity with an interval over the validation's samples."""
    runs = findings.runs
    spread = np.exp(_Z * runs["xe_se"].astype(float))
    shown = runs.assign(
        ppl_low=runs["ppl"] / spread, ppl_high=runs["ppl"] * spread,
        accuracy=100 * runs["accuracy"], accuracy_se=100 * runs["accuracy_se"].astype(float),
    )  # fmt: skip
    return shown[
        [*_ARM, "tokens", "validation_tokens", "ppl", "ppl_low", "ppl_high", "accuracy", "accuracy_se",
         "train_percent", "validation_percent"]
    ]  # fmt: skip


def regression(findings: SampleFindings) -> pd.DataFrame:
    """The document's statistics of the law that is matched in epochs, with the interval that it lacks."""
    columns = ["statistic", "value"]
    return pd.DataFrame(columns=columns) if findings.law is None else regression_table(findings.law)


def fitted(findings: SampleFindings) -> pd.DataFrame:
    columns = ["tokens", "ppl", "fitted", "error_percent"]
    return pd.DataFrame(columns=columns) if findings.law is None else fitted_table(findings.law)


def predictions(findings: SampleFindings) -> pd.DataFrame:
    columns = ["tokens", "predicted", "low", "high", "beyond", "warning"]
    return pd.DataFrame(columns=columns) if findings.law is None else prediction_table(findings.law)


def arms(findings: SampleFindings) -> pd.DataFrame:
    """The exponent of each arm with its interval."""
    rows = []
    for (match, context, embedding), law in findings.laws.items():
        exponent = law.parameters()["b"]
        rows.append(
            {"match": match, "context": context, "embedding": embedding, "exponent": exponent.value,
             "low": exponent.low, "high": exponent.high, "r_squared": law.r_squared, "p_value": law.p_value,
             "num_counts": len(law.points)}
        )  # fmt: skip
    columns = ["match", "context", "embedding", "exponent", "low", "high", "r_squared", "p_value", "num_counts"]
    return pd.DataFrame(rows, columns=columns)


def effects(findings: SampleFindings) -> pd.DataFrame:
    """Samples, steps and contexts, each with its interval and verdict."""
    rows = []
    if findings.partial is not None:
        for name in ("samples", "steps"):
            estimate, said = getattr(findings.partial, name), findings.partial.verdict(name)
            rows.append((f"d log PPL / d log {name}, the other held", estimate, said))
    for control in CONTROLS:
        if control in findings.gains:
            rows.append(
                (f"log PPL, contexts {control} less learned", findings.gains[control], findings.gain_verdict(control))
            )
    return pd.DataFrame(
        [(effect, estimate.value, estimate.low, estimate.high, said) for effect, estimate, said in rows],
        columns=["effect", "value", "low", "high", "verdict"],
    )


def ranks(findings: SampleFindings) -> pd.DataFrame:
    """Effective rank as the document takes it and without the mean, and how the contexts became a fixed point."""
    parts = []
    for of in ("train", "validation"):
        for centred, suffix in (("no", ""), ("yes", "_centred")):
            names = {f"{of}_{name}{suffix}": name for name in ("percent", "low", "high")}
            columns = [*_ARM, "iterations", "converged", "contraction", "pass_contraction", "status", *names]
            parts.append(findings.runs[columns].rename(columns=names).assign(of=of, centred=centred))
    table = pd.concat(parts).dropna(subset="percent")
    table["pass_contraction"] = table["pass_contraction"].map("{:.1e}".format)
    columns = [*_ARM, "of", "centred", "percent", "low", "high", "iterations", "converged", "contraction"]
    return table.sort_values([*_ARM, "of", "centred"])[[*columns, "pass_contraction", "status"]]


def stopping(findings: SampleFindings) -> pd.DataFrame:
    """When runs were at their best and when they ended, and the memory that they took."""
    runs = findings.runs
    shown = runs.assign(
        is_stopped=runs["is_stopped"].map({True: "yes", False: "no"}), train_ppl=np.exp(runs["train_xe"]),
        memory_gib=runs["memory_bytes"] / 2**30,
    )  # fmt: skip
    columns = ["best_epoch", "epochs", "is_stopped", "steps", "steps_all", "train_ppl", "ppl", "memory_gib", "device"]
    return shown[[*_ARM, *columns]]


TABLES: dict[str, Callable[[SampleFindings], pd.DataFrame]] = {
    "samples_results": results,
    "samples_regression": regression,
    "samples_fitted": fitted,
    "samples_predictions": predictions,
    "samples_arms": arms,
    "samples_effects": effects,
    "samples_ranks": ranks,
    "samples_stopping": stopping,
}


def document_tables() -> dict[str, pd.DataFrame]:
    """The document's own four points through the same analysis."""
    law = fit_law(*document_points())
    return {
        "samples_document": regression_table(law),
        "samples_document_fitted": fitted_table(law),
        "samples_document_predictions": prediction_table(law),
    }
