"""How often the statistics are right over the ranges that runs have: coverage of intervals, errors of tests, power.

    python -m benchmarks.coverage --grids 400

Simulates grids of K = 1, 2, 4, 8, 11 at three seeds, with baselines, shuffle control and a second allocation, from a
known truth, and analyses them as results that were read. What is counted goes to a file beside the report, which quotes
it; an interval that is too wide is as wrong as one that is too narrow.
"""

import json
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from functools import partial

import numpy as np
import pandas as pd
import tyro
from scipy import stats

from helpers.analysis.power import smallest_detectable
from helpers.storage import publish_text
from helpers.studies.ergodic.contrasts import with_k1
from helpers.studies.ergodic.curves import areas, curves_by_run
from helpers.studies.ergodic.decomposition import decompose
from helpers.studies.ergodic.findings import control_equivalence
from helpers.studies.ergodic.matched import matched_by_run, matched_estimates, seed_deviation
from helpers.studies.ergodic.plan_power import smallest_detectable_slope
from helpers.studies.ergodic.report.methods import COVERAGE
from helpers.studies.ergodic.results import Results
from helpers.studies.ergodic.roles import BASELINE, GRID
from helpers.studies.ergodic.slope import MOST_OF_PAPERS, permutation_test, slope_model, trend_test
from tests.simulated_truth import KS, Truth, simulated_results

SLOPE = 0.007
"""Nats a doubling of K: ln 2 / 99, what theory allows."""
LEVEL = 0.05
_BASE = Truth(shift=1.0)
_BOTH = replace(_BASE, constant_unique=0.0)
_TEXT = replace(_BASE, reaction_deviation=0.0005)
RANGES = {
    "runs .01, noise .01, papers .002, components .3": _BOTH,
    "runs .002, noise .001, components .6": replace(
        _TEXT, run_deviation=0.002, window_deviation=0.001, component_deviation=0.6
    ),
    "runs .002, noise .001, components .3": replace(_TEXT, run_deviation=0.002, window_deviation=0.001),
    "runs .002, noise .002, components .6": replace(
        _TEXT, run_deviation=0.002, window_deviation=0.002, component_deviation=0.6
    ),
    "runs .01, noise .005, components .6": replace(_TEXT, window_deviation=0.005, component_deviation=0.6),
    "runs .001, noise .02, components .1": replace(
        _TEXT, run_deviation=0.001, window_deviation=0.02, component_deviation=0.1
    ),
    "seeds .02, runs .01, noise .005, papers .002": replace(_BASE, seed_deviation=0.02, window_deviation=0.005),
    "runs .003, noise .003, papers .004": replace(
        _BASE, run_deviation=0.003, window_deviation=0.003, reaction_deviation=0.004
    ),
    "runs .003, noise .005, papers .01": replace(
        _BOTH, run_deviation=0.003, window_deviation=0.005, reaction_deviation=0.01
    ),
}
"""Standard deviations in nats per token, without a slope, and a control that moves by its margin."""


Judge = Callable[..., dict[str, float]]


def judge(seed: int, truth: Truth) -> dict[str, float]:
    """One simulated grid: what intervals hold and tests reject. NaN for what is not said of it."""
    results, full, other = _simulated(seed, truth)
    pairs = with_k1(results, full, GRID)
    outcome = _tests(results, full, pairs, truth)
    found = areas(curves_by_run(results, full))
    outcome["area_covers"] = _covers(found, truth.slope * np.log2(found["k"].to_numpy(float)) * 100)
    parts = decompose(results, full, other)
    log2_k, log_k = (log(parts["k"].to_numpy(float)) for log in (np.log2, np.log))
    truths = {"amount": truth.shift * log_k / 99}
    truths |= {} if other is None else {"repetition": -truth.constant_unique * log2_k}
    for name, values in truths.items():
        own = (parts["part"] == name).to_numpy()
        outcome[f"{name}_covers"] = _covers(parts[own], values[own])
    return outcome


def judge_tests(seed: int, truth: Truth) -> dict[str, float]:
    """The slope and the tests alone."""
    results, full, _ = _simulated(seed, truth)
    return _tests(results, full, with_k1(results, full, GRID), truth)


def _tests(results: Results, condition: str, pairs: pd.DataFrame, truth: Truth) -> dict[str, float]:
    """With the smallest slope that the grid is said to detect: by its own slope, and by what a plan would calculate."""
    rows = pd.concat([results.of(condition, role)[1] for role in (GRID, BASELINE)])
    model = slope_model(rows)
    slope = model.estimate
    by_run = matched_by_run(pairs)
    by_seed = by_run.pivot(index="seed", columns="k", values="dxe")
    ks = rows.drop_duplicates("run_id")["k"].to_numpy()
    controls = control_equivalence(results, condition)
    matched = matched_estimates(pairs)
    held = [own.low <= truth.slope * np.log2(k) <= own.high for k, own in matched.items()]
    return {
        "slope": slope.value,
        "slope_variance": slope.standard_error**2,
        "slope_covers": slope.low <= truth.slope <= slope.high,
        "slope_rejects": slope.p_value < LEVEL,
        "matched_covers": float(np.mean(held)),
        "permutation_rejects": permutation_test(rows, model).p_value < LEVEL,
        "trend_rejects": trend_test(by_seed).p_value < LEVEL if model.share_of_papers <= MOST_OF_PAPERS else np.nan,
        "control_accepts": float(np.mean([own.is_equivalent for own in controls.values()])),
        "control_accepts_at_the_largest": controls[max(controls)].is_equivalent,
        "planned_least": smallest_detectable_slope(ks, seed_deviation(by_run)[0]),
        "least": smallest_detectable(slope.standard_error, round(slope.degrees_of_freedom)),
    }


def _simulated(seed: int, truth: Truth) -> tuple[Results, str, str | None]:
    """The results, and the names of the conditions with full allocation and with constant_unique."""
    results = simulated_results(truth, seed)
    by_allocation = dict(zip(results.runs["allocation"], results.runs["condition"], strict=True))
    return results, by_allocation["full"], by_allocation.get("constant_unique")


def _covers(table: pd.DataFrame, truth: np.ndarray) -> float:
    """The share of rows whose interval holds the truth."""
    return float(((table["low"] <= truth) & (truth <= table["high"])).mean())


def outcomes(judge_grid: Judge, truth: Truth, grids: int, workers: int, first: int = 0) -> pd.DataFrame:
    """What is said of each simulated grid, a row each."""
    with ProcessPoolExecutor(workers) as pool:
        rows = list(pool.map(partial(judge_grid, truth=truth), range(first, first + grids), chunksize=5))
    return pd.DataFrame(rows).astype(float)


def rates(table: pd.DataFrame) -> dict[str, float | None]:
    """The share of grids for each outcome, of those of which it is said; and the standard error of the slope over the
    deviation that slopes have."""
    shares = {name: round(float(table[name].mean()), 4) for name in table if name.endswith(_RATES)}
    said = float(table["trend_rejects"].notna().mean())
    ratio = float(np.sqrt(table["slope_variance"].mean()) / table["slope"].std())
    shares = {name: None if np.isnan(rate) else rate for name, rate in shares.items()}
    return shares | {"trend_is_said": said, "slope_error_over_deviation": round(ratio, 4)}


_RATES = ("covers", "rejects", "accepts", "largest")


def band(rate: float, grids: int) -> tuple[float, float]:
    """Between which the share of `grids` lies in 99 % of benchmarks if the rate is true."""
    low, high = stats.binom.interval(0.99, grids, rate)
    return round(float(low) / grids, 4), round(float(high) / grids, 4)


def main(grids: int = 400, workers: int = 2) -> None:
    """Run the simulation and write its counts.

    Args:
        grids: Simulated grids for each truth.
        workers: Processes.
    """
    found = {}
    for name, truth in RANGES.items():
        found[name] = outcomes(judge, truth, grids, workers)
        print(f"{len(found)} of {len(RANGES)}, {name}: {rates(found[name])}", file=sys.stderr, flush=True)
    none = found[next(iter(RANGES))]
    effect = outcomes(judge_tests, replace(_BASE, slope=SLOPE, shift=0.0), grids, workers)
    # Other grids than those that the slopes were taken from.
    powers = {
        name: rates(outcomes(judge_tests, replace(_BASE, slope=none[column].mean()), grids, workers, first=grids))
        for name, column in {
            "by_the_slope_itself": "least", "by_a_plan_with_the_measured_deviation": "planned_least",
        }.items()
    }  # fmt: skip
    report = {
        "command": f"python -m benchmarks.coverage --grids {grids}",
        "grids": grids,
        "ks": list(KS),
        "truths": {name: asdict(truth) for name, truth in RANGES.items()},
        "band_of_95_percent": band(0.95, grids),
        "band_of_5_percent": band(0.05, grids),
        "ranges": {name: rates(table) for name, table in found.items()},
        "power_of_a_slope_as_large_as_theory_allows": {
            name: rates(effect)[f"{name}_rejects"] for name in ("slope", "permutation")
        },
        "power_of_the_slope_at_the_smallest_detectable": {name: own["slope_rejects"] for name, own in powers.items()},
        "control_accepts_where_nothing_moves": rates(effect)["control_accepts_at_the_largest"],
    }
    publish_text(COVERAGE, json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    tyro.cli(main)
