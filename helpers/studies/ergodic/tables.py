"""The tables: XE for each K (Table 1), each component, baselines, the shuffle control, and what is missing.

Every table is made for one condition and states the runs that each row rests on.
"""

import pandas as pd

from helpers.analysis.report_blocks import Table
from helpers.studies.ergodic.contrasts import by_seed, over_seeds, with_k1
from helpers.studies.ergodic.results import Results
from helpers.studies.ergodic.roles import BASELINE, CONTROL, GRID

HEADINGS = {
    "condition": "condition",
    "component": "component",
    "components": "components",
    "k": "K",
    "ks": "K",
    "seed": "seed",
    "role": "role",
    "run_id": "run",
    "size": "model size",
    "part": "part",
    "layer": "layer",
    "r2": "R², trained",
    "r2_low": "95 % from",
    "r2_high": "to",
    "r2_untrained": "R², untrained",
    "r2_untrained_low": "95 % from",
    "r2_untrained_high": "to",
    "r2_shuffled": "R², shuffled",
    "r2_shuffled_low": "95 % from",
    "r2_shuffled_high": "to",
    "gain": "trained - untrained",
    "gain_low": "95 % from",
    "gain_high": "to",
    "forecast": "forecast XE",
    "forecast_dxe": "forecast ΔXE",
    "refused": "refused because",
    "cause": "cause",
    "verdict": "verdict",
    "margin": "margin",
    "reason": "missing because",
    "model": "covariates",
    "device": "device",
    "precision": "precision",
    "git_revision": "git revision",
    "versions": "versions",
    "num_runs": "runs",
    "num_sessions": "sessions",
    "changes": "changed between them",
    "num_seeds": "seeds",
    "num_pairs": "pairs",
    "num_same": "pairs (same)",
    "xe": "XE (nats/token)",
    "ppl": "ppl",
    "xe_grid": "XE of the grid",
    "se": "SE within a run",
    "bayes_xe": "Bayes XE",
    "gap": "XE - Bayes XE",
    "dxe": "ΔXE (nats/token)",
    "value": "ΔXE (nats/token)",
    "bayes_dxe": "Bayes ΔXE",
    "dxe_same": "ΔXE, same components",
    "bayes_dxe_same": "Bayes ΔXE, same components",
    "excess": "ΔXE - Bayes ΔXE",
    "excess_low": "95 % from (t)",
    "excess_high": "to (t)",
    "bound": "ln K / T",
    "low": "95 % from",
    "high": "to",
    "bootstrap_low": "bootstrap from",
    "bootstrap_high": "bootstrap to",
    "noise": "noise of seeds, 95 %",
    "area": "area (nats/window)",
    "bayes_area": "Bayes area",
    "ln_k": "ln K",
    "identified_at": "identified at (tokens)",
    "identified_by": "by curve",
    "p_value": "p",
    "p_holm": "p (Holm)",
    "p_bh": "p (Benjamini-Hochberg)",
    "log2_k": "a doubling of K (nats/token)",
    "log2_repetition": "a doubling of repetition (nats/token)",
    "condition_number": "condition number",
    "tokens_seen": "tokens",
    "unique_tokens": "unique tokens",
    "repetition": "times each",
    "params_non_embedding": "non-embedding parameters",
    "grid_cells": "grid",
    "alone": "on one component",
    "control": "control",
    "times_each_token": "times each token",
}
"""What a reader sees of a column of the analysis."""


def report_table(frame: pd.DataFrame, caption: str) -> Table:
    """A frame of the study as a table of its report."""
    return Table(frame, caption, HEADINGS)


def table_1(results: Results, condition: str) -> pd.DataFrame:
    """One row a K: XE and ppl, mean and sigma over seeds, beside exact Bayes XE and both differences from K = 1."""
    cells = by_seed(results, condition)
    table = over_seeds(cells[cells["role"] == GRID])
    table["gap"] = table["xe"] - table["bayes_xe"]
    return table[
        [
            "k", "num_runs", "num_seeds", "xe", "xe_sigma", "ppl", "ppl_sigma", "bayes_xe", "gap", "num_pairs", "dxe",
            "dxe_sigma", "bayes_dxe", "num_same", "dxe_same", "dxe_same_sigma", "bayes_dxe_same", "bound",
            "tokens_seen", "unique_tokens", "repetition",
        ]
    ]  # fmt: skip


def per_component(results: Results, condition: str) -> pd.DataFrame:
    """One row a component and K of the grid; `se` is the mean over runs of the standard error clustered by paper."""
    groups = with_k1(results, condition, GRID).groupby(["component", "k"])
    table = groups[["xe", "ppl", "se", "bayes_xe", "dxe_same", "unique_tokens"]].mean()
    table["xe_sigma"] = groups["xe"].std(ddof=1)
    table["num_runs"], table["num_same"] = groups["run_id"].nunique(), groups["dxe_same"].count()
    order = ["component", "k", "num_runs", "xe", "xe_sigma", "ppl", "se", "bayes_xe", "num_same", "dxe_same"]
    return table.reset_index()[[*order, "unique_tokens"]]


def baselines(results: Results, condition: str) -> pd.DataFrame:
    """One row a component: XE_1(component) of runs that were trained on it alone by name, mean and sigma over seeds."""
    runs, rows = results.of(condition, BASELINE)
    groups = rows.groupby("component")
    table = groups[["xe", "ppl", "se", "bayes_xe", "unique_tokens"]].mean()
    table["xe_sigma"], table["num_runs"] = groups["xe"].std(ddof=1), groups["run_id"].nunique()
    repetition = runs.assign(component=runs["components"].str[0]).groupby("component")["repetition"].mean()
    order = ["component", "num_runs", "xe", "xe_sigma", "ppl", "se", "bayes_xe", "unique_tokens", "repetition"]
    return table.join(repetition).reset_index()[order]


def control(results: Results, condition: str) -> pd.DataFrame:
    """One row a K of the runs with shuffled labels: their XE and dXE, and the XE of the grid at the same seeds."""
    cells = by_seed(results, condition)
    shuffled, grid = (cells[cells["role"] == role] for role in (CONTROL, GRID))
    beside = shuffled[["k", "seed"]].merge(grid[["k", "seed", "xe"]], how="left").groupby("k")["xe"].mean()
    table = over_seeds(shuffled).set_index("k").join(beside.rename("xe_grid")).reset_index()
    order = ["k", "num_runs", "xe", "xe_sigma", "xe_grid", "num_pairs", "dxe", "dxe_sigma", "num_same", "dxe_same"]
    return table[[*order, "dxe_same_sigma", "unique_tokens", "repetition"]]


def missing(results: Results, condition: str) -> pd.DataFrame:
    """The cells of the grid without a result: one row a K and seed."""
    cells = by_seed(results, condition)
    return cells.loc[cells["num_runs"] == 0, ["k", "seed"]].reset_index(drop=True)


def list_runs(results: Results, condition: str) -> pd.DataFrame:
    """One row a run of the condition: what it was trained on, and its XE."""
    runs = results.runs_of(condition)
    names = [
        "run_id", "role", "k", "seed", "components", "xe", "ppl", "tokens_seen", "unique_tokens", "repetition",
        "device", "num_sessions", "changes",
    ]  # fmt: skip
    return runs[names].assign(components=runs["components"].map(" ".join)).reset_index(drop=True)
