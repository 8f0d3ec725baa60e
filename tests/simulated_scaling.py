"""Result files of the activation study from a law of our choosing, through the real schema."""

import datetime
import zlib
from collections.abc import Iterable, Mapping

import numpy as np

from helpers.config import RunConfig
from helpers.data.cache_id import cache_id
from helpers.models.families import count_non_embedding, count_parameters, flops_per_token
from helpers.runs.length import training_tokens
from helpers.runs.result_file import Result, write_result
from helpers.storage import Storage
from tests.simulated_results import run_line

VOCAB_SIZE = 2_000
START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def loss_of(config: RunConfig, exponents: Mapping[str, float], offset: float = 1.0) -> float:
    """E + a C^-b, C = 6 N D, with equal losses of both activations at C = 1e12."""
    compute = 6 * count_non_embedding(config.model) * training_tokens(config)
    return offset + 1.5 * (compute / 1e12) ** -exponents[config.model.activation]


def write_runs(
    storage: Storage,
    configs: Iterable[RunConfig],
    exponents: Mapping[str, float],
    deviation: float = 0.0,
    shared_deviation: float = 0.0,
    started: datetime.datetime = START,
) -> None:
    """A done run of each config; log XE deviates by `deviation` in each, and by `shared_deviation` in matched runs."""
    for config in configs:
        matched = [config.seed, zlib.crc32(config.model.size.encode())]
        own = np.random.default_rng([*matched, config.model.activation == "gelu"])
        shared = np.random.default_rng(matched)
        noise = deviation * own.normal() + shared_deviation * shared.normal()
        write_one(storage, config, loss_of(config, exponents) * np.exp(noise), started)


def write_one(storage: Storage, config: RunConfig, xe: float, started: datetime.datetime = START) -> None:
    num_tokens, window = training_tokens(config), config.data.window_tokens
    counts = count_parameters(config.model, VOCAB_SIZE)
    line = run_line(config, {"stories": 500_000}) | {
        "params": {name: getattr(counts, name) for name in ("total", "without_positions", "non_embedding", "matmul")},
        "flops": {"exact": num_tokens * flops_per_token(config.model, VOCAB_SIZE, window), "6ND": 1.0},
        "tokens_seen": num_tokens,
        "steps": num_tokens // window,
    }
    line["provenance"] |= {"cache_id": cache_id(config.data), "started": started.isoformat()}
    row = {"kind": "xe", "step": 9, "component": "stories", "split": "test", "windows": 64, "xe": xe, "se": 0.01}
    row |= {"ppl": float(np.exp(xe)), "xe_by_position": [xe] * window}
    row |= {"by_paper": {"paper_id": ["p"], "windows": [64], "xe": [xe]}}
    row |= dict.fromkeys(("bayes_xe", "bayes_xe_by_position", "bayes_known_xe", "bayes_known_xe_by_position"))
    summary = {"kind": "summary", "step": 9, "xe": xe, "ppl": float(np.exp(xe)), "bayes_xe": None}
    write_result(
        storage.result(config.run_id), Result(run=line, rows=[row], summaries=[summary | {"bayes_known_xe": None}])
    )
