"""Resuming late costs what resuming early does: time until the first step is done, at step 10 and at step 100,000.

    python -m benchmarks.resume --repeats 9

The steps in between are not trained: the checkpoint of a first step is written again under the later step, with the
lines of metrics.jsonl that such a run has. Time is that of the whole call of `train_single_k` (open the cache, find the
windows, load the checkpoint, one step), the two steps measured in turns in one process. The ratio is to be below 1.2.
"""

import argparse
import contextlib
import dataclasses
import statistics
import tempfile
import time
from pathlib import Path

from helpers.config import RunConfig
from helpers.data import window_order
from helpers.outbox import Outbox
from helpers.runs.checkpoints import load_newest_checkpoint, save_checkpoint
from helpers.runs.metrics import RowLog, metrics_path, read_metrics
from helpers.settings import apply_overrides
from helpers.storage import Storage
from helpers.training.recipe import WINDOWS
from helpers.training.run import Run
from helpers.training.state import Stepped, TrainState, window_step
from helpers.training.train_single_k import TimeIsUp, train_single_k

EARLY, LATE = 10, 100_000
CONFIG = apply_overrides(
    RunConfig(study="ergodic", k=11),
    (
        "model.size=tiny", "train.steps=200_000", "train.batch_size=32", "train.precision=fp32",
        "data.synthetic.papers_per_component=1_000", "execution.threads=1", "execution.trackers=",
    ),
)  # fmt: skip


class FirstStepDone(Exception):
    """Ends a measured call."""


def begin(config: RunConfig, storage: Storage, step: int) -> None:
    """Leave the run as if it had been killed after the checkpoint of `step`."""
    first_step_only = apply_overrides(config, ["execution.log_every_steps=1", "execution.max_minutes=1e-9"])
    with contextlib.suppress(TimeIsUp):
        train_single_k(first_step_only, storage, ())
    checkpoint = load_newest_checkpoint(storage, config.run_id, print)
    (row,) = read_metrics(metrics_path(storage, config.run_id))
    rows = [row | {"step": logged} for logged in range(step, 0, -config.execution.log_every_steps)][::-1]
    outbox = Outbox(storage=storage, run_id=config.run_id, report=print)
    RowLog(outbox=outbox, path=metrics_path(storage, config.run_id), rows=rows).publish()
    later = dataclasses.replace(checkpoint, step=step, state=checkpoint.state | {"metrics": rows})
    save_checkpoint(outbox, later, keep=1)


def seconds_to_first_step(config: RunConfig, storage: Storage, step: int) -> float:
    """Seconds from the call until the first step after `step` is done."""
    done = []

    def only_step(run: Run, state: TrainState) -> Stepped:
        assert state.step == step
        window_step(run, state)
        done.append(time.perf_counter())
        raise FirstStepDone

    window_order._epoch_order.cache_clear()  # a new process has none
    began = time.perf_counter()
    try:
        train_single_k(config, storage, (), dataclasses.replace(WINDOWS, step=only_step))
    except FirstStepDone:
        return done[0] - began
    raise AssertionError("a run of 200,000 steps has no step to do")


def measure(config: RunConfig, place: Path, repeats: int) -> dict[int, float]:
    """The median of so many calls, in seconds, for the early and the late step."""
    storages = {step: Storage.at(place / str(step)) for step in (EARLY, LATE)}
    for step, storage in storages.items():
        begin(config, storage, step)
        seconds_to_first_step(config, storage, step)  # what happens once a process, such as imports
    seconds: dict[int, list[float]] = {EARLY: [], LATE: []}
    for repeat in range(repeats):
        for step in (EARLY, LATE) if repeat % 2 else (LATE, EARLY):
            seconds[step].append(seconds_to_first_step(config, storages[step], step))
    return {step: statistics.median(of_step) for step, of_step in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        for sampling in ("uniform", "epoch"):
            config = apply_overrides(CONFIG, [f"data.sampling={sampling}"])
            early, late = measure(config, Path(place), options.repeats).values()
            print(
                f"{sampling:8s} step {EARLY:,}: {early:.3f} s   step {LATE:,}: {late:.3f} s   ratio {late / early:.2f}"
            )


if __name__ == "__main__":
    main()
