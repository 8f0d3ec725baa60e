"""Presets, plan and runner: counts and totals by hand, and a stand-in notebook that fails in every way there is."""

import dataclasses
import json
import math
import random
import shutil
import time
from collections import Counter
from pathlib import Path

import nbformat
import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_notebook

from helpers.config import ARXIV_COMPONENTS, RunConfig, to_json
from helpers.data.cache_id import cache_id
from helpers.data.fetch_arxiv import ensure_cache
from helpers.grid import notebook_job
from helpers.grid.engines import EngineOptions
from helpers.grid.notebook_job import Job, parameter_names
from helpers.grid.plan import plan_grid
from helpers.grid.runner import run_grid
from helpers.grid.shard import Shard
from helpers.grid.space import RunSpace, needed_bytes, run_space
from helpers.grid.text import aligned, count, duration, size
from helpers.model_config import PythiaConfig
from helpers.models.families import count_parameters
from helpers.repository import ROOT
from helpers.runs.config_file import config_path, read_config
from helpers.runs.events import Saved
from helpers.runs.result_file import Result, write_result
from helpers.runs.status import run_status
from helpers.seals import publish_sealed
from helpers.settings import apply_overrides, replace_fields
from helpers.storage import Storage
from helpers.studies import STUDIES, find_preset, known_components
from helpers.studies.preset import ComponentsUnknown, Preset
from helpers.studies.run_preset import plan_preset, run_preset
from helpers.training.train_single_k import train_single_k
from tests.grid.fake_engine import use_fake

PARAMETERS = """
RUN: str = ""
STORAGE: str = ""
INTERACTIVE: bool = True
"""
# What the real notebook does with its parameters, ending in a result file instead of a training.
STAND_IN = """
import os, signal, time
from pathlib import Path
from helpers.data.cache_id import cache_id
from helpers.runs.config_file import read_config
from helpers.runs.result_file import Result, write_result
from helpers.storage import Storage
storage = Storage.at(STORAGE)
config = read_config(storage, RUN)
SEED = config.seed
def finish():
    run = {"kind": "run", "schema": 1, "run_id": config.run_id, "study": "ergodic", "config": {}}
    run["provenance"] = {"cache_id": cache_id(config.data)}
    summary = {"kind": "summary", "step": 1, "xe": 1.5}
    write_result(storage.result(config.run_id), Result(run=run, rows=[], summaries=[summary]))
"""


@pytest.fixture(autouse=True)
def stand_ins_may_be_executed(tmp_path, monkeypatch):
    monkeypatch.setattr(notebook_job, "NOTEBOOK_FOLDERS", (*notebook_job.NOTEBOOK_FOLDERS, tmp_path.resolve()))


def stand_in_notebook(folder: Path, *cells: str) -> Path:
    notebook = new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    )
    parameters = new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    notebook.cells = [parameters, *map(new_code_cell, (STAND_IN, *cells))]
    nbformat.write(notebook, folder / "stand_in.ipynb")
    return folder / "stand_in.ipynb"


def smoke_runs(*seeds: int, k: int = 1) -> list[RunConfig]:
    return [find_preset("ergodic", "smoke").at(k=k, seed=seed) for seed in seeds]


def run_stand_in(notebook: Path, configs: list[RunConfig], storage: Storage, **settings):
    lines = []
    report = run_grid(configs, storage, notebook=notebook, report=lines.append, **settings)
    return report, lines


# Presets


def test_paper_has_15_runs_30_baselines_and_15_controls():
    preset = find_preset("ergodic", "paper")
    runs = list(preset.runs(known_components(preset.config.data)))
    roles = Counter(("control" if r.data.shuffle_labels else "baseline" if r.data.components else "grid") for r in runs)
    # 11 components at 3 seeds are 33 baselines; at each seed the K = 1 run of the grid is one of them already.
    assert roles == {"grid": 5 * 3, "baseline": 33 - 3, "control": 5 * 3}
    assert len({run.run_id for run in runs}) == len(runs)


def test_size_has_every_run_with_every_size_and_a_set_size_alone(storage):
    preset = find_preset("ergodic", "size")
    runs = list(preset.runs(known_components(preset.config.data)))
    assert Counter(run.model.size for run in runs) == dict.fromkeys(("14m", "31m", "70m", "160m", "410m"), 15 + 30)
    assert len({run.run_id for run in runs}) == 225
    assert {run.train for run in runs} == {preset.config.train}
    one = find_preset("ergodic", "size", overrides=["model.size=70m"])
    assert {run.model.size for run in one.runs(known_components(one.config.data))} == {"70m"}
    assert [run.model.size for run in runs] == sorted(
        [run.model.size for run in runs], key=list(PythiaConfig.SIZES).index
    )


def test_size_note_states_the_arithmetic_of_its_config():
    preset = find_preset("ergodic", "size")
    tokens = preset.config.train.steps * preset.config.train.batch_size * preset.config.data.window_tokens
    assert tokens == 256_000_000 and "256 M" in preset.note
    counts = [count_parameters(PythiaConfig(size=size), 50_277).total for size in ("14m", "410m")]
    assert [f"{tokens / count:.2g}" for count in counts] == ["18", "0.63"]
    assert "18 a parameter for 14m, 0.6 for 410m" in preset.note


def test_left_out_baselines_are_the_components_of_the_k1_runs():
    preset = find_preset("ergodic", "paper", overrides=["data.order=listed"])
    runs = preset.runs(known_components(preset.config.data))
    named = Counter(run.data.components[0] for run in runs if run.data.components)
    assert named == {name: 3 for name in ARXIV_COMPONENTS[1:]}


def test_smallest_component_decides_only_with_sizes():
    preset = find_preset("ergodic", "paper", overrides=["data.order=smallest_first"])
    with pytest.raises(ComponentsUnknown, match="fetch"):
        list(preset.runs(known_components(preset.config.data)))
    sizes = {name: 1000 - position for position, name in enumerate(ARXIV_COMPONENTS)}
    named = {run.data.components[0] for run in preset.runs(sizes) if run.data.components}
    assert named == set(ARXIV_COMPONENTS[:-1])


def test_local_files_need_the_cache_for_baselines_only(tmp_path):
    paper = find_preset("ergodic", "paper", source=str(tmp_path))
    with pytest.raises(ComponentsUnknown, match="fetch"):
        list(paper.runs(known_components(paper.config.data)))
    smoke = find_preset("ergodic", "smoke", source=str(tmp_path))
    assert len(list(smoke.runs(known_components(smoke.config.data)))) == 5


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
        (("ergodic", "nothing"), "the presets of ergodic are smoke, demo, known, arms, quick, paper"),
        (("ergodic", "demo", "", "", ["train.stepz=5"]), "unknown field 'stepz'"),
        (("ergodic", "demo", "", "", ["study=activation"]), "the study has its own option"),
        (("ergodic", "demo", "", "", [], ["k=5"]), "k is one of 1, 2, 4, 8, 11 in this preset; --set k=5 makes a grid"),
        (("ergodic", "demo", "", "", [], ["model.size=14m"]), "the axes of this preset are k, seed"),
        (("ergodic", "demo", "", "", [], ["k"]), "has no '='"),
        (("ergodic", "demo", "", "", [], ["k="]), "only 'k=' is not possible"),
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
    plan = plan_grid([tiny_config], storage, axes=("k", "seed"), measure=lambda config, vocab_size: 1000.0)
    (run,) = plan.runs
    assert len(run.components) == 2
    assert run.steps == 5
    assert run.tokens == 5 * 8 * 100
    assert run.unique_tokens == 2 * 4 * 300
    assert run.repetition == 4000 / 2400
    # 32 symbols and BOS take one block of 128 rows in each embedding.
    d, layers = PythiaConfig.SIZES["tiny"].d_model, PythiaConfig.SIZES["tiny"].n_layer
    assert run.non_embedding == layers * (12 * d**2 + 13 * d) + 2 * d
    assert run.parameters == run.non_embedding + 2 * 128 * d
    assert run.flops == 4000 * (6 * (layers * 12 * d**2 + 128 * d) + 12 * layers * d * 100)
    assert run.seconds == 4.0
    # In float32: the one snapshot of a run this short stays. While it runs, there are also two checkpoints of weights
    # and two moments, a third that is being published, and its copy in scratch, which is on the same disk here.
    assert run.space.kept_bytes == run.parameters * 4
    assert run.space.peak_bytes == run.parameters * 4 * (4 * 3 + 1)
    assert run.space.held_bytes == 0
    assert str(run.status) == "missing"


def test_plan_totals_are_sums_over_runs(tiny_config, storage):
    cache = ensure_cache(tiny_config.data, storage)
    configs = [dataclasses.replace(tiny_config, k=k) for k in (1, 2, 3)]
    mark_done(storage, configs[0])
    plan = plan_grid(configs, storage, axes=("k", "seed"), measure=lambda config, vocab_size: 1000.0)
    assert plan.total("tokens") == 3 * 4000
    assert plan.total("tokens", pending=True) == 2 * 4000
    assert plan.total("seconds") == 8.0
    cache_bytes = sum(file.stat().st_size for file in cache.folder.rglob("*") if file.is_file())
    assert plan.storage_bytes == cache_bytes + sum(run.parameters * 4 for run in plan.runs)
    # Two runs to do, one at a time, and 3 x 4 train and 3 x 1 test papers of 300 tokens to unpack, 2 bytes each.
    in_progress = plan.runs[1].parameters * 4 * 12
    assert plan.needed_bytes == 2 * plan.runs[1].parameters * 4 + in_progress + (12 + 3) * 300 * 2
    assert [run.status.status for run in plan.runs] == ["done", "missing", "missing"]
    assert "3 runs: 1 done, 2 to do" in str(plan)


def test_plan_before_the_cache_exists_builds_nothing(tiny_config, storage):
    plan = plan_grid([tiny_config], storage, axes=("k", "seed"))
    assert plan.runs[0].tokens == 4000 and plan.runs[0].unique_tokens is None
    assert "after fetch" in str(plan) and "python -m helpers fetch" in str(plan)
    assert not (storage.root / "cache").exists()


def test_what_settings_and_the_tokenizers_name_tell_is_known_before_the_cache_exists(tiny_config, storage):
    before = plan_grid([tiny_config], storage, axes=("k", "seed")).runs[0]
    ensure_cache(tiny_config.data, storage)
    after = plan_grid([tiny_config], storage, axes=("k", "seed")).runs[0]
    assert (before.parameters, before.flops, before.space) == (after.parameters, after.flops, after.space)
    paper = plan_grid(find_preset("ergodic", "paper").grid[:1], storage, axes=("k", "seed")).runs[0]
    assert paper.parameters == 70_426_624  # EleutherAI/pythia-70m's own count
    assert paper.flops > 0 and paper.space.kept_bytes > 0


def test_what_is_alike_in_every_run_stands_in_a_line_and_not_in_a_column(tiny_config, storage):
    ensure_cache(tiny_config.data, storage)
    configs = [dataclasses.replace(tiny_config, k=k) for k in (1, 2)]
    table, every, *_ = str(plan_grid(configs, storage, axes=("k", "seed"))).split("\n\n")
    assert table.splitlines()[0].split()[:3] == ["role", "K", "seed"] and "tokens" not in table.splitlines()[0].split()
    assert every.startswith("every run: ") and "size tiny" in every and "tokens 4.00 k" in every


def test_speed_is_measured_once_for_runs_of_one_shape(tiny_config, storage):
    ensure_cache(tiny_config.data, storage)
    measured = []
    configs = [dataclasses.replace(tiny_config, k=k, seed=seed) for k in (1, 2) for seed in (0, 1)]
    plan_grid(configs, storage, axes=("k", "seed"), measure=lambda config, vocab_size: measured.append(config) or 1.0)
    assert len(measured) == 1


def test_a_begun_run_counts_only_what_is_left(tiny_config, storage):
    ensure_cache(tiny_config.data, storage)
    for step in (1, 4):
        (storage.checkpoints(tiny_config.run_id) / f"step_{step:09d}").mkdir(parents=True)
    (run,) = plan_grid([tiny_config], storage, axes=("k", "seed"), measure=lambda config, vocab_size: 100.0).runs
    assert str(run.status) == "begun step 4"
    assert run.seconds == pytest.approx(4000 / 100 * (1 / 5))


def test_epochs_over_a_train_set_that_grows_with_k_are_refused(storage):
    """Refused for what it is, and nothing else: runs of unequal tokens are other studies' everyday."""
    epochs = ["data.sampling=epoch", "train.steps=none", "train.epochs=20"]
    with pytest.raises(ValueError, match=r"train\.epochs = 20 counts passes .* data\.allocation=full"):
        plan_preset(find_preset("ergodic", "demo", overrides=epochs), storage)
    equal = find_preset("ergodic", "demo", overrides=[*epochs, "data.allocation=constant_unique"])
    assert len(plan_preset(equal, storage).runs) == 30


def test_runs_of_unequal_tokens_can_be_planned_in_one_grid(tiny_config, storage):
    """Families too: a column for each axis, and nothing that depends on which family a run has."""
    ensure_cache(tiny_config.data, storage)
    config = apply_overrides(tiny_config, ["train.steps=none", "train.tokens_per_parameter=20"])
    axes = {"model.size": ("tiny", "gpt-10k", "gpt-30k"), "data.window_tokens": (50, 100)}
    plan = plan_grid(Preset(description="", config=config, axes=axes).runs(None), storage, axes=tuple(axes))
    assert [run.tokens for run in plan.runs] == [20 * 9_576] * 2 + [20 * 25_472] * 2 + [20 * 31_464] * 2
    assert plan.runs[0].steps == math.ceil(20 * 9_576 / 400)
    table = str(plan).splitlines()
    assert table[0].split()[:4] == ["role", "size", "window_tokens", "tokens"]
    assert table[1].split()[:3] == ["grid", "gpt-10k", "50"]


def test_a_plan_of_no_runs_says_so(storage):
    assert str(plan_grid([], storage, axes=("k",))) == "no runs"


def test_a_component_that_cannot_be_evaluated_is_found_by_the_plan(storage, tmp_path):
    """Only where a run needs it: component c has no test paper as long as a window."""
    write_papers(tmp_path / "papers", train={"a": 3, "b": 3, "c": 3}, test={"a": 2, "b": 2})
    settings = ["data.order=listed", "data.window_tokens=20"]
    arguments = ("ergodic", "smoke", str(tmp_path / "papers"), "train:300", settings)
    ensure_cache(find_preset(*arguments).config.data, storage, report=lambda line: None)
    one = find_preset(*arguments, only=["k=1,2"])
    assert [run.components for run in plan_preset(one, storage).runs] == [("a",), ("a", "b")]
    with pytest.raises(ValueError, match=r"component 'c' has no test paper of data\.window_tokens = 20"):
        plan_preset(find_preset(*arguments[:4], [*settings, "k=3"]), storage)


def test_a_damaged_result_is_not_done(tiny_config, storage):
    mark_done(storage, tiny_config)
    assert run_status(tiny_config, storage).status == "done"
    path = storage.result(tiny_config.run_id)
    path.write_bytes(path.read_bytes()[:-20])
    assert run_status(tiny_config, storage).status == "missing"


def test_words_for_numbers():
    assert [count(n) for n in (950, 25_600, 2_560_000_000)] == ["950", "25.6 k", "2.56 B"]
    assert [size(n) for n in (512, 1536)] == ["512 B", "1.50 KiB"]
    assert [duration(s) for s in (12.4, 185, 7800)] == ["12 s", "3 min 5 s", "2 h 10 min"]
    assert aligned(["name", "n"], [["a", "1"], ["bcdef", "10"]]) == "name    n\na       1\nbcdef  10"


# Space


def test_space_of_the_papers_runs_by_hand(storage, monkeypatch):
    config, parameters = find_preset("ergodic", "paper").at(k=4, seed=0), 70_426_624
    monkeypatch.setattr("helpers.grid.space.on_one_disk", lambda storage: False)
    space = run_space(config, 100_000, parameters, storage)
    assert space.kept_bytes == 10 * 4 * parameters  # a snapshot each 10,000 steps; 12 may stay
    assert space.peak_bytes == (10 * 4 + 3 * 12) * parameters
    thinner = apply_overrides(config, ["execution.keep_snapshots=4", "execution.keep_evaluated_snapshots=1"])
    space = run_space(thinner, 100_000, parameters, storage)
    assert (space.kept_bytes, space.peak_bytes) == (4 * parameters, (4 * 4 + 3 * 12) * parameters)
    assert run_space(apply_overrides(thinner, ["execution.keep_snapshots=1"]), 1, 1, storage).kept_bytes == 4


def test_needed_space_is_what_stays_and_what_runs_at_once():
    new, begun = RunSpace(kept_bytes=10, peak_bytes=50, held_bytes=0), RunSpace(
        kept_bytes=10, peak_bytes=50, held_bytes=30
    )  # fmt: skip
    assert needed_bytes([new] * 3, 1) == 3 * 10 + 40
    assert needed_bytes([new] * 3, 2) == 3 * 10 + 2 * 40
    assert needed_bytes([new] * 3, 9) == 3 * 50
    # What was begun holds more than will stay of it, so it adds only the rest of its way to the peak.
    assert needed_bytes([begun], 1) == 20
    assert needed_bytes([new, begun], 2) == 50 + 20
    assert needed_bytes([], 1) == 0


def test_a_run_holds_what_the_plan_says(tiny_config, storage):
    config = apply_overrides(
        tiny_config,
        ["train.steps=12", "execution.log_every_steps=2", "execution.checkpoint_every_minutes=0",
         "execution.snapshot_every_steps=4", "execution.keep_evaluated_snapshots=2", "execution.trackers="],
    )  # fmt: skip
    ensure_cache(config.data, storage)
    (planned,) = plan_grid([config], storage, axes=("k", "seed")).runs
    held = []

    def measure(event) -> None:
        if isinstance(event, Saved):
            held.append(sum(file.stat().st_size for file in storage.run(config.run_id).rglob("*") if file.is_file()))

    train_single_k(config, storage, [measure])
    waiting = 2 * 12 * planned.parameters  # the published checkpoint's copies are gone when the event comes
    assert max(held) == pytest.approx(planned.space.peak_bytes - waiting, rel=0.05)
    files = list(storage.snapshot(config.run_id, 0).parent.glob("*.safetensors"))
    assert sum(file.stat().st_size for file in files) == pytest.approx(planned.space.kept_bytes, rel=0.05)
    assert len(files) == 2 and storage.checkpoint_steps(config.run_id) == []


def test_a_grid_that_does_not_fit_is_refused_before_it_starts(storage, monkeypatch):
    preset = find_preset("ergodic", "smoke", only=["k=1,2"])
    started = []
    use_fake(monkeypatch, lambda job: started.append(job.name))
    monkeypatch.setattr("helpers.studies.run_preset.measured_speed", lambda config, vocab_size: 1000.0)
    usage = shutil.disk_usage(storage.root)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1_000_000))
    with pytest.raises(ValueError, match=r"need [\d.]+ MiB, but the disk of .* has 977 KiB free") as refusal:
        run_preset(preset, storage, engine=EngineOptions(workers=2))
    knobs = ("keep_snapshots", "keep_evaluated_snapshots", "keep_checkpoints", "snapshot_every_steps", "model.size")
    assert all(knob in str(refusal.value) for knob in (*knobs, "--storage")) and not started
    plan = plan_grid([preset.at(k=k, seed=0) for k in (1, 2)], storage, axes=("k", "seed"), workers=2)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=plan.needed_bytes))
    run_preset(preset, storage, engine=EngineOptions(workers=2), report=lambda line: None)
    assert len(started) == 2


# Shards


@settings(derandomize=True, deadline=None, max_examples=50)
@given(
    pairs=st.lists(st.tuples(st.integers(1, 11), st.integers(0, 9)), min_size=1, max_size=40, unique=True),
    data=st.data(),
)
def test_every_run_is_in_exactly_one_shard_balanced_over_k(pairs, data):
    configs = [find_preset("ergodic", "smoke").at(k=k, seed=seed) for k, seed in pairs]
    count = data.draw(st.integers(1, len(configs)))
    shards = [Shard.parse(f"{number}/{count}").of(configs) for number in range(1, count + 1)]
    assert sorted(run.run_id for runs in shards for run in runs) == sorted(config.run_id for config in configs)
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    for k in {config.k for config in configs}:
        of_k = [sum(run.k == k for run in runs) for runs in shards]
        assert max(of_k) - min(of_k) <= 1
    shuffled = random.Random(0).sample(configs, len(configs))
    for number, runs in enumerate(shards, start=1):
        assert {run.run_id for run in Shard(number=number, count=count).of(shuffled)} == {run.run_id for run in runs}


@pytest.mark.parametrize("text", ["0/3", "4/3", "-1/3", "1/0", "1", "/", "2/3/4", "a/b", "1.0/2", "٢/٣"])
def test_a_shard_that_cannot_be_is_refused(text):
    with pytest.raises(ValueError, match=r"shard = .* is not possible; use i/n with i from 1 to n, such as 2/3"):
        Shard.parse(text)


def test_more_shards_than_runs_are_refused():
    with pytest.raises(ValueError, match="the grid has 2 runs"):
        Shard.parse("1/3").of(smoke_runs(0, 1))


def test_two_tabs_share_a_grid_whatever_is_done(storage, monkeypatch):
    preset = find_preset("ergodic", "demo")
    runs = list(preset.runs(known_components(preset.config.data)))
    ensure_cache(preset.config.data, storage)
    mark_done(storage, runs[3])
    monkeypatch.setattr("helpers.studies.run_preset.measured_speed", lambda config, vocab_size: 1000.0)
    jobs = {"1/2": [], "2/2": []}
    for shard, started in jobs.items():

        def execute(job, started=started):
            started.append(job.name)
            (config,) = (run for run in runs if run.run_id == job.name)
            mark_done(storage, config)

        use_fake(monkeypatch, execute)
        report = run_preset(preset, storage, shard=shard, report=lambda line: None)
        assert report.complete and len(report.outcomes) == 15
        assert f"shard {shard}: 15 done, 0 failed, 0 left" in str(report)
    assert sorted(jobs["1/2"] + jobs["2/2"]) == sorted(run.run_id for run in runs if run != runs[3])


# Parameters


def test_every_notebook_of_a_study_takes_a_run(storage):
    for study in STUDIES:
        names = parameter_names(ROOT / study.notebook)
        assert {"RUN", "STORAGE", "INTERACTIVE", *study.parameters} <= names
        job = {"name": "x", "storage": storage, "notebook": ROOT / study.notebook}
        assert Job(**job, parameters={"RUN": "x"}).name == "x"
        with pytest.raises(ValueError, match="has no parameter Q"):
            Job(**job, parameters={"Q": 1})


def test_parameters_are_read_whatever_their_defaults(tmp_path):
    notebook = stand_in_notebook(tmp_path)
    text = notebook.read_text().replace('STORAGE: str = \\"\\"', 'STORAGE: str = \\"a=b # c\\"  # d = e')
    assert "a=b # c" in text
    notebook.write_text(text)
    assert parameter_names(notebook) == {"RUN", "STORAGE", "INTERACTIVE"}


# Runner


@pytest.mark.slow
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
    report, lines = run_stand_in(notebook, configs, storage, engine=EngineOptions(workers=2))
    reasons = [outcome.reason for outcome in report.outcomes]
    assert [outcome.status for outcome in report.outcomes] == ["done"] + 4 * ["failed"]
    assert reasons[1] == "RuntimeError: the loss is NaN at step 7"
    assert "kernel died" in reasons[2]
    assert f"not with the result file {configs[3].run_id}.jsonl" in reasons[3]
    assert "SIGKILL" in reasons[4]
    assert report.outcomes[1].kept_step == 6 and "checkpoint of step 6 kept" in str(report)
    assert not report.complete and "1 done, 4 failed, 0 left" in str(report)
    assert sum("[5/5]" in line for line in lines) == 1
    assert storage.notebook(configs[1].run_id).exists()


@pytest.mark.slow
def test_a_run_whose_time_is_up_is_left_and_not_failed(tmp_path, storage):
    notebook = stand_in_notebook(
        tmp_path,
        """
from helpers.training.train_single_k import TimeIsUp
storage.checkpoint(config.run_id, 8).mkdir(parents=True)
raise TimeIsUp(f"{config.run_id} stopped at step 8 of 20, after execution.max_minutes = 1")
""",
    )
    report, lines = run_stand_in(notebook, smoke_runs(0), storage)
    (outcome,) = report.outcomes
    assert (outcome.status, outcome.kept_step) == ("left", 8)
    assert "after execution.max_minutes = 1; checkpoint of step 8 kept" in str(report)
    assert "0 done, 0 failed, 1 left" in str(report) and not report.complete
    assert any(line.startswith("[1/1] left") for line in lines)


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


@pytest.mark.slow
def test_two_kernels_run_at_once_over_ipc(tmp_path, storage):
    notebook = stand_in_notebook(
        tmp_path,
        """
from ipykernel.kernelapp import IPKernelApp
from helpers.grid.machine import num_cores
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
    report, _ = run_stand_in(notebook, smoke_runs(0, 1), storage, engine=EngineOptions(workers=2))
    assert report.complete, str(report)


def test_the_notebook_gets_the_planned_config(tmp_path, storage):
    """A run travels as its config.json: labels with commas and blanks at their ends arrive as they are."""
    notebook = stand_in_notebook(tmp_path, "finish()")
    config = apply_overrides(smoke_runs(0)[0], ["data.shuffle_labels=true", "eval.seed=4", "execution.threads=1"])
    config = replace_fields(config, {"data.components": ("Vision, Graphics ", "a=b # c")})
    report, _ = run_stand_in(notebook, [config], storage)
    assert report.complete, str(report)
    assert read_config(storage, config.run_id) == config


def test_stopping_ends_the_child_and_its_kernel(tmp_path, storage):
    notebook = stand_in_notebook(tmp_path, "(storage.root / 'pid').write_text(str(os.getpid()))\ntime.sleep(600)")
    (config,) = smoke_runs(0)
    publish_sealed(config_path(storage, config.run_id), {"config": to_json(config)})
    parameters = {"RUN": config.run_id, "STORAGE": str(storage.root), "INTERACTIVE": False}
    engine = EngineOptions().open(report=lambda line: None)
    engine.start([Job(name="long", notebook=notebook, parameters=parameters, storage=storage)])
    wait_until((storage.root / "pid").exists)
    assert engine.wait(0) == []
    engine.stop()
    kernel = int((storage.root / "pid").read_text() or 0)
    wait_until(lambda: not psutil.pid_exists(kernel))


def test_an_interrupt_reports_what_is_left(tmp_path, storage, monkeypatch):
    notebook = stand_in_notebook(tmp_path, "finish()")

    def interrupt(job):
        storage.checkpoint(configs[0].run_id, 30).mkdir(parents=True)
        raise KeyboardInterrupt

    use_fake(monkeypatch, interrupt)
    configs = smoke_runs(0, 1)
    report, lines = run_stand_in(notebook, configs, storage)
    assert [outcome.status for outcome in report.outcomes] == ["left", "left"]
    assert [outcome.kept_step for outcome in report.outcomes] == [30, None]
    assert "stopping; checkpoints are kept" in lines
    assert "the same call again goes on" in str(report)


def test_no_worker_is_refused(tmp_path, storage):
    with pytest.raises(ValueError, match="workers = 0"):
        run_stand_in(stand_in_notebook(tmp_path), smoke_runs(0), storage, engine=EngineOptions(workers=0))


def test_every_role_goes_through_the_real_notebook_and_the_second_call_trains_nothing(storage):
    changes = ["train.steps=6", "train.warmup_steps=1"]
    smoke = find_preset("ergodic", "smoke", overrides=changes)
    baseline = apply_overrides(smoke.at(k=1, seed=0), ["data.components=hmm05"])
    control = apply_overrides(smoke.at(k=2, seed=0), ["data.shuffle_labels=true"])
    runs = [baseline, control]
    where = {
        "notebook": ROOT / "ergodic_scaling.ipynb",
        "engine": EngineOptions(workers=2),
        "report": lambda line: None,
    }
    report = run_grid(runs, storage, **where)
    assert report.complete, str(report)
    notebooks = [storage.notebook(run.run_id) for run in runs]
    assert all(notebook.stat().st_size < 300_000 for notebook in notebooks)
    files = [*notebooks, *(storage.result(run.run_id) for run in runs)]
    before = [(path.read_bytes(), path.stat().st_mtime_ns) for path in files]
    assert run_grid(runs, storage, **where).complete
    assert [(path.read_bytes(), path.stat().st_mtime_ns) for path in files] == before


def write_papers(folder: Path, **papers: dict[str, int]) -> None:
    """JSONL files of a split each, with so many papers of 60 words of each label."""
    words = np.random.default_rng(0).choice(["lemma", "graph", "image", "proof", "pixel", "node"], (99, 60))
    folder.mkdir(parents=True)
    number = iter(range(99))
    for split, counts in papers.items():
        rows = [{"text": " ".join(words[next(number)]), "label": name} for name, n in counts.items() for _ in range(n)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def mark_done(storage: Storage, config: RunConfig) -> None:
    provenance = {"cache_id": cache_id(config.data)}
    run = {"kind": "run", "schema": 1, "run_id": config.run_id, "study": "ergodic", "config": {}}
    run["provenance"] = provenance
    write_result(
        storage.result(config.run_id), Result(run=run, rows=[], summaries=[{"kind": "summary", "step": 1, "xe": 1.5}])
    )


def wait_until(holds, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.05)
