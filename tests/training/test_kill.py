"""A run that is killed at any moment ends with the same bits, and goes on at any step at the same cost."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from helpers.data import window_order
from helpers.outbox import Outbox
from helpers.runs.checkpoints import load_newest_checkpoint, save_checkpoint
from helpers.storage import Storage
from helpers.training import train_single_k as training
from helpers.training.state import TrainState, restore, to_checkpoint, window_state, window_step
from tests.data.test_window_order import UNEVEN, dataset
from tests.small_run import CONFIG, OVERRIDES, numbers, prepare

ROOT = Path(__file__).parents[2]
ROUNDS = 16  # each named moment begins one of them, and the random time one


class Killed(BaseException):
    """Unlike an OSError, nothing catches it."""


@pytest.mark.slow
def test_runs_killed_at_every_moment_end_with_the_same_bits() -> None:
    """In a process of its own, for it forks and this one has threads. It fails unless all ends are equal."""
    command = [sys.executable, "-m", "benchmarks.kill", "--rounds", str(ROUNDS), "--seed", "1"]
    soak = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert soak.returncode == 0, soak.stderr
    hits = {moment: int(count) for count, moment in re.findall(r"^ *(\d+)  (.+)$", soak.stdout, re.MULTILINE)}
    num_kills = sum(hits.values())
    del hits["at a random time, from outside"]  # on a machine that has become faster it may come after the end
    assert len(hits) == ROUNDS - 1
    assert min(hits.values()) >= 1, hits
    assert f"{ROUNDS} rounds, {num_kills} kills, {ROUNDS} identical ends" in soak.stdout


@pytest.mark.slow
def test_the_command_line_killed_twice_ends_with_the_same_bits(tmp_path: Path) -> None:
    """Each life a new interpreter with its own hash seed: no order of a set or dict decides anything."""
    killed, undisturbed = Storage.at(tmp_path / "killed"), Storage.at(tmp_path / "undisturbed")
    training.train_single_k(CONFIG, undisturbed, ())
    command = [sys.executable, "-m", "helpers", "train", "--preset", "smoke", "--only", "k=2", "--set", "seed=1"]
    settings = (*OVERRIDES, f"model.dropout={CONFIG.model.dropout}")  # the preset has its own
    command += [word for setting in settings for word in ("--set", setting)] + ["--storage", str(killed.root)]
    for life, delay_s in enumerate((0.2, 0.4, None)):
        environment = os.environ | {"PYTHONHASHSEED": str(life)}
        with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout or ():
                if delay_s is not None and ("new," in line or "resumed" in line):
                    time.sleep(delay_s)
                    process.kill()
    assert process.returncode == 0
    assert numbers(killed) == numbers(undisturbed)


def test_a_checkpoint_of_a_run_whose_updates_were_all_skipped_is_restored(tmp_path: Path) -> None:
    """The gradient scaler begins with overflows: the optimizer has no state then, and the scaler has."""
    run = prepare(CONFIG, Storage.at(tmp_path))
    saved, resumed = (state_with_scaler(run) for _ in range(2))
    saved.accelerator.scaler.update(2.0**7)
    save_checkpoint(run.outbox, to_checkpoint(saved, {}), keep=1)
    checkpoint = load_newest_checkpoint(run.storage, CONFIG.run_id, run.outbox.report)
    assert checkpoint is not None
    restore(resumed, checkpoint)
    for state in (saved, resumed):
        window_step(run, state)
    assert resumed.accelerator.scaler.state_dict() == saved.accelerator.scaler.state_dict()
    assert resumed.accelerator.scaler.get_scale() == 2.0**7
    for name, weights in saved.weights.items():
        assert torch.equal(resumed.weights[name], weights)


def state_with_scaler(run: training.Run) -> TrainState:
    accelerator = training.make_accelerator(run.config, run.storage, torch.device("cpu"), "fp32")
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    accelerator.scaler.scale(torch.ones(1))  # it makes its state with the first loss
    return window_state(run, accelerator)


def test_what_is_pending_stays_until_its_successor_is_whole(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill between the two would lose metrics that the storage, which is away, never got."""
    outbox = Outbox(storage=storage, run_id="run", report=print)
    (storage.root / ".ergodic-storage").rename(storage.root / "unmounted")
    target = storage.run("run") / "metrics.jsonl"
    outbox.put(target, lambda path: path.write_text("old"))

    def die(*paths: Path) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", die)
        with pytest.raises(Killed):
            outbox.put(target, lambda path: path.write_text("new"))
    (storage.root / "unmounted").rename(storage.root / ".ergodic-storage")
    outbox.finish(0)
    assert target.read_text() == "old"
    assert list(storage.outbox("run").iterdir()) == []


def test_what_killed_processes_left_half_made_is_cleared_away(tmp_path: Path) -> None:
    """In the storage only after an hour: another machine may be writing there."""
    storage = Storage.at(tmp_path)
    training.train_single_k(CONFIG, storage, ())
    unfinished = storage.outbox(CONFIG.run_id) / ".0123"
    unfinished.mkdir(parents=True)
    (unfinished / "model.safetensors").write_bytes(b"half")
    run = storage.run(CONFIG.run_id)
    folders = [storage.results(), run, run / "snapshots"]
    old, young = ([folder / f".partial-{age}-file" for folder in folders] for age in ("old", "young"))
    for path in old + young:
        path.write_bytes(b"half")
    for path in old:
        os.utime(path, (time.time() - 7_200,) * 2)
    training.train_single_k(CONFIG, storage, ())
    assert [path for path in [unfinished, *old, *young] if path.exists()] == young


@pytest.mark.parametrize("step", [10, 100_000])
def test_a_resume_orders_two_epochs_at_most_wherever_it_goes_on(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """The current epoch and the last, which decides the number of steps; never those that were passed."""
    orders = []
    permutation = window_order.permutation
    monkeypatch.setattr(window_order, "permutation", lambda *key, **at: orders.append(at) or permutation(*key, **at))
    window_order._epoch_order.cache_clear()
    order = dataset(UNEVEN, "data.sampling=epoch", "train.steps=200_000", "train.batch_size=8", k=3).order
    assert order.num_tokens // order.selection.unique_tokens > 40_000  # epochs in the run
    assert order.of_step(step).length.sum() == order.tokens_before(step + 1) - order.tokens_before(step)
    assert 1 <= len(orders) <= 3  # a batch may lie across the end of an epoch
