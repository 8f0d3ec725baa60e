"""Result files of grids with a known truth: component offsets, a slope on log2 K, and noise of runs and of windows.

XE of run r on component c is offset_c + slope * log2 K_r + run_r + window_rc. Shuffled runs have no components: their
XE is one level, plus `shift` for K above 1, plus the same noise.
"""

from dataclasses import dataclass

import numpy as np

from helpers.config import ARXIV_COMPONENTS, RunConfig
from helpers.data.components import rotated_order
from helpers.storage import Storage
from tests.simulated_results import run_config, write_run

KS = (1, 2, 4, 8, 11)
_POSITIONS = 100


@dataclass(frozen=True, kw_only=True)
class Truth:
    """In nats per token; deviations are standard deviations."""

    slope: float = 0.0
    """A doubling of K."""
    shift: float = 0.0
    """XE of shuffled runs with K above 1, less that with K = 1."""
    component_deviation: float = 0.3
    run_deviation: float = 0.01
    window_deviation: float = 0.01


def simulate(storage: Storage, truth: Truth, seed: int, seeds: tuple[int, ...] = (0, 1, 2)) -> None:
    """Write the whole grid: K x seeds, the baselines on every component, and the shuffle control."""
    rng = np.random.default_rng(seed)
    offsets = dict(zip(ARXIV_COMPONENTS, 4 + rng.normal(0, truth.component_deviation, 11), strict=True))
    for run_seed in seeds:
        order = rotated_order(ARXIV_COMPONENTS, run_seed)
        for k in KS:
            _write(storage, truth, rng, run_config(k, run_seed), order[:k], offsets)
            shuffled = run_config(k, run_seed, shuffle_labels=True)
            level = 4.3 + truth.shift * (k > 1) - truth.slope * np.log2(k)
            _write(storage, truth, rng, shuffled, order[:k], dict.fromkeys(ARXIV_COMPONENTS, level))
        for name in order[1:]:
            _write(storage, truth, rng, run_config(1, run_seed, components=(name,)), (name,), offsets)


def _write(
    storage: Storage, truth: Truth, rng: np.random.Generator, config: RunConfig, active: tuple[str, ...], offsets: dict
) -> None:
    run = rng.normal(0, truth.run_deviation)
    curves = {
        name: np.full(
            _POSITIONS, offsets[name] + truth.slope * np.log2(config.k) + run + rng.normal(0, truth.window_deviation)
        )
        for name in active
    }
    write_run(storage, config, curves, unique_tokens_each=50_000)
