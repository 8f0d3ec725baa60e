"""A run of the length study of a second: urns, rows of 16 tokens, a state that is carried, four evaluations."""

import os
import signal

from helpers.config import RunConfig
from helpers.runs.events import Evaluated, Logged
from helpers.runs.result_file import read_result
from helpers.storage import Storage
from helpers.studies import find_preset
from helpers.studies.length.recipe import RECIPE
from helpers.training.train_single_k import train_single_k

OVERRIDES = (
    "data.window_tokens=16", "train.steps=12",
    "train.warmup_steps=1", "train.batch_size=4", "stream.sequences=3", "stream.sequence_tokens=320",
    "stream.strides=16", "stream.evaluations=4", "execution.threads=1", "execution.log_every_steps=1",
    "execution.checkpoint_every_minutes=0", "execution.trackers=", "execution.micro_batch=3",
)  # fmt: skip


def config_of(*overrides: str) -> RunConfig:
    return find_preset("length", "smoke", overrides=[*OVERRIDES, *overrides]).grid[0]


def told(storage: Storage, config: RunConfig) -> dict:
    """What an interruption must not change."""
    result = read_result(storage.result(config.run_id))
    kept = {key: result.run[key] for key in ("steps", "tokens_seen", "weights_sha256")}
    return kept | {"rows": result.rows, "summaries": result.summaries}


def train_and_die(root: str, at: str, *overrides: str) -> None:
    """SIGKILL behind the log of a step, or in the middle of the evaluation of one ("e4")."""
    config = config_of(*overrides)

    def subscriber(event) -> None:
        if isinstance(event, Logged) and at == str(event.step):
            os.kill(os.getpid(), signal.SIGKILL)
        if isinstance(event, Evaluated) and at == f"e{event.step}":  # measured, and neither judged nor kept
            os.kill(os.getpid(), signal.SIGKILL)

    train_single_k(config, Storage.at(root), [subscriber], RECIPE)
