"""A run of a second in which every state that a resume could lose is in play, and what of it must not change."""

from helpers.config import RunConfig
from helpers.outbox import Outbox
from helpers.runs.events import Logged
from helpers.runs.metrics import read_metrics
from helpers.runs.result_file import read_result
from helpers.settings import apply_overrides
from helpers.storage import Storage
from helpers.training import train_single_k as training

# Dropout and gradient accumulation on, a checkpoint at every log.
OVERRIDES = (
    "model.size=tiny", "train.steps=40", "train.batch_size=8", "train.warmup_steps=4", "train.peak_lr=3e-3",
    "train.precision=fp32", "eval.windows_per_component=8", "data.synthetic.papers_per_component=8",
    "data.synthetic.paper_tokens=300", "execution.micro_batch=4", "execution.threads=1",
    "execution.log_every_steps=5", "execution.checkpoint_every_minutes=0", "execution.trackers=",
    "execution.snapshot_every_steps=20",
)  # fmt: skip
CONFIG = apply_overrides(RunConfig(study="ergodic", k=2, seed=1), OVERRIDES)


class Interrupted(Exception):
    pass


def interrupt_at(step: int):
    def subscriber(event) -> None:
        if isinstance(event, Logged) and event.step == step:
            raise Interrupted

    return subscriber


def prepare(config: RunConfig, storage: Storage) -> training.Run:
    return training.prepare_run(config, Outbox(storage=storage, run_id=config.run_id, report=print), print)


def numbers(storage: Storage, config: RunConfig = CONFIG) -> dict:
    """What an interruption must not change: weights, XE lines, and the metrics that are not times."""
    result = read_result(storage.result(config.run_id))
    metrics = read_metrics(storage.run(config.run_id) / "metrics.jsonl")
    return {
        "weights": result.run["weights_sha256"],
        "xe": result.rows_of("xe"),
        "summaries": result.summaries,
        "metrics": [{key: row[key] for key in ("step", "tokens", "loss", "lr", "grad_norm")} for row in metrics],
    }
