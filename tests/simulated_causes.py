"""Results of grids in which it is known what moves XE: each cause has a size of its own, in nats a doubling of K.

XE of a run on paper p of component c, alone or among K, is

    offset_c + difficulty_cp + run + window_p + log2 K x (the causes that its arm and its model are subject to)

The exact value is known, and has the size `identification`.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from helpers.analysis.results import Found, ResultFiles
from helpers.config import RunConfig
from helpers.data.components import rotated_order
from helpers.model_config import PythiaConfig
from helpers.runs.result_file import Result
from helpers.studies.ergodic.results import Results, results_of
from tests.simulated_results import COMPONENTS, flat_curves, result_of, run_config

KS = (1, 2, 4)
NAMES = COMPONENTS[:6]
SEEDS = (0, 1, 2)
ALLOCATIONS = ("full", "matched_repeats", "constant_exposure")
_NUM_PAPERS = 16


@dataclass(frozen=True, kw_only=True)
class Causes:
    """Nats per token a doubling of K."""

    exposure: float = 0.0
    """Where each component has a K-th of the tokens."""
    repetition: float = 0.0
    """Where tokens repeat K times less: under `full` allocation."""
    interference: float = 0.0
    capacity: float = 0.0
    """Of the smaller model alone."""
    identification: float = 0.0

    def on(self, allocation: str, size: str) -> float:
        at_work = self.interference + self.identification
        at_work += self.exposure * (allocation != "constant_exposure") + self.repetition * (allocation == "full")
        return at_work + self.capacity * (size == "tiny")


def simulate_causes(
    causes: Causes, *, noise: float = 0.0005, seed: int = 0, sizes: Sequence[str] = ("tiny", "14m"),
    allocations: Sequence[str] = ALLOCATIONS, has_exact: bool = True, without: Sequence[str] = (),
) -> Results:  # fmt: skip
    """Every arm at K = 1, 2, 4 and three seeds, with a run on each component alone, but for those `without`, as if read
    from files."""
    rng = np.random.default_rng(seed)
    offsets = dict(zip(NAMES, rng.normal(4, 0.3, len(NAMES)), strict=True))
    difficulty = {name: _centred(rng.normal(0, 0.1, _NUM_PAPERS)) for name in NAMES}
    found = {}
    for config, active in _configs(sizes, allocations):
        if config.k == 1 and set(active) & set(without):
            continue
        shared = rng.normal(0, noise) + causes.on(config.data.allocation, config.model.size) * np.log2(config.k)
        levels = {name: offsets[name] + shared + rng.normal(0, noise) for name in active}
        exact = {name: offsets[name] + causes.identification * np.log2(config.k) for name in active}
        known = {name: offsets[name] for name in active}
        papers = {name: difficulty[name] + _centred(rng.normal(0, 4 * noise, _NUM_PAPERS)) for name in active}
        bayes = map(flat_curves, (exact, known)) if has_exact else (None, None)
        result = result_of(config, flat_curves(levels), *bayes, paper_offsets=papers)
        found[config.run_id] = Found(_of_size(result, config.model.size), config)
    return results_of(ResultFiles(study="ergodic", found=found, left_out=[]))


def _configs(sizes: Sequence[str], allocations: Sequence[str]) -> list[tuple[RunConfig, tuple[str, ...]]]:
    """Every run with its components. Runs on one component are those of `full`, but of constant_unique."""
    configs = []
    for size in sizes:
        for seed in SEEDS:
            order = rotated_order(NAMES, seed)
            for allocation in allocations:
                grid = [(run_config(k, seed, allocation=allocation), order[:k]) for k in KS]
                grid += [
                    (run_config(1, seed, allocation=allocation, components=(name,)), (name,)) for name in order[1:]
                ]
                configs += [(_sized(config, size), active) for config, active in grid]
    return list({config.run_id: (config, active) for config, active in configs}.values())


def _sized(config: RunConfig, size: str) -> RunConfig:
    return dataclasses.replace(config, model=PythiaConfig(size=size, dropout=0.0))


def _of_size(result: Result, size: str) -> Result:
    count = {"tiny": 50_000, "14m": 1_200_000}[size]
    return dataclasses.replace(result, run=result.run | {"params": result.run["params"] | {"non_embedding": count}})


def _centred(values: np.ndarray) -> np.ndarray:
    return values - values.mean()
