"""A run in several processes: the same numbers as in one, one that writes, and nothing left when one of them dies."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from helpers.config import RunConfig
from helpers.processes import Place, own_place, require_one_process
from helpers.repository import ROOT
from helpers.runs.events import Finished, Logged, Started, from_line, to_line
from helpers.runs.metrics import read_metrics
from helpers.runs.result_file import read_result
from helpers.runs.sessions import changes, sessions
from helpers.runs.verify import verify_storage
from helpers.settings import apply_overrides
from helpers.storage import Storage
from helpers.studies import STUDIES, find_preset
from helpers.training import together
from helpers.training.launch import must_launch
from helpers.training.state import window_state, window_step
from helpers.training.train_single_k import TimeIsUp, make_accelerator, train_single_k
from tests.small_run import OVERRIDES, prepare
from tests.training.together_run import CONFIG, DROPPED, STOPPED

TORCHRUN = ["-m", "torch.distributed.run", "--standalone"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}


def launch(count: int, *command: str) -> subprocess.Popen:
    return start(*TORCHRUN, "--nproc_per_node", str(count), "-m", "--", *command)


def start(*command: str) -> subprocess.Popen:
    """In a session of its own, as a notebook's or a cluster's process is."""
    return subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env=ENVIRONMENT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip


def losses(storage: Storage, config: RunConfig = CONFIG) -> list[float]:
    return [row["loss"] for row in read_metrics(storage.run(config.run_id) / "metrics.jsonl")]


def xe(storage: Storage, config: RunConfig = CONFIG) -> list[float]:
    return [row["xe"] for row in read_result(storage.result(config.run_id)).rows_of("xe")]


def assert_same_numbers(found: Storage, expected: Storage) -> None:
    assert losses(found) == pytest.approx(losses(expected), rel=0, abs=1e-5)
    assert xe(found) == pytest.approx(xe(expected), rel=0, abs=1e-4)


def begin_alone(storage: Storage) -> None:
    with pytest.raises(TimeIsUp):
        train_single_k(apply_overrides(CONFIG, STOPPED), storage, ())


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    storage = Storage.at(tmp_path_factory.mktemp("alone"))
    train_single_k(CONFIG, storage, ())
    return storage


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_any_number_of_processes_gives_the_same_numbers_also_if_it_changes(tmp_path, alone, count) -> None:
    whole, begun, left, dropped = (Storage.at(tmp_path / name) for name in ("whole", "begun", "left", "dropped"))
    begin_alone(left)
    process = launch(count, "tests.training.together_run", str(tmp_path))
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said
    assert_same_numbers(whole, alone)
    assert_same_numbers(left, alone)
    train_single_k(CONFIG, begun, ())
    assert_same_numbers(begun, alone)
    for storage, numbers in ((whole, [count]), (left, [1, count]), (begun, [count, 1])):
        record = read_result(storage.result(CONFIG.run_id)).run["provenance"]
        assert [session["processes"] for session in sessions(record)] == numbers
        told = [line for line in changes(record) if line.startswith("processes")]
        assert told == ([] if len(numbers) == 1 else [f"processes: {numbers[0]}, from step 5: {numbers[1]}"])
        assert not verify_storage(storage.root).damaged
        assert len(losses(storage)) == len(losses(alone)), "one process has written"
    assert not verify_storage(dropped.root).damaged and len(xe(dropped, DROPPED)) == 2


@pytest.mark.slow
def test_a_process_that_is_one_starts_the_others_and_tells_what_they_do(tmp_path, alone) -> None:
    """As in a notebook, with a scratch folder of its own."""
    storage, events = Storage.at(tmp_path / "storage", tmp_path / "scratch"), []
    config = apply_overrides(CONFIG, ["execution.processes=2"])
    with pytest.raises(TimeIsUp, match=r"after execution.max_minutes = 0; the checkpoint of step 5 is kept"):
        train_single_k(apply_overrides(config, STOPPED), storage, [events.append])
    assert train_single_k(config, storage, [events.append]) == storage.result(CONFIG.run_id)
    started = [event for event in events if isinstance(event, Started)]
    assert [(event.step, event.num_processes) for event in started] == [(0, 2), (5, 2)]
    assert len([event for event in events if isinstance(event, Logged)]) == len(losses(alone))
    assert isinstance(events[-1], Finished) and events[-1].path == storage.result(CONFIG.run_id)
    assert_same_numbers(storage, alone)
    assert not (storage.root / "scratch").exists()


ARGUMENTS = ["train", "--preset", "smoke", "--only", "k=2", "--set", "seed=1"]
ARGUMENTS += [word for setting in (*OVERRIDES, "train.steps=100_000") for word in ("--set", setting)]


def ranks(process: subprocess.Popen) -> list[psutil.Process]:
    """The processes that train, below torchrun and who started it."""
    children = psutil.Process(process.pid).children(recursive=True)
    training = [child for child in children if "helpers" in (words := child.cmdline()) and "--standalone" not in words]
    return sorted(training, key=lambda child: child.pid)


def wait_for_step(process: subprocess.Popen) -> None:
    for line in process.stdout:
        if line.startswith("step ") and "saved" in line:
            return
    raise AssertionError("it ended before a step was saved")


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["first rank", "last rank", "torchrun", "who started torchrun"])
def test_when_one_dies_all_end(tmp_path, victim) -> None:
    arguments = ["helpers", *ARGUMENTS, "--storage", str(tmp_path)]
    if victim == "who started torchrun":
        process = start("-m", *arguments, "--set", "execution.processes=2")
    else:
        process = launch(2, *arguments)
    others = []
    try:
        wait_for_step(process)
        others = ranks(process)
        assert len(others) == 2
        number = {"first rank": others[0].pid, "last rank": others[-1].pid}.get(victim, process.pid)
        others = psutil.Process(process.pid).children(recursive=True)
        os.kill(number, signal.SIGKILL)
        _, alive = psutil.wait_procs(others, timeout=10)
        assert alive == [], "ten seconds later"
        process.stdout.close()
        assert process.wait(timeout=60) != 0
    finally:
        for left in [*others, process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()
    assert not verify_storage(tmp_path).damaged


@pytest.mark.slow
def test_a_study_whose_steps_do_not_split_is_refused_before_anything_is_spent(tmp_path) -> None:
    command = ["helpers", "train", "--study", "samples", "--preset", "smoke", "--storage", str(tmp_path)]
    run = find_preset("samples", "smoke").grid[0].run_id
    process = launch(2, *command, "--run", run)
    said, _ = process.communicate(timeout=300)
    assert process.returncode != 0
    assert said.count("2 processes are not possible: a run of study 'samples' trains in one") == 1
    assert not (tmp_path / "runs").exists() and not (tmp_path / "cache").exists()


def test_processes_are_those_that_were_asked_for() -> None:
    two = apply_overrides(CONFIG, ["execution.processes=2"])
    assert [must_launch(two, Place(count=count)) for count in (1, 2)] == [True, False]
    assert not must_launch(CONFIG, Place(count=3)) and not must_launch(CONFIG, Place())
    with pytest.raises(ValueError, match="but 3 were launched"):
        must_launch(two, Place(count=3))


def test_events_are_the_same_in_another_process() -> None:
    for event in (Logged(step=1, num_steps=2, tokens=3, loss=4.5, lr=0.1, grad_norm=float("nan"), tokens_per_s=1.0,
                         memory_bytes=5), Finished(run_id="run", path=Path("/a b/c"))):  # fmt: skip
        assert repr(from_line(to_line(event))) == repr(event)
    assert from_line("step 5/40") is None and from_line('{"event": "Stolen"}') is None


def test_steps_that_split_are_those_of_windows() -> None:
    assert {study.name: study.recipe().splits for study in STUDIES} == {
        "ergodic": True, "activation": True, "length": False, "samples": False,
    }  # fmt: skip


def test_the_shares_of_a_step_sum_to_its_update(tmp_path, monkeypatch) -> None:
    """Three processes by turns in one: their gradients and losses are those of the whole batch."""
    run = prepare(CONFIG, Storage.at(tmp_path))
    seen = []

    def state_after_step(rank: int, count: int):
        monkeypatch.setattr(together, "rank", lambda: rank)
        monkeypatch.setattr(together, "num_processes", lambda: count)
        accelerator = make_accelerator(CONFIG, run.storage, torch.device("cpu"), "fp32")
        state = window_state(run, accelerator)
        state.step = run.num_steps - 1  # of two windows: the third process has none
        monkeypatch.setattr("helpers.training.state.sum_gradients", lambda parameters, loss: seen.append(
            [loss.clone(), *(torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters)]
        ))  # fmt: skip
        window_step(run, state)
        return seen.pop()

    whole = state_after_step(0, 1)
    shares = [state_after_step(rank, 3) for rank in range(3)]
    assert not any(part.any() for part in shares[2])
    for number, part in enumerate(whole):
        torch.testing.assert_close(sum(share[number] for share in shares), part, rtol=1e-4, atol=1e-7)


def test_places_are_those_of_torchrun_and_what_is_left_over_is_refused(monkeypatch) -> None:
    variables = {
        "WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500",
        "TORCHELASTIC_RUN_ID": "none",
    }  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert own_place() == Place(rank=3, local_rank=1, count=4)
    with pytest.raises(ValueError, match="4 processes were launched, but a grid is one"):
        require_one_process("a grid is one")
    for name in ("TORCHELASTIC_RUN_ID", "MASTER_PORT"):
        with monkeypatch.context() as patch:
            patch.delenv(name)
            with pytest.raises(ValueError, match=r"WORLD_SIZE = '4' is in the environment.*unset WORLD_SIZE"):
                own_place()
