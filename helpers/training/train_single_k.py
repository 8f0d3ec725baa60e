"""One run from papers to its result file: cache, selection, training, evaluation.

    python -m helpers train --preset demo --k 4 --seed 0 --storage outputs

Nothing random is carried from step to step (windows and dropout are functions of (seed, step)), so a run that was
killed goes on from its newest checkpoint and ends, on a CPU with the same number of threads, with the same bits.
"""

import datetime
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from helpers.config import RunConfig, to_json
from helpers.data.components import Selection, select
from helpers.data.fetch_arxiv import ensure_cache
from helpers.data.token_cache import TokenCache, flat_tokens
from helpers.data.window_dataset import WindowDataset
from helpers.data.window_order import window_order
from helpers.evaluation.eval_xe import evaluate
from helpers.evaluation.result_file import Result, finished_result, write_result
from helpers.models.shapes import count_parameters, flops_per_token
from helpers.overrides import config_difference
from helpers.storage import Storage, publish_json
from helpers.training.checkpoints import (
    delete_checkpoints,
    load_newest_checkpoint,
    load_snapshot,
    save_checkpoint,
    save_snapshot,
    weights_sha256,
)
from helpers.training.device import choose_device, choose_precision, make_accelerator, memory_bytes
from helpers.training.events import Event, Finished, Logged, Notice, Saved, Started, Subscriber, print_events
from helpers.training.metrics import MetricsLog
from helpers.training.provenance import device_name, provenance
from helpers.training.schedule import learning_rate
from helpers.training.state import TrainState, new_state, restore, to_checkpoint, train_step

_LOSS_MEAN_DECAY = 0.9  # of the running mean of logged losses


class TrainingFailed(RuntimeError):
    """A run that diverged; its last good checkpoint is kept."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run works with, all of it derived from its config."""

    config: RunConfig
    storage: Storage
    cache: TokenCache
    selection: Selection
    dataset: WindowDataset
    emit: Subscriber

    @property
    def num_steps(self) -> int:
        return self.dataset.order.num_steps


@dataclass(kw_only=True)
class Progress:
    """What is gathered between two logs."""

    step: int
    tokens: int
    began: float = field(default_factory=time.perf_counter)
    loss_sum: torch.Tensor | float = 0.0


def train_single_k(config: RunConfig, storage: Storage, subscribers: Sequence[Subscriber] = (print_events,)) -> Path:
    """Train and evaluate the run of `config`, from where it was left, and return the path of its result file.

    Raises ValueError for settings that are not possible, and TrainingFailed if the loss diverges.
    """

    def emit(event: Event) -> None:
        for subscriber in subscribers:
            subscriber(event)

    result_path = storage.result(config.run_id)
    if finished_result(config, storage, lambda text: emit(Notice(text=text))) is None:
        if config.execution.threads:
            torch.set_num_threads(config.execution.threads)
        run = prepare_run(config, storage, emit)
        record = record_run(run)
        if not _is_trained(run):
            train(run, record)
        write_run_result(run)
        delete_checkpoints(storage, config.run_id)
    emit(Finished(run_id=config.run_id, path=result_path))
    return result_path


def prepare_run(config: RunConfig, storage: Storage, emit: Subscriber) -> Run:
    """The run's cache, built if it is missing, and its windows."""
    cache = ensure_cache(config.data, storage, report=lambda text: emit(Notice(text=text)))
    selection = select(config, cache)
    dataset = WindowDataset(flat=flat_tokens(cache, "train", storage), order=window_order(config, selection))
    return Run(config=config, storage=storage, cache=cache, selection=selection, dataset=dataset, emit=emit)


def record_run(run: Run) -> dict:
    """Write config.json before the first step and return the provenance. ValueError if the folder is another run's."""
    path = run.storage.run(run.config.run_id) / "config.json"
    science = {**run.config.science(), "cache_id": run.cache.cache_id}
    if path.exists():
        recorded = json.loads(path.read_text(encoding="utf-8"))
        difference = config_difference(recorded["science"], science)
        if difference:
            raise ValueError(
                f"run {run.config.run_id} was begun with other settings or data ({'; '.join(difference)}); "
                f"nothing was changed. Use another --storage, or delete {path.parent}"
            )
    else:
        publish_json(path, {"science": science, "config": to_json(run.config)})
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"cache_id": run.cache.cache_id, "content_sha256": run.cache.manifest["content_sha256"], "started": now}


def train(run: Run, record: dict) -> None:
    """All steps that are still to do, with logs, checkpoints and snapshots on the way."""
    config, emit = run.config, run.emit
    device = choose_device(config)
    precision, reason = choose_precision(config, device)
    if reason:
        emit(Notice(text=reason))
    accelerator = make_accelerator(config, run.storage, device, precision)
    state = new_state(config, accelerator, run.cache.vocab_size, run.cache.bos_id)
    _resume(run, state)
    record |= provenance(device) | {"precision": precision, "micro_batch": state.micro_batch}
    publish_json(run.storage.run(config.run_id) / "provenance.json", record)
    emit(
        Started(
            run_id=config.run_id,
            step=state.step,
            num_steps=run.num_steps,
            num_tokens=run.dataset.order.num_tokens,
            device=device_name(device),
            precision=precision,
        )
    )
    accelerator.init_trackers(config.run_id)
    try:
        _train_steps(run, state)
    finally:
        accelerator.end_training()


def _train_steps(run: Run, state: TrainState) -> None:
    execution, order = run.config.execution, run.dataset.order
    metrics = MetricsLog.resume(run.storage.run(run.config.run_id) / "metrics.jsonl", state.step)
    progress = Progress(step=state.step, tokens=order.tokens_before(state.step))
    saved_at = time.perf_counter()
    while state.step < run.num_steps:
        rate = learning_rate(run.config.train, state.step, run.num_steps)
        loss, grad_norm = train_step(state, run.dataset.batch(state.step), run.config, rate)
        progress.loss_sum += loss
        is_snapshot = state.step % execution.snapshot_every_steps == 0 or state.step == run.num_steps
        if not is_snapshot and state.step % execution.log_every_steps:
            continue
        progress = _log(run, state, metrics, progress, rate, float(grad_norm))
        if is_snapshot or time.perf_counter() - saved_at >= 60 * execution.checkpoint_every_minutes:
            _save(run, state, metrics, is_snapshot)
            saved_at = time.perf_counter()


def _log(
    run: Run, state: TrainState, metrics: MetricsLog, progress: Progress, rate: float, grad_norm: float
) -> Progress:
    """Judge and log the steps since the last log, the only place where the loop waits for the GPU."""
    loss = float(progress.loss_sum) / (state.step - progress.step)
    _check_divergence(run, state, loss)
    tokens = run.dataset.order.tokens_before(state.step)
    seconds = time.perf_counter() - progress.began
    logged = Logged(
        step=state.step,
        num_steps=run.num_steps,
        tokens=tokens,
        loss=loss,
        lr=rate,
        grad_norm=grad_norm,
        tokens_per_s=(tokens - progress.tokens) / seconds,
        memory_bytes=memory_bytes(state.accelerator.device),
    )
    values = {name: getattr(logged, name) for name in ("loss", "lr", "grad_norm", "tokens_per_s", "memory_bytes")}
    metrics.rows.append({"step": logged.step, "tokens": tokens, **values})
    state.accelerator.log(values, step=state.step)
    run.emit(logged)
    return Progress(step=state.step, tokens=tokens)


def _check_divergence(run: Run, state: TrainState, loss: float) -> None:
    factor = run.config.train.divergence_factor
    mean = loss if state.loss_mean is None else state.loss_mean
    if not math.isfinite(loss) or loss > factor * mean:
        last = load_newest_checkpoint(run.storage, run.config.run_id, lambda text: None)
        kept = f"the checkpoint of step {last.step:,} is kept" if last else "no checkpoint had been written yet"
        limit = f"{factor} times its running mean of {mean:.4f}"
        raise TrainingFailed(
            f"{run.config.run_id} diverged at step {state.step:,}: loss {loss:.4f} against {limit}; {kept}. "
            "Try a lower train.peak_lr or a longer train.warmup_steps (each makes a run of its own)"
        )
    state.loss_mean = _LOSS_MEAN_DECAY * mean + (1 - _LOSS_MEAN_DECAY) * loss


def _save(run: Run, state: TrainState, metrics: MetricsLog, is_snapshot: bool) -> None:
    """Metrics, snapshot, checkpoint, in this order: what a checkpoint resumes from is there before it."""
    config, began = run.config, time.perf_counter()
    metrics.publish()
    if is_snapshot:
        save_snapshot(run.storage, config.run_id, state.step, state.weights, config.execution.keep_snapshots)
    path = save_checkpoint(run.storage, config.run_id, to_checkpoint(state), config.execution.keep_checkpoints)
    run.emit(Saved(step=state.step, path=path, seconds=time.perf_counter() - began))


def _resume(run: Run, state: TrainState) -> None:
    checkpoint = load_newest_checkpoint(run.storage, run.config.run_id, lambda text: run.emit(Notice(text=text)))
    if checkpoint is not None:
        restore(state, checkpoint)


def _is_trained(run: Run) -> bool:
    """Whether the weights of the last step are there: then only the evaluation is missing."""
    path = run.storage.snapshot(run.config.run_id, run.num_steps)
    if not path.exists():
        return False
    try:
        load_snapshot(run.storage, run.config.run_id, run.num_steps)
    except ValueError as error:
        run.emit(Notice(text=f"{error}; it is trained again from the newest checkpoint"))
        return False
    return True


def write_run_result(run: Run) -> Path:
    """Evaluate the last step and publish the result file, whole and last of all."""
    config, step = run.config, run.num_steps
    weights = load_snapshot(run.storage, config.run_id, step)
    recorded = json.loads((run.storage.run(config.run_id) / "provenance.json").read_text(encoding="utf-8"))
    xe, summary = evaluate(config, run.storage, run.cache, run.selection, weights, step, run.emit)
    num_tokens = run.dataset.order.num_tokens
    counts = count_parameters(config.model, run.cache.vocab_size)
    row = {
        "kind": "run",
        "schema": 1,
        "run_id": config.run_id,
        "study": config.study,
        "config": to_json(config),
        "provenance": recorded | {"finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")},
        "params": {"total": counts.total, "non_embedding": counts.non_embedding, "matmul": counts.matmul},
        "flops": {
            "exact": num_tokens * flops_per_token(config.model, run.cache.vocab_size, config.data.window_tokens),
            "6ND": 6 * counts.total * num_tokens,
        },
        "steps": step,
        "tokens_seen": num_tokens,
        "unique_tokens": run.selection.unique_tokens,
        "tokens_seen_per_unique_token": num_tokens / run.selection.unique_tokens,
        "unique_tokens_by_component": run.selection.unique_tokens_by_component,
        "excluded_papers": run.selection.excluded_papers,
        "components": list(run.selection.components),
        "schedule_complete": True,
        "weights_sha256": weights_sha256(weights),
    }
    return write_result(run.storage.result(config.run_id), Result(row, xe, [summary]))
