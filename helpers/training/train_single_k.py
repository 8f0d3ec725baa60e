"""One run from papers to its result file: cache, selection, training, evaluation.

    python -m helpers train --preset demo --k 4 --seed 0 --storage outputs

Nothing random is carried from step to step (windows and dropout are functions of (seed, step)), so a run that was
killed goes on from its newest checkpoint and ends, on a CPU with the same number of threads, with the same bits.
Every file goes through the run's outbox: a storage that is away does not stop the training.
"""

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from helpers.config import RunConfig
from helpers.locks import exclusive
from helpers.outbox import Outbox, StorageAway
from helpers.runs.checkpoints import (
    delete_checkpoints,
    load_newest_checkpoint,
    load_snapshot,
    save_checkpoint,
    save_snapshot,
    thin_snapshots,
)
from helpers.runs.events import Event, Finished, Logged, Notice, Saved, Started, Subscriber, print_events
from helpers.runs.metrics import MetricsLog, check_metrics, metrics_path
from helpers.runs.provenance import device_name
from helpers.runs.result_file import finished_result, result_text
from helpers.storage import Storage, remove_leftovers
from helpers.training.device import choose_device, choose_precision, make_accelerator, memory_bytes
from helpers.training.records import mend_records, record_config, record_provenance, run_result
from helpers.training.run import Run, prepare_run
from helpers.training.schedule import learning_rate
from helpers.training.state import TrainState, new_state, restore, to_checkpoint, train_step

_LOSS_MEAN_DECAY = 0.9  # of the running mean of logged losses


class TrainingFailed(RuntimeError):
    """A run that diverged; its last good checkpoint is kept."""


class TimeIsUp(RuntimeError):
    """A run that stopped at its `max_minutes`, with a checkpoint."""


@dataclass(kw_only=True)
class Progress:
    """What is gathered between two logs."""

    step: int
    tokens: int
    began: float = field(default_factory=time.perf_counter)
    loss_sum: torch.Tensor | float = 0.0


def train_single_k(config: RunConfig, storage: Storage, subscribers: Sequence[Subscriber] = (print_events,)) -> Path:
    """Train and evaluate the run of `config`, from where it was left, and return the path of its result file.

    Raises ValueError for settings that are not possible, TrainingFailed if the loss diverges, TimeIsUp at
    `max_minutes`, StorageAway if the storage does not take the end of the run, and RuntimeError if another process of
    this machine has the same run.
    """

    def emit(event: Event) -> None:
        for subscriber in subscribers:
            subscriber(event)

    def report(text: str) -> None:
        emit(Notice(text=text))

    if config.execution.threads:
        torch.set_num_threads(config.execution.threads)
    outbox = Outbox(storage=storage, run_id=config.run_id, report=report)
    with exclusive(storage.lock(config.run_id), f"run {config.run_id}"), _explained(outbox):
        outbox.finish(60 * config.execution.storage_patience_minutes)  # what an earlier session could not deliver
        snapshots = storage.snapshot(config.run_id, 0).parent
        for folder in (storage.root, storage.run(config.run_id), snapshots, storage.results()):
            remove_leftovers(folder)
        result = finished_result(config, storage, report)
        if result is None:
            _train_and_evaluate(prepare_run(config, outbox, emit))
        else:
            mend_records(config, result, outbox)
        thin_snapshots(storage, config.run_id, config.execution.keep_evaluated_snapshots)
        delete_checkpoints(storage, config.run_id)
    emit(Finished(run_id=config.run_id, path=storage.result(config.run_id)))
    return storage.result(config.run_id)


@contextlib.contextmanager
def _explained(outbox: Outbox) -> Iterator[None]:
    """A file that cannot be read or deleted ends the run with words, for what was finished is safe."""
    try:
        yield
    except OSError as error:
        raise StorageAway(
            f"run {outbox.run_id} stopped: {error.filename or outbox.storage.root} cannot be used now "
            f"({error.strerror or error}); what it had finished is kept. "
            "Run the same again when the storage is back: it goes on from there"
        ) from error


def _train_and_evaluate(run: Run) -> None:
    record_config(run)
    if not _is_trained(run):
        train(run)
    run.outbox.finish(60 * run.config.execution.storage_patience_minutes)  # the evaluation reads what was delivered
    result = run_result(run)
    # Another machine may have ended the same run meanwhile: the first result stays.
    if finished_result(run.config, run.storage, run.outbox.report) is None:
        text = result_text(result)
        run.outbox.put(
            run.storage.result(run.config.run_id), lambda temporary: temporary.write_text(text, encoding="utf-8")
        )
    run.outbox.finish(60 * run.config.execution.storage_patience_minutes)


def train(run: Run) -> None:
    """All steps that are still to do, with logs, checkpoints and snapshots on the way."""
    config, emit = run.config, run.emit
    device = choose_device(config)
    precision, reason = choose_precision(config, device)
    if reason:
        emit(Notice(text=reason))
    accelerator = make_accelerator(config, run.storage, device, precision)
    state = new_state(config, accelerator, run.cache.vocab_size, run.cache.bos_id)
    rows = _resume(run, state)
    record_provenance(run, device, precision, state.micro_batch)
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
        _train_steps(run, state, MetricsLog(outbox=run.outbox, rows=rows))
    except KeyboardInterrupt:
        run.outbox.report(f"stopped at step {state.step:,} of {run.num_steps:,}; {_kept(run)}. Run the same to go on")
        raise
    finally:
        accelerator.end_training()


def _train_steps(run: Run, state: TrainState, metrics: MetricsLog) -> None:
    execution, order = run.config.execution, run.dataset.order
    progress = Progress(step=state.step, tokens=order.tokens_before(state.step))
    if state.step == run.num_steps:  # the last checkpoint outlived what was published before it
        path = run.storage.snapshot(run.config.run_id, state.step)
        run.outbox.report(f"metrics and {path} are written again from the last checkpoint")
        _save(run, state, metrics, is_snapshot=True)
    began = saved_at = time.perf_counter()
    while state.step < run.num_steps:
        rate = learning_rate(run.config, state.step, run.num_steps)
        loss, grad_norm = train_step(state, run.dataset.batch(state.step), run.config, rate)
        progress.loss_sum += loss
        is_snapshot = state.step % execution.snapshot_every_steps == 0 or state.step == run.num_steps
        if not is_snapshot and state.step % execution.log_every_steps:
            continue
        progress = _log(run, state, metrics, progress, rate, float(grad_norm))
        now = time.perf_counter()
        is_time_up = execution.max_minutes is not None and now - began >= 60 * execution.max_minutes
        if is_snapshot or is_time_up or now - saved_at >= 60 * execution.checkpoint_every_minutes:
            _save(run, state, metrics, is_snapshot)
            saved_at = time.perf_counter()
        if is_time_up and state.step < run.num_steps:
            raise TimeIsUp(
                f"{run.config.run_id} stopped at step {state.step:,} of {run.num_steps:,}, after execution.max_minutes "
                f"= {execution.max_minutes:g}; {_kept(run)}. Run the same to go on"
            )


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
        limit = f"{factor} times its running mean of {mean:.4f}"
        raise TrainingFailed(
            f"{run.config.run_id} diverged at step {state.step:,}: loss {loss:.4f} against {limit}; {_kept(run)}. "
            "Try a lower train.peak_lr or a longer train.warmup_steps (each makes a run of its own)"
        )
    state.loss_mean = _LOSS_MEAN_DECAY * mean + (1 - _LOSS_MEAN_DECAY) * loss


def _save(run: Run, state: TrainState, metrics: MetricsLog, is_snapshot: bool) -> None:
    """Metrics, snapshot, checkpoint, in this order: what a checkpoint resumes from is there before it."""
    config, began = run.config, time.perf_counter()
    metrics.publish()
    if is_snapshot:
        save_snapshot(run.outbox, state.step, state.weights, config.execution.keep_snapshots)
    path = save_checkpoint(run.outbox, to_checkpoint(state, metrics.rows), config.execution.keep_checkpoints)
    run.emit(Saved(step=state.step, path=path, seconds=time.perf_counter() - began))


def _resume(run: Run, state: TrainState) -> list[dict[str, Any]]:
    """Make `state` that of the newest checkpoint, if there is one; its lines of metrics.jsonl."""
    checkpoint = load_newest_checkpoint(run.storage, run.config.run_id, run.outbox.report)
    if checkpoint is not None:
        return restore(state, checkpoint)
    if metrics_path(run.storage, run.config.run_id).exists():
        run.outbox.report("the run was begun, but no checkpoint of it can be used: it begins anew")
    return []


def _kept(run: Run) -> str:
    """What an end before the last step leaves, in words."""
    steps = run.storage.checkpoint_steps(run.config.run_id)
    return f"the checkpoint of step {steps[0]:,} is kept" if steps else "no checkpoint had been written yet"


def _is_trained(run: Run) -> bool:
    """Whether the weights of the last step are there, and the metrics as far as a checkpoint can still give them."""
    storage, run_id = run.storage, run.config.run_id
    if not storage.snapshot(run_id, run.num_steps).exists():
        return False
    try:
        load_snapshot(storage, run_id, run.num_steps)
        if storage.checkpoint_steps(run_id):
            check_metrics(metrics_path(storage, run_id), run_id)
    except ValueError as error:
        run.outbox.report(f"{error}; it is made again from the newest checkpoint")
        return False
    return True
