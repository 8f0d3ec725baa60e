"""A run in several processes of this machine, started from one: a notebook, a grid, or `train` without a launcher.

    python -m helpers train --preset demo --only k=4 --only seed=0 --set execution.processes=2

torchrun starts the same command once a process; the first one writes its events as lines, which are told here to the
subscribers, so that a panel shows the run as if it were trained in this process. Whoever ends, all end.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from helpers.config import RunConfig
from helpers.data.cache_id import cache_id
from helpers.locks import exclusive
from helpers.outbox import Outbox, StorageAway
from helpers.processes import Place
from helpers.repository import ROOT
from helpers.runs.config_file import record_config
from helpers.runs.events import Notice, Subscriber, from_line
from helpers.storage import Storage
from helpers.training.run import TimeIsUp, TrainingFailed

_ERRORS = {kind.__name__: kind for kind in (TimeIsUp, TrainingFailed, StorageAway, ValueError)}
_GRACE_S = 30  # torchrun's own, before it kills


def must_launch(config: RunConfig, place: Place) -> bool:
    """Whether the run's processes are still to be started. ValueError if others were than it is to have."""
    wanted = config.execution.processes
    if wanted is None or wanted == place.count:
        return False
    if place.count > 1:
        raise ValueError(
            f"execution.processes = {wanted}, but {place.count} were launched; leave the setting out, or use "
            f"--nproc_per_node {wanted}"
        )
    return True


def train_in_processes(config: RunConfig, storage: Storage, subscribers: Sequence[Subscriber]) -> Path:
    """Train the run of `config` in `execution.processes` processes; raises what `train_single_k` raises."""
    if storage.store:
        storage.store.require_shared("the processes of a run")
    _send_off(config, storage, subscribers)
    log = storage.scratch / "launches" / f"{config.run_id}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    failure: dict[str, str] = {}
    with open(log, "wb") as errors:
        process = subprocess.Popen(
            _command(config, storage), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
            text=True, encoding="utf-8", start_new_session=True,
        )  # fmt: skip
        try:
            for line in process.stdout or ():
                if (event := from_line(line)) is not None:
                    for subscriber in subscribers:
                        subscriber(event)
                elif line.startswith(_ERROR):
                    failure = json.loads(line.removeprefix(_ERROR))
            process.wait()
        finally:  # also when a person or a subscriber stops it
            _end(process)
    if failure:
        raise _ERRORS.get(failure["kind"], RuntimeError)(failure["text"])
    if process.returncode:
        raise RuntimeError(
            f"the processes of run {config.run_id} ended with code {process.returncode}; what was saved is kept. "
            f"What they said is in {log}; run the same again to go on"
        )
    return storage.result(config.run_id)


_ERROR = "error as JSON: "


def error_line(error: Exception) -> str:
    """How the first process tells the one that launched it why it ended."""
    return _ERROR + json.dumps({"kind": type(error).__name__, "text": str(error)})


def _send_off(config: RunConfig, storage: Storage, subscribers: Sequence[Subscriber]) -> None:
    """Write the config.json that the run travels as."""

    def report(text: str) -> None:
        for subscriber in subscribers:
            subscriber(Notice(text=text))

    with exclusive(storage.lock(config.run_id), f"run {config.run_id}"):
        outbox = Outbox(storage=storage, run_id=config.run_id, report=report)
        record_config(config, cache_id(config.data), outbox)
        outbox.finish(60 * config.execution.storage_patience_minutes)


def _command(config: RunConfig, storage: Storage) -> list[str]:
    """torchrun, which ends with this process (its ranks do so by themselves), and what it starts."""
    torchrun = [sys.executable, "-m", "helpers.processes", str(os.getpid()), "torch.distributed.run", "--standalone"]
    # What stands before `--` is torchrun's: its parser takes --run for the beginning of its own --run-path.
    train = ["-m", "--", "helpers", "train", "--run", config.run_id, "--storage", storage.address, "--events"]
    usual = (storage.root.parent if storage.store else storage.root) / "scratch"
    scratch = [] if storage.scratch == usual else ["--scratch", str(storage.scratch)]
    return [*torchrun, "--nproc_per_node", str(config.execution.processes), *train, *scratch]


def _end(process: subprocess.Popen) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout:
        process.stdout.close()
