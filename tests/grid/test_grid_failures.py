"""The real grid (`python -m helpers grid`, the real notebook, real kernels) while runs are made to fail from outside.

Faults come from a `sitecustomize` in a folder that only these tests put on PYTHONPATH: it runs in every kernel before
anything else, finds out by its parent which run the kernel is for, and spoils that run alone.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers.config import RunConfig
from helpers.grid.shard import Shard
from helpers.repository import ROOT
from helpers.storage import Storage
from helpers.studies import find_preset

pytestmark = pytest.mark.slow

OVERRIDES = (
    "train.steps=12", "train.warmup_steps=1", "train.batch_size=4", "eval.windows_per_component=2",
    "data.synthetic.papers_per_component=4", "data.synthetic.paper_tokens=300", "execution.log_every_steps=2",
    "execution.checkpoint_every_minutes=0", "execution.device=cpu",
)  # fmt: skip
SECRET = "hf_never_written_down"

SITE = '''
import dataclasses, importlib.util, json, os, pathlib, signal, sys
import psutil

HOOKED = "helpers.training.state"


def fault_of_this_kernel():
    words = " ".join(psutil.Process().parent().cmdline())
    for run_id, fault in json.loads(os.environ["FAULTS"]).items():
        if f"/{run_id}/job.json" in words:
            return fault


class Spoiler:
    """Wraps window_step when its module is imported."""

    def __init__(self, spoil):
        self.spoil = spoil

    def find_spec(self, name, path=None, target=None):
        if name != HOOKED:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            step = module.window_step
            module.window_step = lambda run, state: self.spoil(state, step(run, state))

        spec.loader.exec_module = exec_module
        return spec


def nan(state, stepped):
    return dataclasses.replace(stepped, loss=stepped.loss * float("nan")) if state.step >= 6 else stepped


def kill(state, stepped):
    if state.step >= 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return stepped


def damage_reads():
    read = pathlib.Path.read_bytes
    pathlib.Path.read_bytes = lambda path: read(path)[:-1] + b"?" if path.name == "index.parquet" else read(path)


fault = fault_of_this_kernel()
if fault == "corrupt":
    damage_reads()
elif fault:
    sys.meta_path.insert(0, Spoiler({"nan": nan, "kill": kill}[fault]))
'''


def command(storage: Storage, *more: str) -> list[str]:
    words = [sys.executable, "-m", "helpers", "grid", "--preset", "smoke", "--storage", str(storage.root)]
    return [*words, *(f"--set={override}" for override in OVERRIDES), *more]


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"TOKEN_OF_SOMEONE": SECRET, "OMP_NUM_THREADS": "1"} | more


def planned() -> dict[tuple[int, int], RunConfig]:
    preset = find_preset("ergodic", "smoke", overrides=OVERRIDES)
    return {(k, seed): preset.at(k=k, seed=seed) for k in preset.axes["k"] for seed in preset.axes["seed"]}


def results(storage: Storage) -> dict[str, tuple[bytes, int]]:
    """Content and time of each result file."""
    return {path.stem: (path.read_bytes(), path.stat().st_mtime_ns) for path in storage.results().glob("*.jsonl")}


def row_of(output: str, run_id: str) -> str:
    return [line for line in output.splitlines() if line.startswith(run_id)][-1]


def test_three_of_five_runs_fail_and_only_they_are_run_again(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SITE)
    runs = planned()
    assert len(runs) == 5
    faults = {runs[1, 0].run_id: "nan", runs[4, 0].run_id: "kill", runs[11, 0].run_id: "corrupt"}
    spoiled = environment(PYTHONPATH=str(tmp_path / "site"), FAULTS=json.dumps(faults))
    first = subprocess.run(command(storage, "--workers", "2"), cwd=ROOT, env=spoiled, capture_output=True, text=True)
    assert first.returncode == 1, first.stderr
    assert "2 done, 3 failed, 0 left; the same call again goes on" in first.stdout
    after_first = results(storage)
    assert after_first.keys() == {run.run_id for run in runs.values()} - faults.keys()
    reasons = {run_id: row_of(first.stdout, run_id) for run_id in faults}
    assert (
        "TrainingFailed: " in reasons[runs[1, 0].run_id]
        and "diverged at step 8: loss nan" in reasons[runs[1, 0].run_id]
    )
    assert "checkpoint of step 6 kept" in reasons[runs[1, 0].run_id]
    assert "the kernel died while a cell was running" in reasons[runs[4, 0].run_id]
    assert "checkpoint of step 6 kept" in reasons[runs[4, 0].run_id]
    assert "index.parquet is damaged: its SHA-256 is not the manifest's" in reasons[runs[11, 0].run_id]
    assert all(" failed " in reason for reason in reasons.values())

    second = subprocess.run(
        command(storage, "--workers", "2"), cwd=ROOT, env=environment(), capture_output=True, text=True
    )
    assert second.returncode == 0, second.stderr
    assert "2 of 5 runs are done already" in second.stdout
    started = {line.split()[1] for line in second.stdout.splitlines() if line.startswith("start ")}
    assert started == faults.keys()
    assert "the whole grid: 5 done, 0 failed, 0 left" in second.stdout
    after_second = results(storage)
    assert after_second.keys() == {run.run_id for run in runs.values()}
    assert {run_id: after_second[run_id] for run_id in after_first} == after_first

    files = [path for path in storage.root.rglob("*") if path.is_file()]
    assert any(path.suffix == ".ipynb" for path in files)
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


def heed_interrupts() -> None:
    """What a shell starts in the background ignores them, the tests and all their children included."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_an_interrupted_grid_leaves_its_runs_and_goes_on(storage: Storage) -> None:
    """Ctrl-C during the training of the first run; then a time budget that is over at once; then to the end."""
    words = command(storage, "--shard", "1/3", "--set=train.steps=3000", "--set=execution.snapshot_every_steps=10000")
    preset = find_preset("ergodic", "smoke", overrides=[*OVERRIDES, "train.steps=3000"])
    runs = [preset.at(k=k, seed=seed) for k in preset.axes["k"] for seed in preset.axes["seed"]]
    first, second = (run.run_id for run in Shard.parse("1/3").of(runs))
    process = subprocess.Popen(
        words, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
    )
    deadline = time.monotonic() + 90
    while not storage.checkpoint_steps(first):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "stopping; checkpoints are kept" in output
    assert "shard 1/3: 0 done, 0 failed, 2 left" in output
    step = storage.checkpoint_steps(first)[0]
    assert f"checkpoint of step {step:,} kept" in row_of(output, first) and "no checkpoint yet" in row_of(
        output, second
    )

    ended = subprocess.run([*words, "--set=execution.max_minutes=0.0001", "--workers", "2"],
                           cwd=ROOT, env=environment(), capture_output=True, text=True)  # fmt: skip
    assert ended.returncode == 1
    assert "0 done, 0 failed, 2 left" in ended.stdout
    assert "after execution.max_minutes = 0.0001" in row_of(ended.stdout, first)
    assert storage.checkpoint_steps(first)[0] > step
