"""Presets, plan and runner: counts and totals by hand, and a stand-in notebook that fails in every way there is."""

import dataclasses
import os
import threading
import time
from collections import Counter
from pathlib import Path

import nbformat
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_notebook

from helpers.config import ARXIV_COMPONENTS, RunConfig
from helpers.data.fetch_arxiv import cache_id, ensure_cache
from helpers.evaluation.result_file import Result, write_result
from helpers.grid.notebook_job import ROOT, Children, Job
from helpers.grid.parameters import check_parameters, overrides_between, run_parameters
from helpers.grid.plan import plan_grid
from helpers.grid.runner import run_grid
from helpers.grid.state import run_state
from helpers.grid.text import aligned, count, duration, size
from helpers.models.shapes import SHAPES
from helpers.overrides import apply_overrides
from helpers.storage import Storage
from helpers.studies import find_preset, find_study, known_components
from helpers.studies.grid import run_preset
from helpers.studies.preset import ComponentsUnknown, grid_runs

PARAMETERS = """
PRESET: str = ""
K: int = 1
SEED: int = 0
SOURCE: str = ""
TOKENIZER: str = ""
STORAGE: str = ""
OVERRIDES: str = ""
RUN_GRID: bool = False
INTERACTIVE: bool = True
"""
# What the real notebook does with its parameters, ending in a result file instead of a training.
STAND_IN = """
import os, shlex, signal, time
from pathlib import Path
from helpers.data.fetch_arxiv import cache_id
from helpers.evaluation.result_file import Result, write_result
from helpers.models.shapes import SHAPES
from helpers.storage import Storage
from helpers.studies import find_preset
storage = Storage.at(STORAGE)
config = find_preset("ergodic", PRESET, SOURCE, TOKENIZER, shlex.split(OVERRIDES)).run(K, SEED)
def finish():
    provenance = {"cache_id": cache_id(config.data)}
    run = {"kind": "run", "schema": 1, "run_id": config.run_id, "study": "ergodic", "config": {}}
    run["provenance"] = provenance
    write_result(storage.result(config.run_id), Result(run, [], [{"kind": "summary", "step": 1, "xe": 1.5}]))
"""


def stand_in_notebook(folder: Path, *cells: str) -> Path:
    notebook = new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    )
    parameters = new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    notebook.cells = [parameters, *map(new_code_cell, (STAND_IN, *cells))]
    nbformat.write(notebook, folder / "stand_in.ipynb")
    return folder / "stand_in.ipynb"


def smoke_runs(*seeds: int, k: int = 1) -> list[RunConfig]:
    return [find_preset("ergodic", "smoke").run(k, seed) for seed in seeds]


def run_stand_in(notebook: Path, configs: list[RunConfig], storage: Storage, **settings):
    base, lines = find_preset("ergodic", "smoke").config, []
    report = run_grid(configs, storage, notebook=notebook, preset="smoke", base=base, report=lines.append, **settings)
    return report, lines


# Presets


def test_paper_has_15_runs_30_baselines_and_15_controls():
    preset = find_preset("ergodic", "paper")
    runs = list(grid_runs(preset, known_components(preset.config.data)))
    roles = Counter(("control" if r.data.shuffle_labels else "baseline" if r.data.components else "grid") for r in runs)
    # 11 components at 3 seeds are 33 baselines; at each seed the K = 1 run of the grid is one of them already.
    assert roles == {"grid": 5 * 3, "baseline": 33 - 3, "control": 5 * 3}
    assert len({run.run_id for run in runs}) == len(runs)


def test_left_out_baselines_are_the_components_of_the_k1_runs():
    preset = find_preset("ergodic", "paper", overrides=["data.order=listed"])
    runs = grid_runs(preset, known_components(preset.config.data))
    named = Counter(run.data.components[0] for run in runs if run.data.components)
    assert named == {name: 3 for name in ARXIV_COMPONENTS[1:]}


def test_smallest_component_decides_only_with_sizes():
    preset = find_preset("ergodic", "paper", overrides=["data.order=smallest_first"])
    with pytest.raises(ComponentsUnknown, match="fetch"):
        list(grid_runs(preset, known_components(preset.config.data)))
    sizes = {name: 1000 - position for position, name in enumerate(ARXIV_COMPONENTS)}
    named = {run.data.components[0] for run in grid_runs(preset, sizes) if run.data.components}
    assert named == set(ARXIV_COMPONENTS[:-1])


def test_local_files_need_the_cache_for_baselines_only(tmp_path):
    paper = find_preset("ergodic", "paper", source=str(tmp_path))
    with pytest.raises(ComponentsUnknown, match="fetch"):
        list(grid_runs(paper, known_components(paper.config.data)))
    demo = find_preset("ergodic", "demo", source=str(tmp_path))
    assert len(list(grid_runs(demo, known_components(demo.config.data)))) == 10


def test_paper_note_states_the_arithmetic_of_its_config():
    preset = find_preset("ergodic", "paper")
    train, note = preset.config.train, preset.note
    tokens = train.steps * train.batch_size * preset.config.data.window_tokens
    assert tokens == 2_560_000_000 and "2.56 B" in note
    assert tokens / 100e6 == 25.6 and "25.6 epochs" in note
    assert round(tokens / 70_426_624) == 36 and "36 tokens a parameter" in note
    assert 12 * 100e6 / (train.batch_size * 100) == 46_875 and "46,875" in note


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("nothing", "demo"), "study = 'nothing' is unknown; the studies are ergodic"),
        (("ergodic", "nothing"), "the presets of ergodic are smoke, demo, quick, paper"),
        (("ergodic", "demo", "", "", ["train.stepz=5"]), "unknown field 'stepz'"),
        (("ergodic", "demo", "", "", ["k=5"]), "chosen by its own option"),
    ],
)
def test_unknown_names_are_errors_that_list_the_known(arguments, message):
    with pytest.raises(ValueError, match=message):
        find_preset(*arguments)


def test_a_local_source_is_named_from_the_root(tmp_path, monkeypatch):
    (tmp_path / "papers").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_preset("ergodic", "demo", source="papers").config.data.source == str(tmp_path / "papers")


# Plan


def test_plan_of_a_run_by_hand(tiny_config, storage):
    ensure_cache(tiny_config.data, storage)
    plan = plan_grid([tiny_config], storage, measure=lambda config, vocab_size: 1000.0)
    (run,) = plan.runs
    assert len(run.components) == 2
    assert run.steps == 5
    assert run.tokens == 5 * 8 * 100
    assert run.unique_tokens == 2 * 4 * 300
    assert run.repetition == 4000 / 2400
    # 32 symbols and BOS take one block of 128 rows in each embedding.
    d, layers = SHAPES["tiny"].d_model, SHAPES["tiny"].n_layer
    assert run.non_embedding == layers * (12 * d**2 + 13 * d) + 2 * d
    assert run.parameters == run.non_embedding + 2 * 128 * d
    assert run.flops == 4000 * (6 * (layers * 12 * d**2 + 128 * d) + 12 * layers * d * 100)
    assert run.seconds == 4.0
    # Two checkpoints of weights and two moments, and the one snapshot of a run this short, in float32.
    assert run.storage_bytes == run.parameters * 4 * (2 * 3 + 1)
    assert str(run.state) == "new"


def test_plan_totals_are_sums_over_runs(tiny_config, storage):
    cache = ensure_cache(tiny_config.data, storage)
    configs = [dataclasses.replace(tiny_config, k=k) for k in (1, 2, 3)]
    mark_done(storage, configs[0])
    plan = plan_grid(configs, storage, measure=lambda config, vocab_size: 1000.0)
    assert plan.total("tokens") == 3 * 4000
    assert plan.total("tokens", pending=True) == 2 * 4000
    assert plan.total("seconds") == 8.0
    cache_bytes = sum(file.stat().st_size for file in cache.folder.rglob("*") if file.is_file())
    assert plan.storage_bytes == cache_bytes + sum(run.storage_bytes for run in plan.runs)
    assert list(plan.frame()["state"]) == ["done", "new", "new"]
    assert "3 runs: 1 done, 2 to do" in str(plan)


def test_plan_before_the_cache_exists_builds_nothing(tiny_config, storage):
    plan = plan_grid([tiny_config], storage)
    assert plan.runs[0].tokens == 4000 and plan.runs[0].unique_tokens is None
    assert "after fetch" in str(plan)
    assert not (storage.root / "cache").exists()


def test_speed_is_measured_once_for_runs_of_one_shape(tiny_config, storage):
    ensure_cache(tiny_config.data, storage)
    measured = []
    configs = [dataclasses.replace(tiny_config, k=k, seed=seed) for k in (1, 2) for seed in (0, 1)]
    plan_grid(configs, storage, measure=lambda config, vocab_size: measured.append(config) or 1.0)
    assert len(measured) == 1


def test_a_begun_run_counts_only_what_is_left(tiny_config, storage):
    ensure_cache(tiny_config.data, storage)
    for step in (1, 4):
        (storage.checkpoints(tiny_config.run_id) / f"step_{step:09d}").mkdir(parents=True)
    (run,) = plan_grid([tiny_config], storage, measure=lambda config, vocab_size: 100.0).runs
    assert str(run.state) == "begun, step 4"
    assert run.seconds == pytest.approx(4000 / 100 * (1 / 5))


def test_runs_of_unequal_length_are_refused(tiny_config, storage):
    ensure_cache(tiny_config.data, storage)
    overrides = ["data.sampling=epoch", "train.steps=none", "train.epochs=20", "train.batch_size=8"]
    configs = [dataclasses.replace(apply_overrides(tiny_config, overrides), k=k) for k in (1, 2)]
    with pytest.raises(ValueError, match=r"train\.epochs .* data\.allocation=full"):
        plan_grid(configs, storage)


def test_a_damaged_result_is_not_done(tiny_config, storage):
    mark_done(storage, tiny_config)
    assert run_state(tiny_config, storage).state == "done"
    path = storage.result(tiny_config.run_id)
    path.write_bytes(path.read_bytes()[:-20])
    assert run_state(tiny_config, storage).state == "new"


def test_words_for_numbers():
    assert [count(n) for n in (950, 25_600, 2_560_000_000)] == ["950", "25.6 k", "2.56 B"]
    assert [size(n) for n in (512, 1536)] == ["512 B", "1.50 KiB"]
    assert [duration(s) for s in (12.4, 185, 7800)] == ["12 s", "3 min 5 s", "2 h 10 min"]
    assert aligned(["name", "n"], [["a", "1"], ["bcdef", "10"]]) == "name    n\na       1\nbcdef  10"


# Parameters


@given(
    k=st.integers(1, 11),
    seed=st.integers(0, 99),
    lr=st.floats(1e-8, 1.0),
    limit=st.none() | st.integers(1, 9),
    shuffle=st.booleans(),
    tokens=st.none() | st.integers(1, 10**12),
)
def test_overrides_rebuild_every_config(k, seed, lr, limit, shuffle, tokens):
    base = find_preset("ergodic", "demo").config
    data = dataclasses.replace(
        base.data, max_papers_per_component=limit, shuffle_labels=shuffle, components=ARXIV_COMPONENTS[:k]
    )
    train = dataclasses.replace(base.train, peak_lr=lr, tokens=tokens, steps=None if tokens else 7)
    config = dataclasses.replace(base, k=k, seed=seed, data=data, train=train)
    overrides = overrides_between(dataclasses.replace(base, k=k, data=data, seed=seed), config)
    rebuilt = apply_overrides(dataclasses.replace(base, k=k, data=data, seed=seed), overrides)
    assert rebuilt == config


def test_parameters_of_the_real_notebook_are_known_and_typed(storage):
    config = find_preset("ergodic", "paper").run(1, 2)
    notebook = ROOT / find_study("ergodic").NOTEBOOK
    parameters = run_parameters(config, config, "paper", storage)
    check_parameters(notebook, parameters)
    with pytest.raises(ValueError, match=r"parameter Q is unknown .* its parameters are PRESET"):
        check_parameters(notebook, parameters | {"Q": 1})
    with pytest.raises(ValueError, match=r"parameter K = '4' .* must be of type int"):
        check_parameters(notebook, parameters | {"K": "4"})


# Runner


def test_each_failure_is_named_and_stops_no_other_run(tmp_path, storage):
    notebook = stand_in_notebook(
        tmp_path,
        """
if SEED == 0: finish()
if SEED == 1: raise RuntimeError("the loss is NaN\\nat step 7")
if SEED == 2: os._exit(9)
if SEED == 3: pass
if SEED == 4: os.kill(os.getppid(), signal.SIGKILL); time.sleep(60)
""",
    )
    configs = smoke_runs(0, 1, 2, 3, 4)
    (storage.checkpoints(configs[1].run_id) / "step_000000006").mkdir(parents=True)
    report, lines = run_stand_in(notebook, configs, storage, workers=2)
    reasons = [outcome.reason for outcome in report.outcomes]
    assert [outcome.state for outcome in report.outcomes] == ["done"] + 4 * ["failed"]
    assert reasons[1] == "RuntimeError: the loss is NaN at step 7"
    assert "kernel died" in reasons[2]
    assert f"not with the result file {configs[3].run_id}.jsonl" in reasons[3]
    assert "SIGKILL" in reasons[4]
    assert report.outcomes[1].kept_step == 6 and "checkpoint of step 6 kept" in str(report)
    assert not report.complete and "1 done, 4 failed, 0 left" in str(report)
    assert sum("[5/5]" in line for line in lines) == 1
    assert storage.notebook(configs[1].run_id).exists()


def test_a_second_call_runs_only_what_is_not_done(tmp_path, storage):
    notebook = stand_in_notebook(tmp_path, "finish()")
    configs = smoke_runs(0, 1)
    mark_done(storage, configs[0])
    report, lines = run_stand_in(notebook, configs, storage)
    assert report.complete
    assert lines[0] == "1 of 2 runs are done already"
    assert not storage.notebook(configs[0].run_id).exists()
    begin = time.monotonic()
    report, _ = run_stand_in(notebook, configs, storage)
    assert report.complete and time.monotonic() - begin < 1


def test_two_kernels_run_at_once_over_ipc(tmp_path, storage):
    notebook = stand_in_notebook(
        tmp_path,
        """
from ipykernel.kernelapp import IPKernelApp
from helpers.grid.notebook_job import num_cores
assert IPKernelApp.instance().transport == "ipc"
(storage.root / f"here-{SEED}").touch()
deadline = time.monotonic() + 60
while not (storage.root / f"here-{1 - SEED}").exists():
    assert time.monotonic() < deadline, "the other run did not start"
    time.sleep(0.05)
assert os.environ["OMP_NUM_THREADS"] == str(max(1, num_cores() // 2))
finish()
""",
    )
    report, _ = run_stand_in(notebook, smoke_runs(0, 1), storage, workers=2)
    assert report.complete, str(report)


def test_the_notebook_gets_the_planned_config(tmp_path, storage):
    """Baselines and controls reach the notebook as overrides: it must arrive at the same run_id."""
    notebook = stand_in_notebook(tmp_path, "finish()")
    config = apply_overrides(smoke_runs(0)[0], ["data.components=hmm03", "data.shuffle_labels=true", "eval.seed=4"])
    report, _ = run_stand_in(notebook, [config], storage)
    assert report.complete, str(report)


def test_stopping_ends_the_child_and_its_kernel(tmp_path, storage):
    notebook = stand_in_notebook(tmp_path, "(storage.root / 'pid').write_text(str(os.getpid()))\ntime.sleep(600)")
    (config,) = smoke_runs(0)
    parameters = run_parameters(config, config, "smoke", storage)
    children, reasons = Children(), []
    job = Job(name="long", notebook=notebook, parameters=parameters, storage=storage)
    thread = threading.Thread(target=lambda: reasons.append(children.execute(job, 1)))
    thread.start()
    wait_until((storage.root / "pid").exists)
    children.stop()
    thread.join(timeout=30)
    assert reasons and reasons[0]
    kernel = int((storage.root / "pid").read_text() or 0)
    wait_until(lambda: not psutil.pid_exists(kernel))
    assert children.execute(job, 1) == "stopped"


def test_an_interrupt_reports_what_is_left(tmp_path, storage, monkeypatch):
    notebook = stand_in_notebook(tmp_path, "finish()")

    def interrupt(self, job, threads):
        raise KeyboardInterrupt

    monkeypatch.setattr(Children, "execute", interrupt)
    report, lines = run_stand_in(notebook, smoke_runs(0, 1), storage)
    assert [outcome.state for outcome in report.outcomes] == ["left", "left"]
    assert "stopping; checkpoints are kept" in lines
    assert "the same call again goes on" in str(report)


def test_no_worker_is_refused(tmp_path, storage):
    with pytest.raises(ValueError, match="workers = 0"):
        run_stand_in(stand_in_notebook(tmp_path), smoke_runs(0), storage, workers=0)


def test_the_real_notebook_trains_a_run_and_the_second_call_trains_nothing(storage):
    smoke = find_preset("ergodic", "smoke", overrides=["train.steps=6", "train.warmup_steps=1"])
    preset = dataclasses.replace(smoke, ks=(2,))
    lines = []
    report = run_preset("ergodic", "smoke", preset, storage, report=lines.append)
    assert report.complete, str(report)
    (outcome,) = report.outcomes
    executed = storage.notebook(outcome.config.run_id)
    assert executed.stat().st_size < 300_000
    before = storage.result(outcome.config.run_id).read_bytes(), os.stat(executed).st_mtime_ns
    assert run_preset("ergodic", "smoke", preset, storage, report=lines.append).complete
    assert (storage.result(outcome.config.run_id).read_bytes(), os.stat(executed).st_mtime_ns) == before


def mark_done(storage: Storage, config: RunConfig) -> None:
    provenance = {"cache_id": cache_id(config.data)}
    run = {"kind": "run", "schema": 1, "run_id": config.run_id, "study": "ergodic", "config": {}}
    run["provenance"] = provenance
    write_result(storage.result(config.run_id), Result(run, [], [{"kind": "summary", "step": 1, "xe": 1.5}]))


def wait_until(holds, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.05)
