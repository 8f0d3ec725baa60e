"""A run of the sample-scaling study of a second, in which both phases have some steps."""

import dataclasses
import os
import signal

from helpers.config import ExecutionConfig, RunConfig
from helpers.model_config import ContextTokenConfig
from helpers.passes_config import FixedPointConfig, PassesConfig
from helpers.runs.checkpoints import snapshots
from helpers.runs.events import Logged, Saved
from helpers.runs.result_file import read_result
from helpers.settings import replace_fields
from helpers.storage import Storage
from helpers.studies import find_preset
from helpers.studies.samples.recipe import RECIPE
from helpers.training.train_single_k import train_single_k

ITERATIONS = 6
_SMOKE = find_preset("samples", "smoke").grid[0]
CONFIG = dataclasses.replace(
    _SMOKE,
    data=dataclasses.replace(_SMOKE.data, samples=12, tokenizer="train:300", window_tokens=200),
    model=ContextTokenConfig(d_model=16, n_layer=2),
    train=dataclasses.replace(_SMOKE.train, epochs=6, peak_lr=3e-2),
    execution=ExecutionConfig(threads=1, log_every_steps=1, checkpoint_every_minutes=0, trackers=()),
    passes=PassesConfig(
        patience=1, matched_steps=5, matched_tokens=1_000,
        fixed_point=FixedPointConfig(
            least_iterations=4, most_iterations=ITERATIONS, threshold=0.08, share=0.5
        ),
    ),
)  # fmt: skip


def with_fields(**values) -> RunConfig:
    """CONFIG with fields such as model__context="none"."""
    return replace_fields(CONFIG, {name.replace("__", "."): value for name, value in values.items()})


def told(storage: Storage, config: RunConfig) -> dict:
    """What an interruption must not change."""
    result = read_result(storage.result(config.run_id))
    return {key: result.run[key] for key in ("steps", "tokens_seen", "weights_sha256")} | {
        "rows": result.rows,
        "summaries": result.summaries,
    }


def train_and_die(root: str, embedding: str, at: str) -> None:
    """SIGKILL behind the log of a step, in the last save, or in the evaluation of the end."""
    config = with_fields(model__embedding=embedding)

    def subscriber(event) -> None:
        is_last = isinstance(event, Saved) and event.path.parent.parent.joinpath("snapshots").exists()
        if (isinstance(event, Logged) and at == str(event.step)) or (at == "last" and is_last):
            os.kill(os.getpid(), signal.SIGKILL)

    def evaluate_and_die(run, weights, step):
        if at == "evaluation" and snapshots(run.storage, run.config.run_id):
            os.kill(os.getpid(), signal.SIGKILL)
        return RECIPE.evaluate(run, weights, step)

    train_single_k(config, Storage.at(root), [subscriber], dataclasses.replace(RECIPE, evaluate=evaluate_and_die))
