"""What a grid over K could see, before it runs: the smallest slope on log2 K that its runs detect."""

from collections.abc import Sequence

import numpy as np

from helpers.analysis.conditions import Condition, condition_names, condition_of
from helpers.analysis.power import seed_deviation, smallest_detectable_slope
from helpers.analysis.results import GRID, Results, load_results
from helpers.config import RunConfig
from helpers.storage import Storage
from helpers.studies.ergodic.contrasts import with_k1
from helpers.studies.ergodic.matched import matched_by_run

ASSUMED_DEVIATION = 0.01
"""Nats per token. Final losses of public language models, which are larger, differ by 0.001 to 0.026 between seeds."""
_ASSUMPTION = (
    "The assumed deviation is not measured: public results of larger models have 0.001 to 0.026. --seed-deviation sets "
    "another."
)
_LEAST_FREEDOM = 4
"""Degrees of freedom that a measured deviation needs: with fewer it may be a third of the true one."""


def power_text(configs: Sequence[RunConfig], storage: Storage, deviation: float | None = None) -> str:
    """A line for each condition with more than one K, the runs with shuffled labels aside; empty where there is none.

    `deviation` is the standard deviation of XE between seeds, in nats per token; None: as the results of the same
    condition in the storage have it, or ASSUMED_DEVIATION. ValueError unless it is above 0.
    """
    if deviation is not None and not 0 < deviation < float("inf"):
        raise ValueError(f"seed deviation = {deviation!r} is not possible; use nats per token above 0, such as 0.01")
    runs = [config for config in configs if not config.data.shuffle_labels]
    conditions = [condition_of(config) for config in runs]
    by_name: dict[str, list[RunConfig]] = {}
    for name, config in zip(condition_names(conditions), runs, strict=True):
        by_name.setdefault(name, []).append(config)
    over_k = {name: own for name, own in by_name.items() if len({config.k for config in own}) > 1}
    if not over_k:
        return ""
    results = load_results(storage, runs[0].study)
    lines = [f"  {name}: {_least(own, results, deviation)}" for name, own in over_k.items()]
    bound = np.log(2) / (runs[0].data.window_tokens - 1)
    head = [
        "smallest slope on log2 K that a test at 5 % detects with 80 % power, in nats per token a doubling of K",
        f"(an ideal learner's is at most {bound:.4f}):",
    ]
    return "\n".join([*head, *lines, *([_ASSUMPTION] if any(line.endswith("assumed)") for line in lines) else [])])


def _least(runs: list[RunConfig], results: Results, deviation: float | None) -> str:
    used, origin = (deviation, "as given") if deviation else _deviation(condition_of(runs[0]), results)
    least = smallest_detectable_slope(np.array([config.k for config in runs]), used)
    shown = f"{least:.4f}" if np.isfinite(least) else "none, too few runs"
    return f"{shown} ({len(runs)} runs; standard deviation of XE between seeds {used:.4f}, {origin})"


def _deviation(condition: Condition, results: Results) -> tuple[float, str]:
    """The deviation to reckon with, and where it comes from."""
    for name, settings in results.settings.items():
        if settings == condition:
            matched = matched_by_run(with_k1(results, name, GRID))
            measured, freedom = seed_deviation(matched)
            if freedom >= _LEAST_FREEDOM:
                num_runs = int((matched["dxe"].notna() & (matched["k"] > 1)).sum())
                return measured, f"measured in {num_runs} matched runs"
    return ASSUMED_DEVIATION, "assumed"
