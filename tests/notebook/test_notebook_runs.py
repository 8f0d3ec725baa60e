"""The notebooks executed by papermill from their first cell to their last, on a machine and on a stand-in of Colab."""

import os
from pathlib import Path

import nbformat
import numpy as np
import papermill
import pytest

from helpers.repository import ROOT
from helpers.storage import Storage
from helpers.studies import find_preset, find_study
from tests import colab
from tests.simulated_scaling import write_runs

MAX_BYTES = 300_000
OVERRIDES = "train.steps=20 train.warmup_steps=2 eval.windows_per_component=8 execution.storage_patience_minutes=0"

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.fixture
def execute(tmp_path):
    """Execute a notebook with parameters; what was executed is small, also if a cell failed."""

    def execute(name: str, **parameters: object) -> nbformat.NotebookNode:
        output = tmp_path / "executed.ipynb"
        try:
            papermill.execute_notebook(ROOT / name, output, parameters, cwd=str(ROOT), progress_bar=False)
        finally:
            assert output.stat().st_size < MAX_BYTES
        return nbformat.read(output, as_version=4)

    return execute


@pytest.fixture
def on_colab(monkeypatch, tmp_path):
    """Let kernels find a stand-in of Colab, whose Drive `works`, `raises` or gives `errno107`; returns its own disk."""

    def begin(drive: str) -> Path:
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(colab.FOLDER), str(ROOT)]))
        monkeypatch.setenv("FAKE_COLAB", drive)
        monkeypatch.setenv("FAKE_CONTENT", str(tmp_path / "content"))
        return tmp_path / "content"

    return begin


@pytest.fixture
def run_id() -> str:
    return find_preset("ergodic", "smoke", overrides=OVERRIDES.split()).at(k=2, seed=0).run_id


def text_of(notebook: nbformat.NotebookNode, cell_id: str) -> str:
    """What a cell printed or displayed, as text."""
    (cell,) = [cell for cell in notebook.cells if cell.id == cell_id]
    return "\n".join(out.get("text") or out.get("data", {}).get("text/plain", "") for out in cell.outputs)


def test_one_run_then_its_figures_and_a_second_time_trains_nothing(execute, storage):
    parameters = {"PRESET": "smoke", "K": 2, "STORAGE": str(storage.root), "OVERRIDES": OVERRIDES, "INTERACTIVE": False}
    first = execute("ergodic_scaling.ipynb", **parameters)
    assert "step          20 of 20 (100 %)" in text_of(first, "train-code")
    assert "grid: 1 done, 4 missing (of 5)" in text_of(first, "board-code")
    (result,) = storage.results().glob("*.jsonl")
    before = (result.read_bytes(), result.stat().st_mtime_ns)
    second = execute("ergodic_scaling.ipynb", **parameters)
    assert (result.read_bytes(), result.stat().st_mtime_ns) == before
    assert "done, XE" in text_of(second, "train-code") and "learning rate" not in text_of(second, "train-code")
    assert "results.zip" in text_of(second, "save-code")
    execute("analysis.ipynb", STORAGE=str(storage.root), INTERACTIVE=False)
    assert (storage.root / "fig/xe_vs_K.png").exists()


def test_the_activation_study_from_a_run_to_its_verdict(execute, storage, tmp_path):
    stories = tmp_path / "stories.txt"
    words = np.random.default_rng(0).choice(["the", "cat", "sat", "on", "a", "red", "mat", "and", "ran"], (400, 40))
    stories.write_text("<|endoftext|>".join(" ".join(row) for row in words), encoding="utf-8")
    where = {"PRESET": "smoke", "SOURCE": str(stories), "TOKENIZER": "train:300", "STORAGE": str(storage.root)}
    where |= {"INTERACTIVE": False}
    preset = find_preset("activation", "smoke", str(stories), "train:300")
    first = execute("studies/activation_scaling.ipynb", SIZE="gpt-30k", ACTIVATION="swiglu", RUN_GRID=False, **where)
    (result,) = storage.results().glob("*.jsonl")
    assert "gpt_30k-swiglu" in result.name and result.stem in {run.run_id for run in preset.runs(None)}
    assert "1 done, 15 missing (of 16)" in text_of(first, "board-code")
    result.unlink()
    runs = list(preset.runs(None))
    write_runs(storage, [run for run in runs if not preset.is_held_out(run)], {"gelu": 0.2, "swiglu": 0.2}, 1e-3)
    anchors, held_out = ([run for run in runs if preset.is_held_out(run) == wanted] for wanted in (False, True))
    assert find_study("activation").before_held_out(anchors, held_out, storage, print) is None
    execute("studies/activation_scaling.ipynb", RUN_GRID=False, **where)
    assert not list(storage.results().glob("*300k*"))
    assert "exponent" in storage.table("activation_verdict.md").read_text(encoding="utf-8")
    assert (storage.root / "fig/activation_scaling.pdf").exists()


def test_the_length_study_from_a_run_to_its_verdicts(execute, storage):
    where = {"PRESET": "smoke", "STORAGE": str(storage.root), "INTERACTIVE": False, "RUN_GRID": False}
    short = "train.steps=6 train.warmup_steps=1 stream.sequences=2 stream.evaluations=2"
    done = execute("studies/length_generalization.ipynb", WINDOW_TOKENS=16, SEED=1, OVERRIDES=short, **where)
    (result,) = storage.results().glob("*.jsonl")
    assert "w16-fresh" in result.name and "1 done, 3 missing (of 4)" in text_of(done, "board-code")
    assert "two windows of one condition" in storage.table("length_verdicts.md").read_text(encoding="utf-8")
    assert (storage.run(result.stem) / "report/checkpoint_001/summary.json").exists()


def test_the_sample_study_from_a_run_to_its_verdict(execute, storage):
    where = {"PRESET": "smoke", "STORAGE": str(storage.root), "INTERACTIVE": False, "RUN_GRID": False}
    executed = execute("studies/sample_scaling.ipynb", SAMPLES=20, MATCH="steps", LANG="ja", **where)
    (result,) = storage.results().glob("*.jsonl")
    assert "n20-steps" in result.name and "grid: 1 done, 5 missing (of 6)" in text_of(executed, "board-code")
    assert "1 sample counts leave no interval" in storage.table("samples_verdict.md").read_text(encoding="utf-8")
    assert "文書の4点" in storage.table("samples_document.md").read_text(encoding="utf-8")
    assert (storage.root / "fig/sample_scaling.png").exists()


def test_a_drive_that_drops_out_fails_the_cell_in_words_and_loses_nothing(execute, on_colab, run_id):
    parameters = {"PRESET": "smoke", "K": 2, "OVERRIDES": OVERRIDES}
    content = on_colab("errno107")
    with pytest.raises(papermill.PapermillExecutionError) as caught:
        execute("ergodic_scaling.ipynb", **parameters)
    assert caught.value.ename == "StorageAway"
    assert [line.partition(" ")[0] for line in caught.value.traceback] == ["StorageAway:", "Kept:", "Next:"]
    on_colab("works")
    again = execute("ergodic_scaling.ipynb", **parameters)
    storage = Storage.at(content / "drive/MyDrive/ergodic-scaling", content / "scratch")
    assert storage.result(run_id).exists() and list(storage.outbox(run_id).glob("*")) == []
    assert "learning rate" not in text_of(again, "train-code")  # it had been trained already
    assert "on Drive, which survives a disconnect" in text_of(again, "open-storage")
    kinds = {kind for cell in again.cells for out in cell.get("outputs", []) for kind in out.get("data", {})}
    assert "application/vnd.jupyter.widget-view+json" not in kinds  # papermill says that it has no front end


def test_a_drive_that_cannot_be_mounted_is_said_and_the_run_goes_on(execute, on_colab, run_id):
    content = on_colab("raises")
    executed = execute("ergodic_scaling.ipynb", PRESET="smoke", K=2, OVERRIDES=OVERRIDES)
    begin = text_of(executed, "open-storage")
    assert "Drive cannot be used (mount failed)" in begin and "does not survive a disconnect" in begin
    assert (content / "outputs/results" / f"{run_id}.jsonl").exists()
    assert "folder icon" in text_of(executed, "save-code")
