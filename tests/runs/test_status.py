"""What the storage says of a grid: every status made as a run, a grid or a kill would leave it."""

import dataclasses
import fcntl
import json
import os
import time

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from helpers import locks
from helpers.__main__ import main
from helpers.grid import notebook_job
from helpers.locks import exclusive, is_held
from helpers.runs.metrics import metrics_path
from helpers.runs.status import FAILURE, notebook_error, run_status
from helpers.seals import sealed_lines
from helpers.storage import Storage, publish_text
from helpers.studies import find_preset
from helpers.studies.ergodic.results import load_results
from helpers.studies.ergodic.roles import Comparisons
from helpers.studies.run_preset import known_runs, status_of
from tests.simulated_results import flat_curves, write_run


@pytest.fixture
def config():
    """320,000 training tokens."""
    return find_preset("ergodic", "smoke").at(k=4, seed=0)


def write_metrics(storage: Storage, config, step: int) -> None:
    rows = [{"run_id": config.run_id, "step": at, "tokens": 1600 * at, "loss": 3.0} for at in (step // 2, step)]
    publish_text(metrics_path(storage, config.run_id), sealed_lines(rows))


def write_notebook(storage: Storage, config, outputs: list[dict], metadata: dict | None = None) -> None:
    notebook = {"cells": [{"outputs": outputs}, {"source": "# no outputs"}], "metadata": metadata or {}}
    publish_text(storage.notebook(config.run_id), json.dumps(notebook))


def error(name: str, value: str) -> dict:
    return {"output_type": "error", "ename": name, "evalue": value, "traceback": []}


def test_a_run_without_files_is_missing_and_new(config, storage):
    status = run_status(config, storage)
    assert (status.status, str(status)) == ("missing", "missing")


def test_a_run_that_was_left_is_missing_and_tells_how_far_it_is(config, storage):
    write_metrics(storage, config, 90)
    status = run_status(config, storage)
    assert (status.status, status.step, str(status)) == ("begun", 90, "begun 45 %")


def test_where_the_papers_tell_the_length_only_the_step_is_known(config, storage):
    data = dataclasses.replace(config.data, sampling="epoch")
    train = dataclasses.replace(config.train, steps=None, epochs=2.0)
    config = dataclasses.replace(config, data=data, train=train)
    write_metrics(storage, config, 90)
    assert str(run_status(config, storage)) == "begun step 90"


def test_a_run_whose_lock_is_held_is_running(config, storage):
    write_metrics(storage, config, 50)
    with exclusive(storage.lock(config.run_id), "run"):
        assert str(run_status(config, storage)) == "running 25 %"
    assert run_status(config, storage).status == "begun"


def test_on_a_storage_that_machines_share_fresh_files_are_taken_for_a_run(config, tmp_path):
    storage = Storage.at(tmp_path / "drive", tmp_path / "scratch")
    write_metrics(storage, config, 50)
    assert run_status(config, storage).status == "running"
    hour_ago = time.time() - 3600
    os.utime(metrics_path(storage, config.run_id), (hour_ago, hour_ago))
    assert run_status(config, storage).status == "begun"
    publish_text(storage.run(config.run_id) / "config.json", "{}")  # planned again, and not begun by anyone
    assert run_status(config, storage).status == "begun"


def test_a_whole_result_is_done_and_a_cut_one_is_not(config, storage):
    write_run(storage, config, flat_curves({"c1": 3.0, "c2": 3.5}))
    status = run_status(config, storage)
    assert (status.status, str(status)) == ("done", "done 3.2500")
    path = storage.result(config.run_id)
    path.write_bytes(path.read_bytes()[:-20])
    assert run_status(config, storage).status == "missing"


def test_a_result_of_another_run_is_not_counted(config, storage):
    other = dataclasses.replace(config, seed=1)
    write_run(storage, other, flat_curves({"c1": 3.0}))
    storage.result(other.run_id).rename(storage.result(config.run_id))
    assert run_status(config, storage).status == "missing"


def test_an_executed_notebook_that_ended_in_an_error_is_a_failure(config, storage):
    write_metrics(storage, config, 100)
    write_notebook(storage, config, [{"output_type": "stream"}, error("TrainingFailed", "diverged at\n step 100")])
    status = run_status(config, storage)
    assert (status.status, str(status), status.reason) == (
        "failed",
        "failed 50 %",
        "TrainingFailed: diverged at step 100",
    )


@pytest.mark.parametrize("key", [FAILURE, "kernel_died"])  # as earlier versions wrote it
def test_a_kernel_that_died_is_a_failure(config, storage, key):
    write_notebook(storage, config, [], {key: "the kernel died"})
    assert run_status(config, storage).reason == "the kernel died"


@pytest.mark.parametrize("name", ["TimeIsUp", "KeyboardInterrupt"])
def test_a_run_that_was_stopped_has_not_failed(config, storage, name):
    write_notebook(storage, config, [error(name, "stopped")])
    assert run_status(config, storage).status == "missing"


def test_a_failure_is_forgotten_once_the_run_was_begun_again(config, storage):
    write_notebook(storage, config, [error("ValueError", "bad")])
    assert run_status(config, storage).status == "failed"
    os.utime(storage.notebook(config.run_id), (1000, 1000))
    write_metrics(storage, config, 50)
    assert str(run_status(config, storage)) == "begun 25 %"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"cells": [1]}', '{"cells": [{"outputs": [{}]}]}'])
def test_a_notebook_that_cannot_be_read_tells_nothing(tmp_path, text):
    path = tmp_path / "n.ipynb"
    path.write_text(text)
    assert notebook_error(path) == ""
    assert notebook_error(tmp_path / "none.ipynb") == ""


def test_looking_at_a_lock_takes_it_from_no_one(tmp_path, monkeypatch):
    path = tmp_path / "lock"
    assert not is_held(path) and not path.exists()
    with exclusive(path, "run"):
        assert is_held(path) and is_held(path)
    assert not is_held(path)
    with open(path) as glance:
        fcntl.flock(glance, fcntl.LOCK_SH)  # as a process does that is looking at this very moment
        monkeypatch.setattr(locks.time, "sleep", lambda _seconds: fcntl.flock(glance, fcntl.LOCK_UN))
        with exclusive(path, "run"):
            assert is_held(path)


def test_the_grid_is_a_table_of_k_and_seed_with_the_others_counted(storage):
    preset = dataclasses.replace(
        find_preset("ergodic", "smoke"),
        axes={"k": (1, 2, 4, 8, 11), "seed": (0, 1, 2)},
        companions=Comparisons(baselines=True, shuffle_control=True),
    )
    status = status_of(preset, storage)
    assert status.axes == ("k",) and status.headers == ["K"] and status.seeds == [0, 1, 2]
    assert list(status.rows) == [("1",), ("2",), ("4",), ("8",), ("11",)]
    assert status.counts() == [
        f"{role}: {n} missing (of {n})" for role, n in (("grid", 15), ("baseline", 30), ("control", 15))
    ]
    assert not status.is_complete


def test_named_components_are_a_baseline_at_k_1_alone(storage):
    """To plan, board and analysis alike: there is one place that tells."""
    named = ["data.components=hmm03,hmm05", "k=2"]
    status = status_of(find_preset("ergodic", "smoke", overrides=named), storage)
    assert list(status.rows) == [("2",)] and status.counts() == ["grid: 1 missing (of 1)"]
    (config,) = find_preset("ergodic", "smoke", overrides=named).runs(None)
    write_run(storage, config, flat_curves({"hmm03": 3.0, "hmm05": 3.1}))
    assert load_results(storage).runs["role"].tolist() == ["grid"]


def test_a_row_is_named_by_everything_that_varies(storage):
    by_study = {}
    for study, name in (("activation", "cpu"), ("activation", "lr_sweep"), ("ergodic", "size")):
        status = status_of(find_preset(study, name), storage)
        by_study[name] = status.axes
        cells = sum(len(row) for row in status.rows.values())
        assert cells == status.roles.count("grid")  # no two runs share a cell
    assert by_study["cpu"] == ("model.size", "model.activation")
    assert by_study["lr_sweep"] == ("model.size", "model.activation", "train.peak_lr")
    assert by_study["size"] == ("model.size", "k")


def test_the_table_shows_every_status_and_why_a_run_failed(storage):
    preset = find_preset("ergodic", "smoke")
    runs = known_runs(preset, storage)
    write_run(storage, runs[0], flat_curves({"c1": 3.0}))
    write_metrics(storage, runs[1], 60)
    write_notebook(storage, runs[2], [error("ValueError", "bad")])
    with exclusive(storage.lock(runs[3].run_id), "run"):
        lines = str(status_of(preset, storage)).splitlines()
    assert [line.split(maxsplit=1) for line in lines[1:6]] == [
        ["1", "done 3.0000"], ["2", "begun 30 %"], ["4", "failed"], ["8", "running"], ["11", "missing"]
    ]  # fmt: skip
    assert [" ".join(line.split()) for line in lines[7:]] == [
        "grid: 1 done, 1 running, 1 failed, 1 begun, 1 missing (of 5)",
        f"failed {runs[2].run_id}: ValueError: bad",
        "",
        "running step loss tokens/s time left",
        f"{runs[3].run_id} begins",
        "time left for all, 1 at a time: not known before a run has logged",
    ]


def test_the_command_shows_the_table(storage, capsys):
    where = ["status", "--preset", "smoke", "--storage", str(storage.root)]
    assert main(where) == 0
    assert "grid: 5 missing (of 5)" in capsys.readouterr().out
    assert main([*where, "--interval", "0"]) == 2
    assert "interval = 0 is not possible" in capsys.readouterr().err


def test_a_loop_looks_again_until_every_run_is_done(storage, capsys, monkeypatch):
    runs = known_runs(find_preset("ergodic", "smoke"), storage)
    waits = []

    def finish_one(seconds: float) -> None:
        waits.append(seconds)
        write_run(storage, runs[len(waits) - 1], flat_curves({"c1": 3.0}))

    monkeypatch.setattr(time, "sleep", finish_one)
    assert main(["status", "--preset", "smoke", "--storage", str(storage.root), "--loop", "--interval", "7"]) == 0
    assert waits == [7.0] * 5
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if line.startswith("grid:")][-1] == "grid: 5 done (of 5)"


@pytest.mark.slow
def test_a_kernel_that_dies_in_a_grid_is_recorded_in_its_notebook(config, storage, tmp_path, monkeypatch):
    monkeypatch.setattr(notebook_job, "NOTEBOOK_FOLDERS", (tmp_path.resolve(),))
    notebook = new_notebook(cells=[new_code_cell("import os\nos._exit(9)")])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, tmp_path / "dies.ipynb")
    job = notebook_job.Job(name=config.run_id, notebook=tmp_path / "dies.ipynb", parameters={}, storage=storage)
    reason = notebook_job.execute(job, {})
    assert "the kernel died" in reason
    assert run_status(config, storage).reason == reason
