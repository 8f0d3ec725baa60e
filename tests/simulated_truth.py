"""Result files of grids with a known truth: component offsets, a slope on log2 K, and noise of runs and of papers.

XE of run r on paper p of component c is

    offset_c + difficulty_cp + (slope + reaction_cp) log2 K_r + seed_s + run_r + window_rcp,

where all but offset and slope are noise of mean 0: a difficulty and a reaction to K are the paper's in every run, the
others are drawn for each run, or for all runs of a seed. Shuffled runs have no components: their XE is one level, plus
a share of what theory allows at their K, ln K / 99, plus the same noise of seeds, runs and windows.
"""

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from helpers.analysis.results import Found, ResultFiles
from helpers.config import ARXIV_COMPONENTS, RunConfig
from helpers.data.components import rotated_order
from helpers.runs.result_file import write_result
from helpers.storage import Storage
from helpers.studies.ergodic.results import Results, results_of
from helpers.studies.ergodic.roles import CONTROL
from tests.simulated_results import result_of, run_config

KS = (1, 2, 4, 8, 11)
_POSITIONS = 100
_NUM_PAPERS = 32


@dataclass(frozen=True, kw_only=True)
class Truth:
    """In nats per token; deviations are standard deviations."""

    slope: float = 0.0
    """A doubling of K."""
    shift: float = 0.0
    """XE of shuffled runs with K above 1, less that with K = 1, in units of ln K / 99."""
    constant_unique: float | None = None
    """The slope under constant_unique, less that under full allocation. None: there is no such grid."""
    seed_deviation: float = 0.0
    """Of what all runs of a seed share."""
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
    for found in _runs(truth, seed, seeds, ks):
        write_result(storage.result(found.config.run_id), found.result)


def simulated_results(truth: Truth, seed: int) -> Results:
    """The same grid as if it had been read, for simulations of many: the tables of one, with other noise."""
    tables = _tables(truth.constant_unique is not None)
    simulated = _Simulated(truth, np.random.default_rng(seed))
    seeds, runs = ({name: simulated.of(kind) for name in tables.xe[column].unique()} for kind, column in _SHARED)
    columns = zip(*(tables.xe[name] for name in ("k", "role", "condition", "component", "seed", "run_id")), strict=True)
    allocation = dict(zip(tables.runs["condition"], tables.runs["allocation"], strict=True))
    papers = [
        simulated.papers(k, role == CONTROL, allocation[condition], component) + seeds[run_seed] + runs[run_id]
        for k, role, condition, component, run_seed, run_id in columns
    ]
    means = [float(xe.mean()) for xe in papers]
    curves = [np.full(_POSITIONS, mean) for mean in means]
    xe = tables.xe.assign(xe=means, paper_xe=papers, paper_first_xe=papers, xe_by_position=curves)
    own = xe.groupby("run_id")["xe"].mean()
    return dataclasses.replace(tables, xe=xe, runs=tables.runs.assign(xe=tables.runs["run_id"].map(own)))


_SHARED = (("seed_deviation", "seed"), ("run_deviation", "run_id"))


@functools.cache
def _tables(both_allocations: bool) -> Results:
    """What does not depend on noise."""
    runs = _runs(Truth(constant_unique=0.0 if both_allocations else None), 0)
    return results_of(ResultFiles(study="ergodic", found={run.config.run_id: run for run in runs}, left_out=[]))


def _runs(truth: Truth, seed: int, seeds: Sequence[int] = (0, 1, 2), ks: Sequence[int] = KS) -> list[Found]:
    simulated = _Simulated(truth, np.random.default_rng(seed))
    runs = []
    for run_seed in seeds:
        order, shared = rotated_order(ARXIV_COMPONENTS, run_seed), simulated.of("seed_deviation")
        configs = [(run_config(k, run_seed), order[:k]) for k in ks]
        configs += [(run_config(k, run_seed, shuffle_labels=True), order[:k]) for k in ks]
        configs += [(run_config(1, run_seed, components=(name,)), (name,)) for name in order[1:]]
        if truth.constant_unique is not None:
            other = [(config, active) for config, active in configs if not config.data.shuffle_labels]
            configs += [(_under(config, "constant_unique"), active) for config, active in other]
        runs += [simulated.run(config, active, shared) for config, active in configs]
    return runs


def _under(config: RunConfig, allocation: str) -> RunConfig:
    return dataclasses.replace(config, data=dataclasses.replace(config.data, allocation=allocation))


class _Simulated:
    """One grid's components and papers, and the noise of its runs as they are drawn."""

    def __init__(self, truth: Truth, rng: np.random.Generator):
        self.truth, self.rng = truth, rng
        steps = np.arange(11.0) - 5 if truth.planted_offsets else rng.normal(0, 1, 11)
        self.offsets = dict(zip(ARXIV_COMPONENTS, 4 + truth.component_deviation * steps, strict=True))
        self.difficulty, self.reaction, self.other_reaction = (
            {name: self._noise(deviation) for name in ARXIV_COMPONENTS}
            for deviation in (0.1, truth.reaction_deviation, truth.reaction_deviation)
        )

    def of(self, deviation: str) -> float:
        return float(self.rng.normal(0, getattr(self.truth, deviation)))

    def run(self, config: RunConfig, active: Sequence[str], shared: float) -> Found:
        noise, data = shared + self.of("run_deviation"), config.data
        papers = {name: noise + self.papers(config.k, data.shuffle_labels, data.allocation, name) for name in active}
        curves = {name: np.full(_POSITIONS, xe.mean()) for name, xe in papers.items()}
        offsets = {name: xe - xe.mean() for name, xe in papers.items()}
        return Found(result_of(config, curves, unique_tokens_each=50_000, paper_offsets=offsets), config)

    def papers(self, k: int, is_shuffled: bool, allocation: str, name: str) -> np.ndarray:
        """[papers] XE on a component's papers, without what a run and its seed add."""
        window = self._noise(self.truth.window_deviation)
        if is_shuffled:
            return 4.3 + self.truth.shift * np.log(k) / (_POSITIONS - 1) + window
        slope = self.truth.slope + self.reaction[name]
        if allocation == "constant_unique":
            slope = slope + self.truth.constant_unique + self.other_reaction[name]
        return self.offsets[name] + self.difficulty[name] + slope * np.log2(k) + window

    def _noise(self, deviation: float) -> np.ndarray:
        """[papers] of which the mean has `deviation`."""
        return self.rng.normal(0, deviation * np.sqrt(_NUM_PAPERS), _NUM_PAPERS)
