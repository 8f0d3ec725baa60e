"""One run from papers to its result file: cache, selection, training, evaluation.

    python -m helpers train --preset demo --only k=4 --only seed=0 --storage outputs

Nothing random is carried from step to step (windows and dropout are functions of (seed, step)), so a run that was
killed goes on from its newest checkpoint and ends, on a CPU with the same number of threads, with the same bits.
Every file goes through the run's outbox: a storage that is away does not stop the training.
"""

import contextlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator

from helpers.config import RunConfig
from helpers.device import choose_device, choose_precision
from helpers.outbox import Outbox
from helpers.processes import own_place
from helpers.runs.checkpoints import (
    delete_checkpoints,
    is_last_snapshot,
    load_checkpoint,
    load_newest_checkpoint,
    load_snapshot,
    save_checkpoint,
    save_snapshot,
    snapshots,
    thin_snapshots,
)
from helpers.runs.config_file import record_config
from helpers.runs.events import Finished, Logged, Notice, Saved, Started, Subscriber, print_events
from helpers.runs.metrics import RowLog, check_rows, measurements_path, metrics_path
from helpers.runs.provenance import device_name
from helpers.runs.result_file import finished_result, put_result
from helpers.storage import Storage, remove_leftovers
from helpers.training.accelerator import make_accelerator, memory_bytes
from helpers.training.divergence import diverged, judge_loss
from helpers.training.held_run import held_run
from helpers.training.launch import must_launch, train_in_processes
from helpers.training.progress import Progress
from helpers.training.recipe import WINDOWS, Recipe
from helpers.training.records import begin_session, mend_records, run_result
from helpers.training.run import Run, TimeIsUp, TrainingFailed, prepare_run
from helpers.training.state import Stepped, TrainState, restore, to_checkpoint
from helpers.training.stopping import Stop, noted_stops
from helpers.training.together import join, num_processes, rank, require_together, tell
from helpers.training.trackers import Trackers

_TRAIN, _END = "train", "end"  # what the first process tells the others
_TELL_EVERY_S = 10.0
"""How often metrics.jsonl is published at least, where that is not Drive, which loses files that change often."""


@dataclass(kw_only=True)
class Records:
    """The rows of a run's files, which travel in its checkpoints, and the trackers that get the same."""

    metrics: RowLog
    measurements: RowLog
    trackers: Trackers

    @classmethod
    def start(cls, run: Run, accelerator: Accelerator) -> "Records":
        storage, run_id = run.storage, run.config.run_id
        return cls(
            metrics=RowLog(outbox=run.outbox, path=metrics_path(storage, run_id)),
            measurements=RowLog(outbox=run.outbox, path=measurements_path(storage, run_id)),
            trackers=Trackers.start(accelerator, run_id, storage, run.outbox.report) if rank() == 0 else Trackers(),
        )

    @property
    def rows(self) -> dict[str, list[dict]]:
        return {"metrics": self.metrics.rows, "measurements": self.measurements.rows}


def train_single_k(
    config: RunConfig, storage: Storage, subscribers: Sequence[Subscriber] = (print_events,), recipe: Recipe = WINDOWS
) -> Path:
    """Train and evaluate the run of `config`, from where it was left, and return the path of its result file.

    `recipe` is its study's. Raises ValueError for settings that are not possible, TrainingFailed if the loss diverges,
    TimeIsUp at `max_minutes`, StorageAway if the storage does not take the end of the run, and RuntimeError if another
    process of this machine has the same run.
    """
    place = own_place()
    require_together(config.execution.processes or place.count, storage, config.study, recipe.splits)
    if must_launch(config, place):
        return train_in_processes(config, storage, subscribers)
    if config.execution.threads:
        torch.set_num_threads(config.execution.threads)
    join(place, choose_device(config.execution))
    if not place.is_first:
        _follow(config, storage, recipe)
        return storage.result(config.run_id)
    try:
        path = _complete(config, storage, subscribers, recipe)
    except (TrainingFailed, TimeIsUp):  # at a step at which the others have stopped too
        tell(_END)
        raise
    tell(_END)
    return path


def _follow(config: RunConfig, storage: Storage, recipe: Recipe) -> None:
    """Train with the first process, as often as it does, in silence: it alone writes, measures and tells."""
    outbox = Outbox(storage=storage, run_id=config.run_id, report=lambda text: None)
    while tell(None) == _TRAIN:
        with contextlib.suppress(TrainingFailed, TimeIsUp):
            train(prepare_run(config, outbox, lambda event: None), recipe)


def _complete(config: RunConfig, storage: Storage, subscribers: Sequence[Subscriber], recipe: Recipe) -> Path:
    with held_run(config, storage, subscribers) as (outbox, emit):
        snapshots = storage.snapshot(config.run_id, 0).parent
        for folder in (storage.root, storage.run(config.run_id), snapshots, storage.results()):
            remove_leftovers(folder)
        result = finished_result(config, storage, outbox.report)
        if result is None:
            _train_and_evaluate(prepare_run(config, outbox, emit), recipe)
        else:
            mend_records(config, result, outbox)
        thin_snapshots(storage, config.run_id, config.execution.keep_evaluated_snapshots)
        delete_checkpoints(storage, config.run_id)
        if storage.store:
            storage.store.tidy(storage.run(config.run_id))
    emit(Finished(run_id=config.run_id, path=storage.result(config.run_id)))
    return storage.result(config.run_id)


def _train_and_evaluate(run: Run, recipe: Recipe) -> None:
    record_config(run.config, run.cache.cache_id, run.outbox)
    step = _trained_step(run)
    if step is None:
        tell(_TRAIN)
        step = train(run, recipe)
    run.finish_delivery()  # the evaluation reads what was delivered
    result = run_result(run, recipe, step)
    # Another machine may have ended the same run meanwhile: the first result stays.
    if finished_result(run.config, run.storage, run.outbox.report) is None:
        put_result(run.outbox, result)
    run.finish_delivery()


def train(run: Run, recipe: Recipe = WINDOWS) -> int:
    """All steps that are still to do, with logs, checkpoints and snapshots on the way; the step at which it ended."""
    config, emit = run.config, run.emit
    device = choose_device(config.execution)
    precision, reason = choose_precision(config.train, device)
    if reason:
        emit(Notice(text=reason))
    accelerator = make_accelerator(config, run.storage, device, precision)
    state, records = recipe.start(run, accelerator), Records.start(run, accelerator)
    try:
        with noted_stops(run.outbox.report, is_alone=num_processes() == 1) as stop:
            progress = _resume(run, state, records)
            if rank() == 0:
                begin_session(run, state.step, device, precision, state.micro_batch)
            emit(
                Started(
                    run_id=config.run_id,
                    step=state.step,
                    num_steps=run.num_steps,
                    num_tokens=run.dataset.order.num_tokens,
                    device=device_name(device),
                    precision=precision,
                    num_processes=num_processes(),
                )
            )
            _train_steps(run, recipe, state, records, progress, stop)
    except KeyboardInterrupt:
        run.outbox.report(f"stopped at step {state.step:,} of {run.num_steps:,}; {run.kept}. Run the same to go on")
        raise
    finally:
        records.trackers.end()  # and not the accelerator's end_training, which destroys the process group of others
    return state.step


def _train_steps(run: Run, recipe: Recipe, state: TrainState, records: Records, progress: Progress, stop: Stop) -> None:
    """Measure where it is due, step, judge, log, save: until a step was the last, or somebody asks to stop."""
    execution = run.config.execution
    to_measure = set(recipe.evaluate_at(run)) - {row["step"] for row in records.measurements.rows}
    if _is_over(run, state):  # the last checkpoint outlived what was published before it
        path = run.storage.snapshot(run.config.run_id, state.step)
        run.outbox.report(f"metrics and {path} are written again from the last checkpoint")
        _save(run, state, records, progress, is_snapshot=True)
    began = saved_at = told_at = time.perf_counter()
    while not _is_over(run, state):
        if state.step in to_measure and rank() == 0:
            _measure(run, recipe, state, records)
        stepped = recipe.step(run, state)
        state.step += 1 + stepped.skipped_steps
        state.is_ended = stepped.is_last
        records.measurements.rows += stepped.rows
        judge_loss(run, state, stepped, is_last=_is_over(run, state))
        progress.loss_sum += stepped.loss
        is_snapshot = state.step % execution.snapshot_every_steps == 0 or _is_over(run, state)
        if is_snapshot or state.step % execution.log_every_steps == 0:
            progress = _log(run, state, records, progress, stepped)
        elif not stop.is_asked:
            continue
        now = time.perf_counter()
        is_time_up = execution.max_minutes is not None and tell(now - began >= 60 * execution.max_minutes)
        is_last = is_time_up or stop.is_asked
        if is_snapshot or is_last or now - saved_at >= 60 * execution.checkpoint_every_minutes:
            _save(run, state, records, progress, is_snapshot)
            saved_at = told_at = time.perf_counter()
        elif run.storage.is_near and now - told_at >= _TELL_EVERY_S:
            records.metrics.publish()
            told_at = time.perf_counter()
        if stop.is_asked:
            raise KeyboardInterrupt
        if is_time_up and not _is_over(run, state):
            raise TimeIsUp(
                f"{run.config.run_id} stopped at step {state.step:,} of {run.num_steps:,}, after execution.max_minutes "
                f"= {execution.max_minutes:g}; {run.kept}. Run the same to go on"
            )


def _is_over(run: Run, state: TrainState) -> bool:
    return state.is_ended or state.step >= run.num_steps


def _progress(run: Run, state: TrainState) -> Progress:
    return Progress(step=state.step, tokens=run.dataset.order.tokens_before(state.step))


def _measure(run: Run, recipe: Recipe, state: TrainState, records: Records) -> None:
    measured = recipe.evaluate(run, state.weights, state.step)
    records.measurements.rows += [*measured.rows, measured.summary]
    recipe.judge(run, state, measured)


def _log(run: Run, state: TrainState, records: Records, progress: Progress, stepped: Stepped) -> Progress:
    """Log the steps since the last log: beside the judgement, the only place where the loop waits for the GPU.

    A loss that is no number ends the run here already, before a checkpoint is taken of it: no judgement could pass it.
    """
    loss = float(progress.loss_sum) / (state.step - progress.step)
    if not math.isfinite(loss):
        raise diverged(run, state, loss)
    tokens = run.dataset.order.tokens_before(state.step)
    seconds = time.perf_counter() - progress.began
    logged = Logged(
        step=state.step,
        num_steps=run.num_steps,
        tokens=tokens,
        loss=loss,
        lr=stepped.lr,
        grad_norm=float(stepped.grad_norm),
        tokens_per_s=(tokens - progress.tokens) / seconds,
        memory_bytes=memory_bytes(state.accelerator.device),
    )
    values = {name: getattr(logged, name) for name in ("loss", "lr", "grad_norm", "tokens_per_s", "memory_bytes")}
    records.metrics.rows.append({"step": logged.step, "tokens": tokens, **values})
    records.trackers.log(values, step=state.step)
    run.emit(logged)
    return _progress(run, state)


def _save(run: Run, state: TrainState, records: Records, progress: Progress, is_snapshot: bool) -> None:
    """Rows, snapshot, checkpoint, in this order: what a checkpoint resumes from is there before it."""
    if rank():
        return
    config, began = run.config, time.perf_counter()
    records.metrics.publish()
    records.measurements.publish()
    if is_snapshot:
        keep, is_last = config.execution.keep_snapshots, _is_over(run, state)
        save_snapshot(run.outbox, state.step, state.weights, keep, is_last=is_last)
    rows = records.rows | {"since_log": progress.to_json()}
    path = save_checkpoint(run.outbox, to_checkpoint(state, rows), config.execution.keep_checkpoints)
    run.emit(Saved(step=state.step, path=path, seconds=time.perf_counter() - began))


def _resume(run: Run, state: TrainState, records: Records) -> Progress:
    """Make `state` and `records` those of the newest checkpoint, if there is one, which the first process chooses; what
    the next log begins with."""
    checkpoint = load_newest_checkpoint(run.storage, run.config.run_id, run.outbox.report) if rank() == 0 else None
    step = tell(checkpoint and checkpoint.step)
    if step is not None and checkpoint is None:
        checkpoint = load_checkpoint(run.storage, run.config.run_id, step)
    if checkpoint is not None:
        restore(state, checkpoint)
        records.metrics.rows = checkpoint.state["metrics"]
        records.measurements.rows = checkpoint.state.get("measurements", [])
        if since_log := checkpoint.state.get("since_log"):
            return Progress(**since_log)
    elif metrics_path(run.storage, run.config.run_id).exists():
        run.outbox.report("the run was begun, but no checkpoint of it can be used: it begins anew")
    return _progress(run, state)


def _trained_step(run: Run) -> int | None:
    """The last step of a run whose training is at its end: its weights are there, and its rows as far as a checkpoint
    can still give them. None if there is something left to train, or to make again."""
    storage, run_id = run.storage, run.config.run_id
    kept = snapshots(storage, run_id)
    if not kept or not (kept[-1][0] == run.num_steps or is_last_snapshot(kept[-1][1])):
        return None
    step = kept[-1][0]
    try:
        load_snapshot(storage, run_id, step)
        if storage.checkpoint_steps(run_id):
            check_rows(metrics_path(storage, run_id), run_id)
        if measurements_path(storage, run_id).exists():
            check_rows(measurements_path(storage, run_id), run_id)
    except ValueError as error:
        run.outbox.report(f"{error}; it is made again from the newest checkpoint")
        return None
    return step
