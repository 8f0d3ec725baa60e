"""What a condition's runs say about XE and K: matched differences, their statistics, controls and parts.

The matched difference of a run is the mean over its components c of XE_c(K) - XE_c(1 on c), same seed, same windows.
It needs a run on each component alone; runs for which one is missing are counted, not guessed.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from helpers.analysis import statistics
from helpers.analysis.contrasts import averaged_positions, with_k1
from helpers.analysis.results import BASELINE, CONTROL, GRID, Results
from helpers.analysis.statistics import Equivalence, Estimate

EQUIVALENCE_MARGIN = 0.0242
"""Nats: what theory allows at K = 11 (ln 11 / 99). A control that moves by less cannot explain such an effect."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The statistics of one condition. What the runs do not suffice for is None, and `reasons` says why."""

    condition: str
    num_runs: int
    matched: pd.DataFrame
    """One row a run of the grid: run_id, k, seed, num_components, num_matched, dxe (NaN unless all are matched), and
    the exact Bayes value `bayes_dxe` where known."""
    by_k: pd.DataFrame
    """One row a K above 1: matched dXE over seeds with its t interval, bootstrap interval, exact value, and bound."""
    slope: Estimate | None
    permutation_p: float | None
    trend_p: float | None
    contrasts: pd.DataFrame
    """One row a component at the largest K."""
    control: Equivalence | None
    outliers: list[str]
    exposure: pd.DataFrame
    """log2 K beside repetition as a covariate: coefficients, and how far the two can be told apart."""
    reasons: dict[str, str]


def find(results: Results, condition: str, margin: float = EQUIVALENCE_MARGIN) -> Findings:
    """The findings of one condition from all its usable runs."""
    _, grid = results.of(condition, GRID)
    _, alone = results.of(condition, BASELINE)
    pairs = with_k1(results, condition, GRID)
    matched = matched_by_run(pairs)
    rows = pd.concat([grid, alone])
    reasons: dict[str, str] = {}

    def attempt(name: str, compute):
        try:
            return compute()
        except ValueError as error:
            reasons[name] = str(error)
            return None

    return Findings(
        condition=condition,
        num_runs=rows["run_id"].nunique(),
        matched=matched,
        by_k=matched_by_k(pairs, matched, averaged_positions(results, condition)),
        slope=attempt("slope", lambda: statistics.slope(rows)),
        permutation_p=attempt("permutation", lambda: _permutation(rows)),
        trend_p=attempt("trend", lambda: statistics.trend_p_value(_by_seed(matched))),
        contrasts=_contrasts(pairs),
        control=attempt("control", lambda: control_equivalence(results, condition, margin)),
        outliers=statistics.outlier_runs(rows) if rows["run_id"].nunique() > 3 else [],
        exposure=exposure(results, condition),
        reasons=reasons,
    )


def matched_by_run(pairs: pd.DataFrame) -> pd.DataFrame:
    """One row a run from rows of `with_k1`; `dxe` only where every component of the run is matched."""
    groups = pairs.groupby(["run_id", "k", "seed"])
    table = groups.agg(
        num_components=("component", "count"),
        num_matched=("dxe_same", "count"),
        dxe=("dxe_same", "mean"),
        bayes_dxe=("bayes_dxe_same", "mean"),
    ).reset_index()
    whole = table["num_matched"] == table["num_components"]
    return table.assign(dxe=table["dxe"].where(whole), bayes_dxe=table["bayes_dxe"].where(whole))


def matched_by_k(pairs: pd.DataFrame, matched: pd.DataFrame, positions: int) -> pd.DataFrame:
    """One row a K above 1 that has a matched run."""
    rows = []
    for k, runs in matched[(matched["k"] > 1) & matched["dxe"].notna()].groupby("k"):
        estimate = statistics.mean_over_runs(runs["dxe"].to_numpy())
        low, high = statistics.hierarchical_bootstrap(
            [_paper_differences(pairs[pairs["run_id"] == run_id]) for run_id in runs["run_id"]]
        )
        rows.append(
            {
                "k": k, "num_runs": len(runs), "dxe": estimate.value, "low": estimate.low, "high": estimate.high,
                "bootstrap_low": low, "bootstrap_high": high, "bayes_dxe": runs["bayes_dxe"].mean(),
                "bound": np.log(k) / positions,
            }
        )  # fmt: skip
    columns = ["k", "num_runs", "dxe", "low", "high", "bootstrap_low", "bootstrap_high", "bayes_dxe", "bound"]
    return pd.DataFrame(rows, columns=columns)


def control_equivalence(results: Results, condition: str, margin: float) -> Equivalence:
    """Whether shuffled labels leave XE where it was: TOST on the mean over K > 1, one number a seed.

    Only the pool that is also the seed's K = 1 run is compared, on the same windows. ValueError without such runs.
    """
    pairs = with_k1(results, condition, CONTROL)
    pairs = pairs[(pairs["k"] > 1) & pairs["dxe_same"].notna()]
    per_seed = pairs.groupby(["seed", "k"])["dxe_same"].mean().groupby("seed").mean()
    if len(per_seed) < 2:
        raise ValueError(f"an equivalence test needs the shuffle control at 2 seeds or more; there are {len(per_seed)}")
    return statistics.equivalence(per_seed.to_numpy(), margin)


def exposure(results: Results, condition: str) -> pd.DataFrame:
    """Least squares of component-centred XE on log2 K, alone and beside log2 repetition, with condition numbers.

    Under `full` allocation a component's repetition falls as 1 / K, so that the two covariates differ only by how
    unequal components are in size: the condition number says whether their coefficients mean anything (above 30 they
    do not; Belsley, Kuh & Welsch 1980).
    """
    rows = pd.concat([results.of(condition, role)[1] for role in (GRID, BASELINE)])
    tokens = results.runs.set_index("run_id")["tokens_seen"]
    log2_k = np.log2(rows["k"].to_numpy(float))
    exposure_ = np.log2(rows["run_id"].map(tokens).to_numpy(float) / rows["k"] / rows["unique_tokens"])
    models = {"K alone": [log2_k], "K and repetition": [log2_k, exposure_.to_numpy()]}
    fits = [_least_squares(name, rows, covariates) for name, covariates in models.items()]
    return pd.DataFrame(fits, columns=["model", "num_runs", "log2_k", "log2_repetition", "condition_number"])


def _least_squares(name: str, rows: pd.DataFrame, covariates: list[np.ndarray]) -> dict[str, object]:
    components = pd.get_dummies(rows["component"]).to_numpy(float)
    centred = [_without(components, values) for values in [*covariates, rows["xe"].to_numpy(float)]]
    design = np.column_stack(centred[:-1])
    norms = np.linalg.norm(design, axis=0)
    result: dict[str, object] = {"model": name, "num_runs": rows["run_id"].nunique()}
    if (norms < 1e-9).any():
        return result | {"condition_number": np.inf}
    coefficients = np.linalg.lstsq(design, centred[-1], rcond=None)[0]
    named = dict(zip(("log2_k", "log2_repetition"), coefficients, strict=False))
    return result | named | {"condition_number": float(np.linalg.cond(design / norms))}


def _without(components: np.ndarray, values: np.ndarray) -> np.ndarray:
    return values - components @ np.linalg.lstsq(components, values, rcond=None)[0]


def _permutation(rows: pd.DataFrame) -> float:
    if rows["run_id"].nunique() < 3 or rows["k"].nunique() < 2:
        raise ValueError("a permutation test needs 3 runs at 2 values of K")
    return statistics.permutation_p_value(rows)


def _by_seed(matched: pd.DataFrame) -> pd.DataFrame:
    """Matched dXE with a row a seed and a column a K."""
    return matched.pivot(index="seed", columns="k", values="dxe")


def _contrasts(pairs: pd.DataFrame) -> pd.DataFrame:
    mixed = pairs[(pairs["k"] > 1) & pairs["dxe_same"].notna()]
    largest = mixed[mixed["k"] == mixed["k"].max()].rename(columns={"dxe_same": "dxe"})
    return statistics.component_contrasts(largest).assign(k=largest["k"].max() if len(largest) else None)


def _paper_differences(rows: pd.DataFrame) -> list[tuple[np.ndarray, np.ndarray]]:
    """Windows and mean difference of each paper, for each component of one run."""
    return [(row.paper_windows, row.paper_xe - row.paper_xe_k1) for row in rows.itertuples()]
