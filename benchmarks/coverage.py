"""How often the statistics are right: coverage of the slope's interval, false positives, and the equivalence test.

    python -m benchmarks.coverage --grids 400

Simulates grids of K = 1, 2, 4, 8, 11 at three seeds, with baselines and shuffle control, from a known truth, writes
them through the real result schema, reads them back and analyses them. The counts go to `benchmarks/coverage.json`,
which the report quotes.
"""

import json
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

import tyro

from helpers.analysis.findings import EQUIVALENCE_MARGIN, find
from helpers.analysis.results import load_results
from helpers.storage import Storage, publish_text
from tests.simulated_truth import Truth, simulate

RESULT = Path(__file__).with_name("coverage.json")
SLOPE = 0.007
"""Nats a doubling of K: ln 2 / 99, what theory allows."""


def judge(seed: int, truth: Truth) -> dict[str, bool]:
    """One simulated grid: whether the interval holds the true slope, the tests reject, and the control is accepted."""
    with tempfile.TemporaryDirectory() as folder:
        storage = Storage.at(folder)
        simulate(storage, truth, seed)
        results = load_results(storage, "ergodic")
    findings = find(results, results.conditions[0])
    assert findings.slope is not None and findings.permutation_p is not None and findings.control is not None
    return {
        "covered": findings.slope.low <= truth.slope <= findings.slope.high,
        "slope_rejected": findings.slope.p_value < 0.05,
        "permutation_rejected": findings.permutation_p < 0.05,
        "equivalent": findings.control.is_equivalent,
    }


def rates(truth: Truth, grids: int, workers: int) -> dict[str, float]:
    """The share of simulated grids for which each outcome of `judge` holds."""
    with ProcessPoolExecutor(workers) as pool:
        outcomes = list(pool.map(partial(judge, truth=truth), range(grids), chunksize=5))
    return {name: sum(outcome[name] for outcome in outcomes) / grids for name in outcomes[0]}


def main(grids: int = 400, workers: int = 2) -> None:
    """Run the simulation and write its counts.

    Args:
        grids: Simulated grids for each truth.
        workers: Processes.
    """
    effect, none = Truth(slope=SLOPE), Truth(slope=0.0, shift=EQUIVALENCE_MARGIN)
    with_effect, without = rates(effect, grids, workers), rates(none, grids, workers)
    report = {
        "command": f"python -m benchmarks.coverage --grids {grids}",
        "grids": grids,
        "truth": asdict(effect),
        "slope_interval_covers": {"effect": with_effect["covered"], "no_effect": without["covered"]},
        "slope_power": with_effect["slope_rejected"],
        "slope_false_positives": without["slope_rejected"],
        "permutation_power": with_effect["permutation_rejected"],
        "permutation_false_positives": without["permutation_rejected"],
        "equivalence_margin": EQUIVALENCE_MARGIN,
        "equivalence_false_acceptances_at_the_margin": without["equivalent"],
        "equivalence_power_at_no_difference": with_effect["equivalent"],
    }
    publish_text(RESULT, json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    tyro.cli(main)
