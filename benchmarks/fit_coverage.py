"""How often the fits are right: coverage of intervals and predictions, and how well two arms are told apart.

    python -m benchmarks.fit_coverage --simulations 400

Simulates losses of runs from a known law at log-spaced scales with noise between seeds, fits them as `python -m helpers
fit` does, and counts. The rates go to `benchmarks/fit_coverage.json`.
"""

import json
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import tyro
from scipy import stats
from scipy.optimize import curve_fit

from helpers.analysis.estimates import Estimate
from helpers.analysis.fits.answer import answer
from helpers.analysis.fits.arms import EXPONENT_MARGIN, equivalence, exponent_difference
from helpers.analysis.fits.compare import nested_test
from helpers.analysis.fits.intervals import infer
from helpers.analysis.fits.laws import OFFSET_POWER_LAW, POWER_LAW
from helpers.analysis.fits.points import Points
from helpers.storage import publish_text

RESULT = Path(__file__).with_name("fit_coverage.json")
NUM_DRAWS = 300
AHEAD = 8.0
"""The compute of the run that is predicted, in units of the largest fitted."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """log L = log(E + a x^-b) + noise, at log-spaced x from 1 to 1000; E = 0 is a power law."""

    offset: float
    coefficient: float = 2.0
    exponent: float = 0.3
    num_configurations: int
    num_seeds: int = 3
    seed_deviation: float = 0.01
    """Of log loss, between runs."""
    shared_deviation: float = 0.0
    """Of log loss, a part that runs share: those of a configuration, or matched runs of two arms."""
    spoilt: float = 0.0
    """Added to log loss of one run, drawn for each table."""


def scales(truth: Truth) -> np.ndarray:
    """(n,): each configuration, its seeds side by side."""
    return np.repeat(np.logspace(0, 3, truth.num_configurations), truth.num_seeds)


def log_loss(truth: Truth, x: np.ndarray, exponent: float) -> np.ndarray:
    return np.log(truth.offset + truth.coefficient * x**-exponent)


def judge_one(seed: int, truth: Truth) -> dict[str, float]:
    """One table of one arm: whether the exponent's interval, and that of a larger run's loss, hold the truth, and how
    far off the exponent is."""
    rng, x = np.random.default_rng((seed, 1)), scales(truth)
    ahead = float(x.max() * AHEAD)
    shared = np.repeat(rng.normal(0, truth.shared_deviation, truth.num_configurations), truth.num_seeds)
    noise = rng.normal(0, truth.seed_deviation, len(x)) + shared
    noise[rng.integers(len(x))] += truth.spoilt
    points = Points.of(x, np.exp(log_loss(truth, x, truth.exponent) + noise))
    further = rng.normal(0, truth.seed_deviation) + rng.normal(0, truth.shared_deviation)
    loss = float(np.exp(log_loss(truth, np.array(ahead), truth.exponent) + further))
    answered = answer(points, OFFSET_POWER_LAW if truth.offset else POWER_LAW, NUM_DRAWS, seed)
    exponent = answered.parameters()["b"]
    outcome = {
        "exponent_covered": covers(exponent, truth.exponent),
        "prediction_covered": covers(answered.predict(np.array([ahead]))[0], loss),
        "exponent": exponent.value,
        "exponent_error": abs(exponent.value - truth.exponent),
        "exponent_variance": exponent.standard_error**2,
    }
    if truth.offset:
        error = curve_fit_score(points, truth)
        outcome["exponent_covered_by_curve_fit"] = bool(abs(error) <= stats.norm.ppf(0.975))
    return outcome


def judge_arms(seed: int, truth: Truth, difference: float) -> dict[str, bool]:
    """One table of two arms, matched by configuration and seed: what is said of their exponents."""
    rng, x = np.random.default_rng((seed, 1)), scales(truth)
    shared = rng.normal(0, truth.shared_deviation, len(x))
    losses = [
        np.exp(log_loss(truth, x, exponent) + shared + rng.normal(0, truth.seed_deviation, len(x)))
        for exponent in (truth.exponent, truth.exponent + difference)
    ]
    arms, pairs = np.repeat(["reference", "arm"], len(x)).tolist(), 2 * list(range(len(x)))
    points = Points.of(np.tile(x, 2), np.concatenate(losses), arms, pairs)
    law = OFFSET_POWER_LAW if truth.offset else POWER_LAW
    shared, own = (law.across(points.arm_names, own) for own in ((), law.exponents))
    estimate = exponent_difference(infer(points, own, NUM_DRAWS, seed), *points.arm_names)
    test = nested_test(points, shared, own, NUM_DRAWS, seed)
    return {
        "difference_covered": covers(estimate, difference),
        "interval_excludes_0": not covers(estimate, 0.0),
        "f_test_rejects": test.p_value < 0.05,
        "f_test_rejects_by_bootstrap": test.bootstrap_p_value < 0.05,
        "equivalent": equivalence(estimate, EXPONENT_MARGIN).is_equivalent,
    }


def curve_fit_score(points: Points, truth: Truth) -> float:
    """The error of the exponent in standard errors of scipy's curve_fit, to which every run is independent."""
    start = (truth.offset, truth.coefficient, truth.exponent)
    best, covariance = curve_fit(
        lambda x, e, a, b: np.log(e + a * x**-b), points.scales[:, 0], np.log(points.losses), start,
        bounds=(1e-6, np.inf),
    )  # fmt: skip
    return float((best[2] - truth.exponent) / np.sqrt(covariance[2, 2]))


def covers(estimate: Estimate, truth: float) -> bool:
    return bool(estimate.low <= truth <= estimate.high)


def rates(judge: Callable[[int], dict[str, float]], simulations: int, workers: int) -> dict[str, float]:
    """The share of simulations for which each outcome holds, or its mean; of exponents the standard error over the
    deviation that they have."""
    with ProcessPoolExecutor(workers) as pool:
        outcomes = list(pool.map(judge, range(simulations), chunksize=10))
    print(f"{simulations} tables of a truth are fitted", file=sys.stderr, flush=True)
    means = {name: float(np.mean([outcome[name] for outcome in outcomes])) for name in outcomes[0]}
    if "exponent" in means:
        deviation = float(np.std([outcome["exponent"] for outcome in outcomes], ddof=1))
        means["error_over_deviation"] = float(np.sqrt(means.pop("exponent_variance"))) / deviation
        del means["exponent"]
    return {name: round(value, 5) for name, value in means.items()}


ONE_ARM = {
    "offset law, 9 configurations of 3 seeds": Truth(offset=1.5, num_configurations=9),
    "offset law, 16 configurations of 3 seeds": Truth(offset=1.5, num_configurations=16),
    "offset law, 5 configurations of 3 seeds": Truth(offset=1.5, num_configurations=5),
    "offset law, 9 configurations with noise of their own": Truth(
        offset=1.5, num_configurations=9, seed_deviation=0.003, shared_deviation=0.01
    ),
    "offset law, 60 configurations of 1 seed": Truth(offset=1.5, num_configurations=60, num_seeds=1),
    "offset law, 9 configurations of 2 seeds": Truth(offset=1.5, num_configurations=9, num_seeds=2),
    "offset law, 9 configurations of 2 seeds, one run +0.15": Truth(
        offset=1.5, num_configurations=9, num_seeds=2, spoilt=0.15
    ),
    "power law, 9 configurations of 3 seeds": Truth(offset=0.0, num_configurations=9),
    "power law, 16 configurations of 3 seeds": Truth(offset=0.0, num_configurations=16),
}
ARMS = {
    "offset law, 6 configurations of 3 matched seeds": Truth(
        offset=1.5, num_configurations=6, seed_deviation=0.01, shared_deviation=0.02
    ),
    "power law, 5 configurations of 3 matched seeds": Truth(
        offset=0.0, num_configurations=5, seed_deviation=0.005, shared_deviation=0.01
    ),
    "power law, 5 configurations of 3 seeds of independent noise": Truth(
        offset=0.0, num_configurations=5, seed_deviation=0.01
    ),
}


def main(simulations: int = 400, arm_simulations: int = 400, workers: int = 2) -> None:
    """Run the simulation and write its rates.

    Args:
        simulations: Tables of one arm for each truth.
        arm_simulations: Tables of two arms for each truth, which take five times as long.
        workers: Processes.
    """
    report = {
        "command": f"python -m benchmarks.fit_coverage --simulations {simulations} --arm-simulations {arm_simulations}",
        "simulations": simulations,
        "arm_simulations": arm_simulations,
        "draws": NUM_DRAWS,
        "equivalence_margin": EXPONENT_MARGIN,
        "one_arm": {
            name: {"truth": asdict(truth)} | rates(partial(judge_one, truth=truth), simulations, workers)
            for name, truth in ONE_ARM.items()
        },
        "two_arms": {
            f"{name}, exponents {difference:g} apart": {"truth": asdict(truth), "difference": difference}
            | rates(partial(judge_arms, truth=truth, difference=difference), arm_simulations, workers)
            for name, truth in ARMS.items()
            for difference in (0.0, EXPONENT_MARGIN)
        },
    }
    publish_text(RESULT, json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    tyro.cli(main)
