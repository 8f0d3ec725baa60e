"""Result files of runs that never happened: their XE is a formula, so that every table can be checked by hand."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from helpers.config import DataConfig, RunConfig, SyntheticConfig, TrainConfig, to_json
from helpers.model_config import PythiaConfig
from helpers.runs.result_file import SCHEMA, Result, write_result
from helpers.storage import Storage

NUM_POSITIONS = 100
STEPS = 500
PAPER_OFFSETS = np.linspace(-0.2, 0.2, 8)
COMPONENTS = tuple(f"hmm_{index:02d}" for index in range(11))


def run_config(k: int, seed: int, **data: object) -> RunConfig:
    """A small synthetic run; `data` are fields of DataConfig."""
    train = TrainConfig(batch_size=64, steps=STEPS, warmup_steps=50)
    data_config = DataConfig(synthetic=SyntheticConfig(), **data)
    return RunConfig(
        study="ergodic", k=k, seed=seed, data=data_config, model=PythiaConfig(size="tiny", dropout=0.0), train=train
    )


def flat_curves(levels: dict[str, float]) -> dict[str, np.ndarray]:
    """For each component, one XE at every position."""
    return {component: np.full(NUM_POSITIONS, level) for component, level in levels.items()}


def write_run(
    storage: Storage,
    config: RunConfig,
    curves: dict[str, np.ndarray],
    bayes: dict[str, np.ndarray] | None = None,
    bayes_known: dict[str, np.ndarray] | None = None,
    unique_tokens_each: int = 40_000,
    paper_offsets: dict[str, np.ndarray] | None = None,
) -> Path:
    """Write `result_of` the same."""
    result = result_of(config, curves, bayes, bayes_known, unique_tokens_each, paper_offsets)
    return write_result(storage.result(config.run_id), result)


def result_of(
    config: RunConfig,
    curves: dict[str, np.ndarray],
    bayes: dict[str, np.ndarray] | None = None,
    bayes_known: dict[str, np.ndarray] | None = None,
    unique_tokens_each: int = 40_000,
    paper_offsets: dict[str, np.ndarray] | None = None,
) -> Result:
    """The result of a run whose XE at each position of each component is `curves` (positions,), and on each of
    its papers differs from the component's by `paper_offsets`, which sum to 0."""
    papers = paper_offsets or dict.fromkeys(curves, PAPER_OFFSETS)
    rows = [
        _xe_row(config, name, curve, bayes and bayes[name], bayes_known and bayes_known[name], papers[name])
        for name, curve in curves.items()
    ]
    means = {name: _mean([row[name] for row in rows]) for name in ("xe", "bayes_xe", "bayes_known_xe")}
    summary = {"kind": "summary", "step": STEPS, **means, "ppl": float(np.exp(means["xe"]))}
    # An earlier snapshot, with values that no table may use.
    early = [row | {"step": 100, "xe": 99.0} for row in rows], [summary | {"step": 100, "xe": 99.0}]
    run = run_line(config, {name: unique_tokens_each for name in curves})
    return Result(run=run, rows=early[0] + rows, summaries=[*early[1], summary])


def simulate_grid(
    storage: Storage, ks: Sequence[int] = (1, 2, 4, 8, 11), seeds: Sequence[int] = (0, 1, 2), **data: object
) -> None:
    """A grid as the experiment would leave it: nested components in an order of their own for each seed, the Bayes
    mixture's loss decaying to that of the known component, and a model a little above it."""
    for seed in seeds:
        order = np.random.default_rng(seed).permutation(len(COMPONENTS))
        for k in ks:
            active = [COMPONENTS[index] for index in order[:k]]
            config = dataclasses.replace(run_config(k, seed, **data))
            write_run(storage, config, *_curves_of(config, active), unique_tokens_each=50_000)


def simulate_baselines(storage: Storage, seeds: Sequence[int] = (0,)) -> None:
    """Every component trained alone."""
    for seed in seeds:
        for component in COMPONENTS:
            config = run_config(1, seed, components=(component,))
            write_run(storage, config, *_curves_of(config, [component]), unique_tokens_each=50_000)


def _curves_of(config: RunConfig, active: list[str]) -> tuple[dict[str, np.ndarray], ...]:
    """XE, mixture and known-component curves, (positions,) each, of the active components."""
    noise = np.random.default_rng([config.k, config.seed, config.data.shuffle_labels])
    position = np.arange(NUM_POSITIONS)
    known, mixture, model = {}, {}, {}
    identified = np.exp(-position / 6.0)
    for name in active:
        level = 2.9 + 0.03 * COMPONENTS.index(name)
        known[name] = level + 0.35 * np.exp(-position / 2.0)
        mixture[name] = known[name] + 0.9 * np.log(config.k) * identified / identified.sum()
        excess = 0.012 + 0.004 * np.log2(config.k) + noise.normal(0, 0.004)
        model[name] = mixture[name] + excess + noise.normal(0, 0.008, NUM_POSITIONS)
    return model, mixture, known


def _mean(values: list[float | None]) -> float | None:
    return None if None in values else float(np.mean(values))


def _xe_row(
    config: RunConfig,
    component: str,
    curve: np.ndarray,
    bayes: np.ndarray | None,
    known: np.ndarray | None,
    paper_offsets: np.ndarray,
) -> dict[str, object]:
    xe = float(curve[1:].mean())
    row = {"kind": "xe", "step": STEPS, "component": component, "split": config.eval.split, "windows": 1024}
    row |= {"xe": xe, "ppl": float(np.exp(xe)), "se": 0.01, "xe_by_position": curve.tolist()}
    count = len(paper_offsets)
    row["by_paper"] = {"paper_id": [f"p{n}" for n in range(count)], "windows": [1024 // count] * count}
    row["by_paper"]["first_xe"] = (float(curve[0]) + paper_offsets).tolist()
    row["by_paper"]["xe"] = (xe + paper_offsets).tolist()
    for name, values in (("bayes", bayes), ("bayes_known", known)):
        row[f"{name}_xe"] = None if values is None else float(values[1:].mean())
        row[f"{name}_xe_by_position"] = None if values is None else values.tolist()
    return row


def run_line(config: RunConfig, unique_by_component: dict[str, int]) -> dict[str, object]:
    tokens = STEPS * config.train.batch_size * config.data.window_tokens
    unique = sum(unique_by_component.values())
    provenance = {"python": "3.11", "torch": "2.13.0", "device": "cpu", "precision": "fp32", "cache_id": "simulated"}
    return {
        "kind": "run",
        "schema": SCHEMA,
        "run_id": config.run_id,
        "study": config.study,
        "config": to_json(config),
        "provenance": provenance,
        "params": {"total": 60_000, "non_embedding": 50_000, "matmul": 52_000},
        "flops": {"exact": 1.2e12, "6ND": 1.1e12},
        "tokens_seen": tokens,
        "unique_tokens": unique,
        "tokens_seen_per_unique_token": tokens / unique,
        "components": list(unique_by_component),
        "unique_tokens_by_component": unique_by_component,
        "schedule_complete": True,
        "weights_sha256": "0" * 64,
    }
