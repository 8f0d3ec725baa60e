"""Engines: what is refused, which run sees which GPU, and each of them at work with real processes and real kernels."""

import importlib.util
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from helpers.config import to_json
from helpers.grid import notebook_job
from helpers.grid.engines import INSTALLS, EngineOptions
from helpers.grid.engines.local import LocalEngine
from helpers.grid.notebook_job import Child, Job
from helpers.grid.runner import run_grid
from helpers.repository import ROOT
from helpers.runs.config_file import config_path
from helpers.seals import publish_sealed
from helpers.storage import Storage
from tests.grid.test_grid import smoke_runs, stand_in_notebook, wait_until

NEEDS = {"ray": "ray", "slurm": "submitit"}
CLUSTERS = {
    "ray": EngineOptions(engine="ray", workers=2),
    "slurm": EngineOptions(engine="slurm", workers=2, slurm=("cluster=local",)),
}


@pytest.fixture(autouse=True)
def stand_ins_may_be_executed(tmp_path, monkeypatch):
    monkeypatch.setattr(notebook_job, "NOTEBOOK_FOLDERS", (*notebook_job.NOTEBOOK_FOLDERS, tmp_path.resolve()))


def installed(engine: str) -> None:
    pytest.importorskip(NEEDS[engine], reason=f"pip install {INSTALLS[engine]}, as `make test-slow` does")


def job_of(notebook: Path, storage: Storage, name: str = "a-run") -> Job:
    parameters = {"RUN": name, "STORAGE": str(storage.root), "INTERACTIVE": False}
    return Job(name=name, notebook=notebook, parameters=parameters, storage=storage)


# What is refused


@pytest.mark.parametrize("engine", INSTALLS)
def test_what_is_not_installed_is_named_with_the_command_that_installs_it(engine, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=f"pip install {re.escape(INSTALLS[engine])}"):
        EngineOptions(engine=engine).open(report=print)


def test_what_an_engine_needs_is_what_is_tested():
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    for install in INSTALLS.values():
        assert install in pinned and install in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "slurm, message",
    [
        ((), "there is no srun here; use --engine local"),
        (("cluster=debug",), "use cluster=slurm or cluster=local"),
        (("partition",), "use NAME=VALUE, such as partition=gpu"),
    ],
)
def test_a_slurm_that_is_not_there_is_refused(slurm, message, monkeypatch):
    installed("slurm")
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(ValueError, match=message):
        EngineOptions(engine="slurm", slurm=slurm).open(report=print)


def test_a_parameter_that_submitit_does_not_know_is_refused(tmp_path, storage):
    installed("slurm")
    options = EngineOptions(engine="slurm", slurm=("cluster=local", "partitoin=gpu"))
    with pytest.raises(ValueError, match="--slurm: Unknown argument 'partitoin'"):
        options.open(report=print).start([job_of(stand_in_notebook(tmp_path), storage)])


# GPUs


def test_a_run_a_gpu_and_threads_shared_out(tmp_path, storage, monkeypatch):
    monkeypatch.setattr("helpers.grid.engines.local.visible_gpus", lambda: ["GPU-a", "GPU-b", "GPU-c", "GPU-d"])
    monkeypatch.setattr("helpers.grid.engines.local.num_cores", lambda: 9)
    notebook, given = stand_in_notebook(tmp_path), []

    def start(job, environment, own_session):
        given.append((environment["CUDA_VISIBLE_DEVICES"], environment["OMP_NUM_THREADS"]))
        return Child(job=job, process=subprocess.Popen(["true"]), sockets="")

    monkeypatch.setattr(Child, "start", start)

    def shares(**options) -> list[tuple[str, str]]:
        given.clear()
        engine = LocalEngine(EngineOptions(**options), report=lambda line: None)
        engine.start([job_of(notebook, storage, f"run-{number}") for number in range(engine.at_once)])
        engine.stop()
        return list(given)

    assert shares() == [("GPU-a", "2"), ("GPU-b", "2"), ("GPU-c", "2"), ("GPU-d", "2")]
    assert shares(workers=2) == [("GPU-a", "4"), ("GPU-b", "4")]
    assert shares(gpus=2) == [("GPU-a,GPU-b", "4"), ("GPU-c,GPU-d", "4")]
    assert shares(gpus=0, threads=3) == [("", "3")]
    assert [gpus for gpus, _ in shares(workers=5)] == ["GPU-a", "GPU-b", "GPU-c", "GPU-d", "GPU-a"]
    with pytest.raises(ValueError, match="gpus = 5 is not possible: this machine shows 4"):
        shares(gpus=5)


# At work


@pytest.mark.slow
def test_a_child_that_starts_too_early_waits_for_the_run(tmp_path, storage):
    """Until the process that has the run, on its way out, lets go of its lock."""
    notebook = stand_in_notebook(tmp_path, "(storage.root / 'began').touch()")
    (config,) = smoke_runs(0)
    holder = subprocess.Popen(
        [sys.executable, "-c", "import sys, time; from pathlib import Path; from helpers.locks import exclusive\n"
         "with exclusive(Path(sys.argv[1]), 'a run'):\n    print('has it', flush=True); time.sleep(600)",
         str(storage.lock(config.run_id))], cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout.readline() == "has it\n"
    child = Child.start(job_of(notebook, storage, config.run_id), {})
    time.sleep(8)
    assert child.process.poll() is None and not (storage.root / "began").exists()
    holder.kill()
    child.finish()  # the stand-in finds no config: what counts is that it was executed after the wait
    assert "nothing planned" not in (child.job.folder / "child.log").read_text()
    holder.wait()


@pytest.mark.slow
@pytest.mark.parametrize("engine", CLUSTERS)
def test_a_cluster_executes_two_runs_at_once(engine, tmp_path, storage):
    installed(engine)
    notebook = stand_in_notebook(
        tmp_path,
        """
(storage.root / f"here-{SEED}").touch()
deadline = time.monotonic() + 120
while not (storage.root / f"here-{1 - SEED}").exists():
    assert time.monotonic() < deadline, "the other run did not start"
    time.sleep(0.05)
assert os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == os.environ["RAYON_NUM_THREADS"] == "1"
assert os.environ.get("CUDA_VISIBLE_DEVICES") == "", os.environ.get("CUDA_VISIBLE_DEVICES")
finish()
""",
        "if SEED == 1: raise RuntimeError('after the result')",
    )
    lines = []
    report = run_grid(smoke_runs(0, 1), storage, notebook=notebook, engine=CLUSTERS[engine], report=lines.append)
    assert report.complete, f"{report}\n{lines}"  # done is the result file, whatever came after it
    assert [outcome.reason for outcome in report.outcomes] == ["", "RuntimeError: after the result"]


@pytest.mark.slow
def test_ray_refuses_what_it_can_never_give(tmp_path, storage):
    installed("ray")
    options = EngineOptions(engine="ray", threads=10_000)
    with pytest.raises(ValueError, match=r"each run asks for 10000 CPU, 0 GPU, but no machine .*nothing was submitted"):
        run_grid(smoke_runs(0), storage, notebook=stand_in_notebook(tmp_path), engine=options, report=print)
    with pytest.raises(ValueError, match="ray_address = 'auto' cannot be reached"):
        EngineOptions(engine="ray", ray_address="auto").open(report=print)


@pytest.mark.slow
def test_slurm_goes_on_after_a_pre_emption_and_resubmits_what_was_cancelled(tmp_path, storage):
    installed("slurm")
    notebook = stand_in_notebook(
        tmp_path,
        """
number = len(list(storage.root.glob("life-*")))
(storage.root / f"life-{number}").touch()
if number < 2: time.sleep(600)
finish()
""",
    )
    (config,) = smoke_runs(0)
    publish_sealed(config_path(storage, config.run_id), {"config": to_json(config)})
    lines: list[str] = []
    engine = CLUSTERS["slurm"].open(lines.append)
    try:
        engine.start([job_of(notebook, storage, config.run_id)])
        (controller,) = psutil.Process().children()
        wait_until((storage.root / "life-0").exists, 180)
        (work,) = controller.children()
        work.send_signal(signal.SIGUSR2)  # as Slurm sends it before it takes the machine away
        wait_until((storage.root / "life-1").exists, 180)
        assert len(lines) == 1 and controller.is_running()  # requeued, not submitted again
        controller.kill()
        ended, deadline = [], time.monotonic() + 240
        while not ended and time.monotonic() < deadline:
            ended = engine.wait(1.0)
        assert [(job.name, reason) for job, reason in ended] == [(config.run_id, None)]
        assert storage.result(config.run_id).exists() and "ended without an answer" in lines[1]
        assert sum(line.startswith("submitted 1 job") for line in lines) == 2
    finally:
        engine.stop()


def test_a_driver_that_is_started_again_waits_for_the_jobs_that_slurm_still_has(tmp_path, storage, monkeypatch):
    """With a stand-in of the cluster: what sacct says, and an executor that notes what is submitted."""
    installed("slurm")
    import submitit

    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    told: list[str] = []
    engine = EngineOptions(engine="slurm").open(told.append)
    notebook = stand_in_notebook(tmp_path)
    jobs = [job_of(notebook, storage, name) for name in ("runs-on", "is-gone", "is-new")]
    (storage.scratch / "slurm").mkdir()
    for number, job in enumerate(jobs[:2]):
        (storage.scratch / "slurm" / f"{job.name}.job").write_text(f"77_{number}")
    states = {"77_0": "RUNNING", "77_1": "CANCELLED"}
    monkeypatch.setattr(submitit.SlurmJob, "state", property(lambda job: states[job.job_id]))
    submitted: list[str] = []
    monkeypatch.setattr(engine, "_submit", lambda jobs: submitted.extend(job.name for job in jobs))
    engine.start(jobs)
    assert submitted == ["is-gone", "is-new"]
    assert [job.name for job in engine._submitted.values()] == ["runs-on"]
    assert told == ["1 jobs of an earlier call are still in Slurm: they are waited for"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "victims"),
    [("local", ["child", "kernel", "driver"]), ("ray", ["worker", "driver"]), ("slurm", ["worker", "driver"])],
)
def test_a_grid_whose_processes_are_killed_ends_with_the_same_bits_and_leaves_none(engine, victims):
    """One after another. It fails unless all ends are equal and nothing is left running; child and kernel are the same
    on every engine."""
    if engine in NEEDS:
        installed(engine)
    words = ["--rounds", "1", "--runs", "2", "--engines", engine, "--victims", *victims]
    soak = subprocess.run(
        [sys.executable, "-m", "benchmarks.soak", *words], cwd=ROOT, capture_output=True, text=True, timeout=1800
    )
    assert soak.returncode == 0, soak.stderr
    assert f"1 rounds, {len(victims)} kills, 1 identical ends" in soak.stdout
