"""The notebooks as they are committed, and the parts of them that live in helpers/notebook."""

import re
import sys
import types

import ipywidgets
import nbformat
import papermill
import pytest

from helpers.config import RunConfig
from helpers.evaluation.result_file import Result
from helpers.grid.notebook_job import ROOT
from helpers.notebook import panel, setup
from helpers.notebook.picker import Picker
from helpers.notebook.run_view import component_table, png, position_figure
from helpers.notebook.setup import REPOSITORY, address_files, open_storage, start_report
from helpers.studies import find_preset
from helpers.training.events import Finished, Logged, Notice, Started

NOTEBOOKS = sorted([*ROOT.glob("*.ipynb"), *ROOT.glob("studies/*.ipynb")])
MAX_CODE_CELLS, MAX_LINES = 15, 15

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


# As committed


def test_notebook_is_valid_4_5_with_readable_ids(notebook):
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z][a-z0-9-]+", name) and not re.fullmatch(r"[0-9a-f]{8}", name) for name in ids)


def test_notebook_carries_no_outputs(notebook):
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code_cells(notebook))
    assert "widgets" not in notebook.metadata


def test_notebook_keeps_its_budgets(notebook):
    cells = code_cells(notebook)
    assert len(cells) <= MAX_CODE_CELLS
    for cell in cells:
        lines = [line for line in cell.source.splitlines() if line.strip()]
        assert len(lines) <= MAX_LINES, cell.id
        assert not re.search(r"^\s*class ", cell.source, re.MULTILINE), cell.id


def test_notebook_metadata_name_kernel_and_gpu(notebook):
    assert notebook.metadata.kernelspec.name == "python3"
    if "accelerator" in notebook.metadata:
        assert notebook.metadata.accelerator == "GPU" and notebook.metadata.colab.gpuType == "T4"


def test_the_main_notebook_asks_for_a_gpu():
    assert nbformat.read(ROOT / "ergodic_scaling.ipynb", as_version=4).metadata.accelerator == "GPU"


def test_notebook_has_one_typed_parameters_cell(notebook):
    tagged = [cell for cell in code_cells(notebook) if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    assert all(re.match(r"[A-Z_]+: (str|int|float|bool) = .+  # .+", line) for line in tagged[0].source.splitlines())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_papermill_reads_the_parameters(path):
    known = papermill.inspect_notebook(str(path))
    assert {"STORAGE", "INTERACTIVE"} <= known.keys()


def test_notebook_begins_with_its_badge_and_ends_with_troubleshooting(notebook):
    assert notebook.cells[0].cell_type == "markdown" and "colab-badge.svg" in notebook.cells[0].source
    assert notebook.cells[-1].cell_type == "markdown" and notebook.cells[-1].id == "troubleshooting"


def test_every_address_of_the_repository_is_the_constant():
    for path in address_files():
        text = path.read_text(encoding="utf-8")
        badges = re.findall(r"colab\.research\.google\.com/github/([\w.-]+/[\w.-]+)/blob", text)
        clones = re.findall(r"https://github\.com/([\w.-]+/[\w.-]+)\\?\"", text) if path.suffix == ".ipynb" else []
        clones += re.findall(r"git clone (?:\S+ )*https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?\s", text)
        assert set(badges + clones) <= {REPOSITORY}, path
        if path.suffix == ".ipynb":
            assert f"/github/{REPOSITORY}/blob/main/{path.relative_to(ROOT).as_posix()})" in text
            assert clones, f"{path} does not clone the repository on Colab"


# Storage


@pytest.fixture
def colab(monkeypatch, tmp_path):
    """A stand-in of google.colab; `mounts` lists the calls, `fails` is what mounting raises."""
    fake = types.SimpleNamespace(mounts=[], fails=None)

    def mount(place: str) -> None:
        fake.mounts.append(place)
        if fake.fails:
            raise fake.fails
        (tmp_path / "drive/MyDrive").mkdir(parents=True, exist_ok=True)

    module = types.ModuleType("google.colab")
    module.drive = types.SimpleNamespace(mount=mount)
    monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", module)
    monkeypatch.setattr(setup, "CONTENT", tmp_path)
    return fake


def test_elsewhere_the_storage_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert open_storage("", interactive=True).root == tmp_path / "outputs"
    assert open_storage(str(tmp_path / "other"), interactive=False).root == tmp_path / "other"


def test_colab_mounts_drive_and_keeps_scratch_local(colab, tmp_path):
    storage = open_storage("", interactive=True)
    assert storage.root == tmp_path / "drive/MyDrive/ergodic-scaling"
    assert storage.scratch == tmp_path / "scratch"
    assert colab.mounts == [str(tmp_path / "drive")]
    assert "they survive a disconnect" in start_report(storage, ["done", "new"])


def test_colab_without_drive_goes_on_locally_and_says_so(colab, tmp_path):
    colab.fails, lines = ValueError("mount failed"), []
    storage = open_storage("", interactive=True, report=lines.append)
    assert storage.root == tmp_path / "outputs"
    assert len(lines) == 1 and "mount failed" in lines[0]
    assert "do not survive a disconnect" in start_report(storage, ["new"])


def test_colab_never_mounts_for_a_program(colab, tmp_path):
    assert open_storage("", interactive=False).root == tmp_path / "outputs"
    with pytest.raises(ValueError, match="not mounted"):
        open_storage(str(tmp_path / "drive/MyDrive/mine"), interactive=False)
    assert colab.mounts == []


def test_start_report_has_four_lines(storage):
    lines = start_report(storage, ["done", "begun", "new"]).splitlines()
    assert [line.split(":")[0] for line in lines] == ["device", "precision", "results", "done"]
    assert lines[-1] == "done: 1 of the 3 runs of this preset, 1 begun"


# Picker, panel, results


def resolve(preset: str, k: int, seed: int) -> RunConfig:
    return find_preset("ergodic", preset).run(k, seed)


def test_picker_without_widgets_is_the_parameters():
    assert Picker(resolve, "smoke", 4, 1).config == resolve("smoke", 4, 1)


def test_picker_follows_its_widgets(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    picker = Picker(resolve, "smoke", 4, 7)
    picker.show("ergodic", (1, 2), lambda config: f"{config.run_id} <plan>")
    left, text = shown[0].children
    preset, k, seed = left.children
    assert (preset.value, k.value, seed.value) == ("smoke", 4, 7)
    assert resolve("smoke", 4, 7).run_id in text.value and "&lt;plan>" in text.value
    k.value, preset.value = 2, "demo"
    assert picker.config == resolve("demo", 2, 7)
    assert picker.config.run_id in text.value
    assert all(isinstance(widget, ipywidgets.Dropdown) for widget in left.children)


def test_picker_shows_why_a_run_is_not_possible(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)

    def describe(config: RunConfig) -> str:
        raise ValueError("k = 4, but the source has 3 components")

    Picker(resolve, "smoke", 4, 0).show("ergodic", (1,), describe)
    assert "not possible: k = 4" in shown[0].children[1].value


def test_panel_has_one_display_and_is_throttled(monkeypatch, tmp_path):
    shown, updates = [], []

    def display(content, **_):
        shown.append(content)
        return types.SimpleNamespace(update=lambda content, **_: updates.append(content))

    clock = iter(range(10_000))
    monkeypatch.setattr(panel, "display", display)
    monkeypatch.setattr(panel.time, "monotonic", lambda: next(clock) / 10)
    live = panel.LivePanel()
    live(Started(run_id="r", step=0, num_steps=100, num_tokens=1, device="cpu", precision="fp32"))
    live(Notice(text="a fallback"))
    for step in range(100):
        live(
            Logged(step=step, num_steps=100, tokens=1, loss=2.0, lr=1e-3, grad_norm=1.0, tokens_per_s=9, memory_bytes=1)
        )
    live(Finished(run_id="r", path=tmp_path))
    assert len(shown) == 1
    assert len(updates) == 5 + 1  # ten seconds of events, a refresh each two, and the end
    assert updates[-1]["text/plain"] == live.text
    assert "step 99/100" in live.text and "step 98" not in live.text and "a fallback" in live.text


def test_component_table_ends_with_the_mean():
    rows = [
        {"step": 9, "component": name, "xe": xe, "se": 0.1, "ppl": 2.0, "bayes_xe": 1.0, "xe_by_position": [xe] * 3,
         "bayes_xe_by_position": [1.0] * 3}
        for name, xe in (("a", 1.5), ("b", 2.5))
    ]  # fmt: skip
    early = [row | {"step": 1, "xe": 99.0} for row in rows]
    result = Result({"run_id": "r"}, early + rows, [{"step": 9, "xe": 2.0, "ppl": 7.4, "bayes_xe": 1.0}])
    table = component_table(result)
    assert list(table.index) == ["a", "b", "mean"]
    assert list(table["gap"]) == [0.5, 1.5, 1.0]
    assert png(position_figure(result)).startswith(b"\x89PNG")
    text = Result({"run_id": "r"}, [row | {"bayes_xe": None, "bayes_xe_by_position": None} for row in rows],
                  [{"step": 9, "xe": 2.0, "ppl": 7.4, "bayes_xe": None}])  # fmt: skip
    assert list(component_table(text).columns) == ["xe", "se", "ppl"]
    assert png(position_figure(text)).startswith(b"\x89PNG")
