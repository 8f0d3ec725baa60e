"""A third study, whole in this file: what it takes to plug one in is the tuple of studies, and nothing else.

Two axes; a recipe whose second phase freezes half of the parameters and ends by patience; rows of its own kind; a
tensor in the state beside the weights. It is planned, run by the grid through a notebook, killed and resumed to the
same bits, shown on board and status, evaluated again, and analysed.
"""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import torch
from nbformat.v4 import new_code_cell, new_notebook

from helpers import studies
from helpers.analysis.conditions import condition_names, shared_settings
from helpers.analysis.results import read_results, require_results
from helpers.config import DataConfig, EvalConfig, ExecutionConfig, RunConfig, SyntheticConfig, TrainConfig
from helpers.grid import notebook_job
from helpers.grid.engines import EngineOptions
from helpers.model_config import GptConfig
from helpers.notebook.board import Board
from helpers.repository import ROOT
from helpers.runs.checkpoints import load_newest_checkpoint, snapshots
from helpers.runs.events import Logged, Saved
from helpers.runs.result_file import Measured, read_result
from helpers.runs.verify import verify_storage
from helpers.storage import Storage, publish_text
from helpers.studies.preset import Preset
from helpers.studies.run_preset import plan_preset, run_preset, status_of
from helpers.studies.study import Study
from helpers.training.evaluate_again import evaluate_again
from helpers.training.recipe import Recipe, evaluate_xe
from helpers.training.state import window_state, window_step
from helpers.training.train_single_k import train_single_k

PHASE_1_STEPS, PATIENCE, AT_MOST = 6, 3, 60


# The study


def start(run, accelerator):
    state = window_state(run, accelerator)
    state.extra = {"best": torch.tensor(float("inf")), "waited": torch.zeros((), dtype=torch.int64)}
    return state


def step(run, state):
    """All parameters first; then those of the first layer stay as they are, until the loss has not fallen for a while.

    What is frozen is told by the step, so that a resumed run freezes it too."""
    in_phase_2 = state.step >= PHASE_1_STEPS
    for name, parameter in state.model.named_parameters():
        parameter.requires_grad_(not (in_phase_2 and ("layers.0" in name or "embedding" in name)))
    stepped = window_step(run, state)
    if not in_phase_2:
        return stepped
    if stepped.loss < state.extra["best"]:
        state.extra = {"best": stepped.loss.clone(), "waited": torch.zeros((), dtype=torch.int64)}
    else:
        state.extra["waited"] = state.extra["waited"] + 1
    return dataclasses.replace(stepped, is_last=bool(state.extra["waited"] >= PATIENCE))


def evaluate(run, weights, step):
    """XE, and a row of the study's own kind for each matrix: its norm."""
    xe = evaluate_xe(run, weights, step)
    norms = {name: float(tensor.norm()) for name, tensor in weights.items() if tensor.dim() == 2}
    rows = [{"kind": "norm", "step": step, "matrix": name, "norm": norm} for name, norm in norms.items()]
    return Measured(rows=[*xe.rows, *rows], summary=xe.summary)


def evaluate_at(run):
    return (0, PHASE_1_STEPS)


RECIPE = Recipe(start=start, step=step, evaluate=evaluate, evaluate_at=evaluate_at)


def analyse(storage: Storage) -> list[Path]:
    """How much the norms moved after the freezing, for each condition."""
    files = read_results(storage, STUDY.name, lambda result, config: None)
    require_results(files, storage)
    names = condition_names([shared_settings(found.config, STUDY.varied) for found in files.found.values()])
    moved = {}
    for name, (result, config) in zip(names, files.found.values(), strict=True):
        norms = {(row["step"], row["matrix"]): row["norm"] for row in result.rows_of("norm")}
        end = result.run["steps"]
        frozen = [m for at, m in norms if at == end and norms[end, m] == norms[PHASE_1_STEPS, m]]
        moved.setdefault(name, {})[f"{config.data.window_tokens}-{config.seed}"] = sorted(frozen)
    return [publish_text(storage.table("third.json"), json.dumps(moved, indent=1))]


STUDY = Study(
    name="third",
    question="What does a study have to touch?",
    presets={
        "small": Preset(
            description="seconds",
            config=RunConfig(
                study="third",
                data=DataConfig(synthetic=SyntheticConfig(num_components=2, papers_per_component=8, paper_tokens=300)),
                model=GptConfig(size="gpt-10k", dropout=0.1),
                train=TrainConfig(batch_size=4, steps=AT_MOST, warmup_steps=1, peak_lr=1e-2),
                eval=EvalConfig(windows_per_component=4),
                execution=ExecutionConfig(
                    threads=1, log_every_steps=1, checkpoint_every_minutes=0, trackers=(), snapshot_every_steps=1000
                ),
            ),
            axes={"data.window_tokens": (20, 50), "seed": (0, 1)},
        )
    },
    axes=("data.window_tokens", "seed"),
    notebook="",
    analyse=analyse,
    recipe=lambda: RECIPE,
)


def plug_in(notebook: str = "") -> None:
    """All that there is to do."""
    studies.STUDIES = (*studies.STUDIES, dataclasses.replace(STUDY, notebook=notebook))


# What the house makes of it

NOTEBOOK = (
    'RUN: str = ""\nSTORAGE: str = ""\nINTERACTIVE: bool = True',
    """
from helpers.notebook.panel import train
from helpers.runs.config_file import read_config
from helpers.storage import Storage
from tests.studies.test_third_study import plug_in

plug_in()
storage = Storage.at(STORAGE)
print(train(read_config(storage, RUN), storage, interactive=INTERACTIVE))
""",
)


@pytest.fixture
def preset(monkeypatch, tmp_path) -> Preset:
    notebook = new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    )
    notebook.cells = [new_code_cell(NOTEBOOK[0], metadata={"tags": ["parameters"]}), new_code_cell(NOTEBOOK[1])]
    nbformat.write(notebook, tmp_path / "third.ipynb")
    monkeypatch.setattr(notebook_job, "NOTEBOOK_FOLDERS", (tmp_path.resolve(),))
    monkeypatch.setattr(studies, "STUDIES", studies.STUDIES)
    plug_in(str(tmp_path / "third.ipynb"))
    return studies.find_preset("third", "small")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Storage:
    storage = Storage.at(tmp_path_factory.mktemp("undisturbed"))
    train_single_k(one_run(), storage, (), RECIPE)
    return storage


def one_run() -> RunConfig:
    return STUDY.presets["small"].grid[0]


def told(storage: Storage, config: RunConfig) -> dict:
    """What an interruption must not change."""
    result = read_result(storage.result(config.run_id))
    return {key: result.run[key] for key in ("steps", "tokens_seen", "weights_sha256")} | {
        "rows": result.rows,
        "summaries": result.summaries,
    }


@pytest.mark.slow
def test_the_grid_runs_it_through_its_notebook(preset, storage):
    lines = []
    report = run_preset(preset, storage, engine=EngineOptions(workers=2), report=lines.append)
    assert report.complete, f"{report}"
    plan = lines[0].splitlines()
    assert plan[0].split()[:4] == ["role", "window_tokens", "seed", "tokens"]
    assert [row.split()[1:3] for row in plan[1:5]] == [["20", "0"], ["20", "1"], ["50", "0"], ["50", "1"]]
    assert "equal tokens" not in lines[0]
    status = status_of(preset, storage)
    assert status.headers == ["window_tokens"] and status.seeds == [0, 1] and status.is_complete
    assert str(Board(preset, storage)).splitlines()[1].split()[:2] == ["20", "done"]
    (path,) = studies.find_study("third").analyse(storage)
    ((condition, frozen),) = json.loads(path.read_text()).items()
    assert "gpt-10k" in condition and frozen.keys() == {"20-0", "20-1", "50-0", "50-1"}
    assert all("layers.0.attention.qkv.weight" in names for names in frozen.values())
    assert verify_storage(storage.root).damaged == []


def test_it_ends_by_patience_with_rows_of_its_own(undisturbed):
    config = one_run()
    result = read_result(undisturbed.result(config.run_id))
    end = result.run["steps"]
    assert PHASE_1_STEPS + PATIENCE <= end < AT_MOST
    assert result.run["tokens_seen"] == end * 4 * config.data.window_tokens
    assert [row["step"] for row in result.summaries] == [0, PHASE_1_STEPS, end]
    assert {row["kind"] for row in result.rows} == {"xe", "norm"}
    assert len(result.rows_of("norm")) == 3 * len({row["matrix"] for row in result.rows_of("norm")})
    assert [step for step, _ in snapshots(undisturbed, config.run_id)] == [end]


def test_an_evaluation_of_it_keeps_every_row(undisturbed):
    config, before = one_run(), told(undisturbed, one_run())
    evaluate_again(config, undisturbed, None, (), RECIPE)
    assert told(undisturbed, config) == before


@pytest.mark.slow
@pytest.mark.parametrize("at", [0, 3, PHASE_1_STEPS, PHASE_1_STEPS + 1, "last", "evaluation"])
def test_killed_in_each_phase_it_ends_with_the_same_bits(undisturbed, tmp_path, at):
    """SIGKILL behind the log of a step, in the training's last save, or in the evaluation of the end."""
    config = one_run()
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(at)], cwd=ROOT, capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    storage = Storage.at(tmp_path)
    assert not storage.result(config.run_id).exists()
    train_single_k(config, storage, (), RECIPE)
    assert told(storage, config) == told(undisturbed, config)


KILLED = """
import sys
from tests.studies import test_third_study as third
third.train_and_die(*sys.argv[1:])
"""


def train_and_die(root: str, at: str) -> None:
    def subscriber(event) -> None:
        is_last = isinstance(event, Saved) and event.path.parent.parent.joinpath("snapshots").exists()
        is_there = isinstance(event, Logged) and at == str(event.step)
        if is_there or (at == "last" and is_last):
            os.kill(os.getpid(), signal.SIGKILL)

    def evaluate_and_die(run, weights, step):
        last = snapshots(run.storage, run.config.run_id)
        if (at == "evaluation" and last) or at == "0":
            os.kill(os.getpid(), signal.SIGKILL)
        return evaluate(run, weights, step)

    recipe = dataclasses.replace(RECIPE, evaluate=evaluate_and_die)
    train_single_k(one_run(), Storage.at(root), [subscriber], recipe)


def test_the_tensor_beside_the_weights_is_in_the_checkpoint(tmp_path):
    config, storage = one_run(), Storage.at(tmp_path)

    class Enough(Exception):
        pass

    def stop(event) -> None:
        if isinstance(event, Logged) and event.step == PHASE_1_STEPS + 3:
            raise Enough

    with pytest.raises(Enough):
        train_single_k(config, storage, [stop], RECIPE)
    checkpoint = load_newest_checkpoint(storage, config.run_id, print)
    assert checkpoint.extra.keys() == {"best", "waited"} and 0 < checkpoint.extra["best"] < 10
    assert {row["kind"] for row in checkpoint.state["measurements"]} == {"xe", "norm", "summary"}


def test_its_plan_says_nothing_that_is_another_studys(preset, storage):
    plan = plan_preset(preset, storage)
    noise = "noise floor: the seeds of one cell come first (k = 1, seeds 0, 1); a difference inside theirs is none"
    assert plan.notes == (noise, "")
    with pytest.raises(ValueError, match="--seed-deviation is not possible"):
        plan_preset(preset, storage, seed_deviation=0.1)
