"""How often the statistics are right: coverage of intervals, false positives, power, and the equivalence test.

    python -m benchmarks.coverage --grids 400

Simulates grids of K = 1, 2, 4, 8, 11 at three seeds, with baselines and shuffle control, from a known truth, writes
them through the real result schema, reads them back and analyses them. The counts go to a file beside the report, which
quotes them.
"""

import json
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from functools import partial

import numpy as np
import pandas as pd
import tyro

from helpers.analysis.power import smallest_detectable
from helpers.storage import Storage, publish_text
from helpers.studies.ergodic import inference
from helpers.studies.ergodic.contrasts import with_k1
from helpers.studies.ergodic.findings import control_equivalence, equivalence_margin
from helpers.studies.ergodic.matched import matched_by_run, matched_estimates, seed_deviation
from helpers.studies.ergodic.plan_power import smallest_detectable_slope
from helpers.studies.ergodic.report.methods import COVERAGE
from helpers.studies.ergodic.results import Results, load_results
from helpers.studies.ergodic.roles import BASELINE, CONTROL, GRID
from tests.simulated_truth import KS, Truth, simulate

MARGIN = np.log(max(KS)) / 99
"""What theory allows at the largest K."""
SLOPE = 0.007
"""Nats a doubling of K: ln 2 / 99, what theory allows."""


Judge = Callable[..., dict[str, float]]


def judge(seed: int, truth: Truth) -> dict[str, float]:
    """One simulated grid: whether intervals hold the truth, the tests reject, and the control is accepted; and the
    smallest slope that it is said to detect, by its own slope and by what a plan would calculate from it."""
    results = _simulated(seed, truth)
    (condition,) = results.conditions
    rows = pd.concat([results.of(condition, role)[1] for role in (GRID, BASELINE)])
    pairs = with_k1(results, condition, GRID)
    slope = inference.slope(rows)
    return {
        "covered": slope.low <= truth.slope <= slope.high,
        "matched_covered": _share_covered(pairs, truth),
        "slope_rejected": slope.p_value < 0.05,
        "permutation_rejected": inference.permutation_p_value(rows) < 0.05,
        "equivalent": control_equivalence(results, condition, equivalence_margin(results, condition)).is_equivalent,
        "least": smallest_detectable(slope.standard_error, slope.degrees_of_freedom),
        "planned_least": smallest_detectable_slope(
            results.runs.loc[results.runs["role"] != CONTROL, "k"].to_numpy(),
            seed_deviation(matched_by_run(pairs))[0],
        ),
    }


def judge_matched(seed: int, truth: Truth) -> dict[str, float]:
    """The same of matched differences alone, which need no noise of windows."""
    results = _simulated(seed, truth)
    return {"matched_covered": _share_covered(with_k1(results, results.conditions[0], GRID), truth)}


def _simulated(seed: int, truth: Truth) -> Results:
    with tempfile.TemporaryDirectory() as folder:
        storage = Storage.at(folder)
        simulate(storage, truth, seed)
        return load_results(storage)


def _share_covered(pairs: pd.DataFrame, truth: Truth) -> float:
    """Of the values of K above 1, the share whose interval holds matched dXE."""
    estimates = matched_estimates(pairs).items()
    return float(np.mean([own.low <= truth.slope * np.log2(k) <= own.high for k, own in estimates]))


def means(judge_grid: Judge, truth: Truth, grids: int, workers: int, first: int = 0) -> dict[str, float]:
    """The mean over simulated grids of what `judge_grid` says: for what holds or not, the share in which it holds."""
    with ProcessPoolExecutor(workers) as pool:
        outcomes = list(pool.map(partial(judge_grid, truth=truth), range(first, first + grids), chunksize=5))
    return {name: round(float(np.mean([outcome[name] for outcome in outcomes])), 6) for name in outcomes[0]}


def main(grids: int = 400, workers: int = 2) -> None:
    """Run the simulation and write its counts.

    Args:
        grids: Simulated grids for each truth.
        workers: Processes.
    """
    effect, none = Truth(slope=SLOPE), Truth(slope=0.0, shift=MARGIN)
    with_effect, without = (means(judge, truth, grids, workers) for truth in (effect, none))
    exact = means(judge_matched, replace(effect, window_deviation=0.0, reaction_deviation=0.0), grids, workers)
    least = {name: without[name] for name in ("least", "planned_least")}
    # Other grids than those that the slopes were taken from.
    at_least = {name: means(judge, Truth(slope=slope), grids, workers, first=grids) for name, slope in least.items()}
    report = {
        "command": f"python -m benchmarks.coverage --grids {grids}",
        "grids": grids,
        "truth": asdict(effect),
        "slope_interval_covers": {"effect": with_effect["covered"], "no_effect": without["covered"]},
        "slope_power": with_effect["slope_rejected"],
        "slope_false_positives": without["slope_rejected"],
        "slope_power_at_the_smallest_detectable": {
            "by_the_slope_itself": at_least["least"]["slope_rejected"],
            "by_a_plan_with_the_measured_deviation": at_least["planned_least"]["slope_rejected"],
        },
        "matched_interval_covers": {
            "effect": with_effect["matched_covered"],
            "no_effect": without["matched_covered"],
            "without_noise_of_windows_and_papers": exact["matched_covered"],
        },
        "permutation_power": with_effect["permutation_rejected"],
        "permutation_false_positives": without["permutation_rejected"],
        "equivalence_margin": MARGIN,
        "equivalence_false_acceptances_at_the_margin": without["equivalent"],
        "equivalence_power_at_no_difference": with_effect["equivalent"],
    }
    publish_text(COVERAGE, json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    tyro.cli(main)
