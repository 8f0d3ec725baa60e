"""What a condition's runs say about XE and K: matched differences, their statistics, and controls."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from helpers.analysis.estimates import (
    Equivalence,
    Estimate,
    equivalence_with_papers,
    mean_over_runs,
    mean_over_runs_and_papers,
)
from helpers.studies.ergodic import inference
from helpers.studies.ergodic.contrasts import averaged_positions, with_k1
from helpers.studies.ergodic.matched import matched_by_run, measured_by_k, paper_differences
from helpers.studies.ergodic.noise import NoiseFloor, noise_floor, with_noise
from helpers.studies.ergodic.results import Results
from helpers.studies.ergodic.roles import BASELINE, CONTROL, GRID
from helpers.studies.ergodic.slope import MOST_OF_PAPERS, SlopeModel, Tested, permutation_test, slope_model, trend_test

CONDITION_LIMIT = 30.0
"""Above this condition number two covariates cannot be told apart (Belsley, Kuh & Welsch 1980)."""
BY_K_COLUMNS = [
    "k", "num_runs", "dxe", "low", "high", "bootstrap_low", "bootstrap_high", "bayes_dxe", "excess", "excess_low",
    "excess_high", "bound",
]  # fmt: skip
"""Of `matched_by_k`; `noise` comes last in `Findings.by_k`."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The statistics of one condition. What the runs do not suffice for is None, and `reasons` says why."""

    condition: str
    num_runs: int
    matched: pd.DataFrame
    """One row a run of the grid, of `matched.matched_by_run`."""
    by_k: pd.DataFrame
    """One row a K above 1: matched dXE with its interval over runs and papers and that of the bootstrap, the exact
    value on the same windows, the excess over it with its t interval over runs, and the bound."""
    noise: NoiseFloor
    slope: Estimate | None
    permutation: Tested | None
    trend: Tested | None
    contrasts: pd.DataFrame
    """One row a component at the largest K."""
    controls: dict[int, Equivalence]
    """The shuffle control at each K above 1."""
    outliers: list[str]
    exposure: pd.DataFrame
    """log2 K beside repetition as a covariate: how far the two can be told apart, and coefficients where they can."""
    reasons: dict[str, str]

    @property
    def control(self) -> Equivalence | None:
        """The shuffle control at the largest K, which moves most if the amount of text does."""
        return self.controls[max(self.controls)] if self.controls else None


def find(results: Results, condition: str) -> Findings:
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

    model = attempt("slope", lambda: slope_model(rows))
    noise = noise_floor(results, condition)
    return Findings(
        condition=condition,
        num_runs=rows["run_id"].nunique(),
        matched=matched,
        by_k=with_noise(matched_by_k(pairs, matched, averaged_positions(results, condition)), noise),
        noise=noise,
        slope=None if model is None else model.estimate,
        permutation=attempt("permutation", lambda: _permutation(rows, model)),
        trend=attempt("trend", lambda: _trend(matched, model)),
        contrasts=_contrasts(pairs),
        controls=attempt("control", lambda: control_equivalence(results, condition)) or {},
        outliers=inference.outlier_runs(rows) if rows["run_id"].nunique() > 3 else [],
        exposure=exposure(results, condition),
        reasons=reasons,
    )


def matched_by_k(pairs: pd.DataFrame, matched: pd.DataFrame, positions: int) -> pd.DataFrame:
    """One row a K above 1 that has a matched run; the excess over the exact value is paired by run."""
    rows = []
    for k, runs in measured_by_k(pairs).items():
        dxe = mean_over_runs_and_papers(runs)
        bootstrap_low, bootstrap_high = inference.crossed_bootstrap(runs)
        own = matched[(matched["k"] == k) & matched["dxe"].notna()]
        excess = mean_over_runs((own["dxe"] - own["bayes_dxe"]).to_numpy())
        has_exact = bool(np.isfinite(excess.value))
        rows.append(
            {
                "k": k, "num_runs": len(runs), "dxe": dxe.value, "low": dxe.low, "high": dxe.high,
                "bootstrap_low": bootstrap_low, "bootstrap_high": bootstrap_high, "bayes_dxe": own["bayes_dxe"].mean(),
                "excess": excess.value, "excess_low": excess.low if has_exact else np.nan,
                "excess_high": excess.high if has_exact else np.nan, "bound": np.log(k) / positions,
            }
        )  # fmt: skip
    return pd.DataFrame(rows, columns=BY_K_COLUMNS)


def control_equivalence(results: Results, condition: str) -> dict[int, Equivalence]:
    """Whether shuffled labels leave XE where it was, at each K above 1: two one-sided tests over seeds and papers.

    Only the pool that is also the seed's K = 1 run is compared, on the same windows. The margin is what theory allows
    at that K, ln K / T nats per token: a control that moves by less cannot explain such an effect. ValueError where no
    K has two seeds.
    """
    pairs = with_k1(results, condition, CONTROL)
    pairs = pairs[(pairs["k"] > 1) & pairs["dxe_same"].notna()]
    positions = averaged_positions(results, condition)
    measured = {int(k): [paper_differences(own) for _, own in rows.groupby("run_id")] for k, rows in pairs.groupby("k")}
    found = {
        k: equivalence_with_papers(runs, float(np.log(k)) / positions) for k, runs in measured.items() if len(runs) > 1
    }
    if not found:
        most = max((len(runs) for runs in measured.values()), default=0)
        raise ValueError(f"an equivalence test needs the shuffle control at 2 seeds or more; there are {most}")
    return found


def exposure(results: Results, condition: str) -> pd.DataFrame:
    """Least squares of component-centred XE on log2 K, alone and beside log2 repetition, with condition numbers.

    Under `full` allocation a component's repetition falls as 1 / K, so that the two covariates differ only by how
    unequal components are in size. Coefficients are NaN where the condition number is above CONDITION_LIMIT.
    """
    rows = pd.concat([results.of(condition, role)[1] for role in (GRID, BASELINE)])
    tokens = results.runs_of(condition).set_index("run_id")["tokens_seen"]
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
    condition_number = float(np.linalg.cond(design / norms)) if (norms > 1e-9).all() else np.inf
    result = {"model": name, "num_runs": rows["run_id"].nunique(), "condition_number": condition_number}
    if condition_number > CONDITION_LIMIT:
        return result
    coefficients = np.linalg.lstsq(design, centred[-1], rcond=None)[0]
    return result | dict(zip(("log2_k", "log2_repetition"), coefficients, strict=False))


def _without(components: np.ndarray, values: np.ndarray) -> np.ndarray:
    return values - components @ np.linalg.lstsq(components, values, rcond=None)[0]


def _permutation(rows: pd.DataFrame, model: SlopeModel | None) -> Tested:
    if model is None:
        raise ValueError("a permutation test needs the deviations that the slope's model gives runs; there is none")
    return permutation_test(rows, model)


def _trend(matched: pd.DataFrame, model: SlopeModel | None) -> Tested:
    if model is not None and model.share_of_papers > MOST_OF_PAPERS:
        raise ValueError(
            f"the papers make {model.share_of_papers:.2g} times as much of the slope's variance as the runs do, and "
            "Page's test knows the noise of runs alone; slope and permutation hold that of papers"
        )
    if matched["dxe"].isna().all():
        raise ValueError("no run is matched, so there is no ΔXE of which a trend could be told")
    return trend_test(_by_seed(matched))


def _by_seed(matched: pd.DataFrame) -> pd.DataFrame:
    """Matched dXE with a row a seed and a column a K."""
    return matched.pivot(index="seed", columns="k", values="dxe")


def _contrasts(pairs: pd.DataFrame) -> pd.DataFrame:
    mixed = pairs[(pairs["k"] > 1) & pairs["dxe_same"].notna()]
    largest = mixed[mixed["k"] == mixed["k"].max()]
    measured = {
        name: [paper_differences(own) for _, own in rows.groupby("run_id")]
        for name, rows in largest.groupby("component")
    }
    return inference.component_contrasts(measured).assign(k=largest["k"].max() if len(largest) else None)
