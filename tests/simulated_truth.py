"""Result files of grids with a known truth: component offsets, a slope on log2 K, and noise of runs and of papers.

XE of run r on paper p of component c is

    offset_c + difficulty_cp + (slope + reaction_cp) log2 K_r + run_r + window_rcp,

where all but offset and slope are noise of mean 0: a difficulty and a reaction to K are the paper's in every run, the
others are drawn for each run. Shuffled runs have no components: their XE is one level, plus `shift` for K above 1, plus
the same noise of runs and windows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from helpers.config import ARXIV_COMPONENTS, RunConfig
from helpers.data.components import rotated_order
from helpers.storage import Storage
from tests.simulated_results import run_config, write_run

KS = (1, 2, 4, 8, 11)
_POSITIONS = 100
_NUM_PAPERS = 32


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
    """Of a run's XE on one component, by its own noise on the papers."""
    reaction_deviation: float = 0.002
    """Of the change of one component's XE a doubling of K, by which papers it is measured on: the same in all runs."""
    planted_offsets: bool = False
    """Components are as unequal in every grid: equal steps of `component_deviation` in the listed order."""


def simulate(
    storage: Storage, truth: Truth, seed: int, seeds: Sequence[int] = (0, 1, 2), ks: Sequence[int] = KS
) -> None:
    """Write the whole grid: K x seeds, the baselines on every component, and the shuffle control."""
    simulated = _Simulated(truth, np.random.default_rng(seed))
    for run_seed in seeds:
        order = rotated_order(ARXIV_COMPONENTS, run_seed)
        for k in ks:
            simulated.write(storage, run_config(k, run_seed), order[:k])
            simulated.write(storage, run_config(k, run_seed, shuffle_labels=True), order[:k])
        for name in order[1:]:
            simulated.write(storage, run_config(1, run_seed, components=(name,)), (name,))


class _Simulated:
    """One grid's components and papers, and the noise of its runs as they are written."""

    def __init__(self, truth: Truth, rng: np.random.Generator):
        self.truth, self.rng = truth, rng
        steps = np.arange(11.0) - 5 if truth.planted_offsets else rng.normal(0, 1, 11)
        self.offsets = dict(zip(ARXIV_COMPONENTS, 4 + truth.component_deviation * steps, strict=True))
        self.difficulty, self.reaction = (
            {name: self._papers(deviation) for name in ARXIV_COMPONENTS}
            for deviation in (0.1, truth.reaction_deviation)
        )

    def write(self, storage: Storage, config: RunConfig, active: Sequence[str]) -> None:
        run = self.rng.normal(0, self.truth.run_deviation)
        papers = {name: self._xe(config, name) + run for name in active}
        curves = {name: np.full(_POSITIONS, xe.mean()) for name, xe in papers.items()}
        offsets = {name: xe - xe.mean() for name, xe in papers.items()}
        write_run(storage, config, curves, unique_tokens_each=50_000, paper_offsets=offsets)

    def _xe(self, config: RunConfig, name: str) -> np.ndarray:
        """[papers] XE on a component's papers, without the run's own deviation."""
        window = self._papers(self.truth.window_deviation)
        if config.data.shuffle_labels:
            return 4.3 + self.truth.shift * (config.k > 1) + window
        slope = self.truth.slope + self.reaction[name]
        return self.offsets[name] + self.difficulty[name] + slope * np.log2(config.k) + window

    def _papers(self, deviation: float) -> np.ndarray:
        """[papers] noise, of which the mean over papers has `deviation`."""
        return self.rng.normal(0, deviation * np.sqrt(_NUM_PAPERS), _NUM_PAPERS)
