"""The notebooks as they are committed."""

import ast
import io
import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import nbformat
import papermill
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from packaging.requirements import Requirement

from helpers.repository import REPOSITORY, ROOT, address_files
from helpers.studies import STUDIES

NOTEBOOKS = sorted([*ROOT.glob("*.ipynb"), *ROOT.glob("studies/*.ipynb")])
MAX_CODE_CELLS, MAX_LINES = 15, 15
MAX_FUNCTION_LINES = 8
SETUP = ("setup-code", "set-up-code")
# What Colab's runtime of August 2026 has; the rest of requirements.txt is installed there.
COLAB = {
    "accelerate": "1.14", "datasets": "4.0.0", "huggingface_hub": "1.27", "ipykernel": "6.17.1", "ipywidgets": "7.7.1",
    "jupyter_client": "7.4.9", "matplotlib": "3.10.0", "nbclient": "0.10.4", "nbformat": "5.10.4", "numpy": "2.1.0",
    "pandas": "2.2.0", "psutil": "5.9.5", "pyarrow": "18.1.0", "safetensors": "0.8.0", "scipy": "1.16.0",
    "torch": "2.11.0", "tqdm": "4.67.0", "transformers": "5.15.0",
}  # fmt: skip

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
        tree = ast.parse(TransformerManager().transform_cell(cell.source))
        for node in ast.walk(tree):
            assert not isinstance(node, ast.ClassDef), cell.id
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < MAX_FUNCTION_LINES, cell.id


def test_notebook_metadata_name_kernel_and_gpu(notebook):
    assert notebook.metadata.kernelspec.name == "python3"
    if "accelerator" in notebook.metadata:
        assert notebook.metadata.accelerator == "GPU" and notebook.metadata.colab.gpuType == "T4"


def test_the_cells_that_other_parts_rely_on_have_their_names():
    for study in STUDIES:
        ids = [cell.id for cell in nbformat.read(ROOT / study.notebook, as_version=4).cells]
        assert {"parameters", "plan-code", "train-code", "board-code"} <= set(ids), study.notebook


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


# The set-up cell


@pytest.fixture
def set_up(notebook, monkeypatch, tmp_path):
    """Execute a notebook's set-up cell in an empty folder; the commands that it gave."""
    (source,) = [cell.source for cell in notebook.cells if cell.id in SETUP]
    commands = []

    def run(command, check):
        commands.append([str(word) for word in command])
        is_clone = "clone" in command
        if is_clone and "away" not in command[-2]:
            command[-1].mkdir()
        ended = subprocess.CompletedProcess(command, 128 if is_clone and "away" in command[-2] else 0)
        assert check == (not is_clone and Path(command[-1]).parent.is_dir())
        return ended

    def execute() -> list[list[str]]:
        exec(source, {})
        return commands

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(os, "popen", lambda command: io.StringIO())  # nothing answers
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    return execute


def test_off_colab_the_set_up_cell_says_where_a_notebook_without_the_project_belongs(set_up, tmp_path):
    with pytest.raises(FileNotFoundError, match="open this notebook in a clone of"):
        set_up()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("below", ["", "studies", "studies/mine"])
@pytest.mark.parametrize("on_colab", [False, True])
def test_the_set_up_cell_finds_the_project_from_wherever_in_it_the_kernel_starts(
    set_up, monkeypatch, tmp_path, below, on_colab
):
    if on_colab:
        monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    (tmp_path / "helpers").mkdir()
    (tmp_path / "helpers/repository.py").touch()
    (tmp_path / below).mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(tmp_path / below)
    assert set_up() == []
    assert Path.cwd() == tmp_path and sys.path[0] == str(tmp_path)


def test_on_colab_it_clones_the_repository_once_and_installs_what_is_missing(set_up, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    clone, install = set_up()
    assert clone[:5] == ["git", "clone", "-q", "--depth", "1"]
    assert clone[-2] == f"https://github.com/{REPOSITORY}" and clone[-1] == str(tmp_path / REPOSITORY.split("/")[1])
    assert install[1:] == ["-m", "pip", "install", "-q", "-r", f"{clone[-1]}/requirements.txt"]
    monkeypatch.chdir(tmp_path)
    assert set_up()[2:] == [install]  # the checkout is there


def sessions(owner_name: str, revision: str) -> io.StringIO:
    """What Colab's runtime lists for a notebook that was opened from GitHub, as users of it have found."""
    path = f"fileId=https://github.com/{owner_name}/blob/{revision}/analysis.ipynb".replace(":", "%3A")
    return io.StringIO(json.dumps([{"id": "1", "name": "", "path": path.replace("/", "%2F")}]))


@pytest.mark.parametrize("owner_name, revision", [("some-one/a.fork", "dev"), (REPOSITORY, "main")])
def test_on_colab_it_clones_what_the_notebook_was_opened_from(set_up, monkeypatch, tmp_path, owner_name, revision):
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    asked = []
    monkeypatch.setattr(os, "popen", lambda command: asked.append(command) or sessions(owner_name, revision))
    clone, _ = set_up()
    assert clone[-3:] == [revision, f"https://github.com/{owner_name}", str(tmp_path / owner_name.split("/")[1])]
    assert Path.cwd() == tmp_path / owner_name.split("/")[1]
    assert len(asked) == 1 and "curl -sm5 " in asked[0]  # five seconds at most


def test_on_kaggle_it_clones_too(set_up, monkeypatch, tmp_path):
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    clone, install = set_up()
    assert clone[-2:] == [f"https://github.com/{REPOSITORY}", str(tmp_path / REPOSITORY.split("/")[1])]
    assert install[-1] == f"{clone[-1]}/requirements.txt"


def test_on_colab_a_repository_that_cannot_be_cloned_ends_with_what_to_set(set_up, monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    monkeypatch.setattr(os, "popen", lambda command: sessions("any/away", "main"))
    with pytest.raises(FileNotFoundError, match=f"set ADDRESS, now https://github.com/{REPOSITORY}, or open this note"):
        set_up()


def test_every_notebook_is_set_up_alike():
    cells = [cell for path in NOTEBOOKS for cell in nbformat.read(path, as_version=4).cells if cell.id in SETUP]
    assert len(cells) == len(NOTEBOOKS) and len({cell.source for cell in cells}) == 1


def test_what_colab_has_satisfies_the_requirements():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    known = [requirement for requirement in requirements if requirement.name in COLAB]
    assert {requirement.name for requirement in known} == set(COLAB)
    for requirement in known:
        assert requirement.specifier.contains(COLAB[requirement.name]), f"pip would replace Colab's {requirement.name}"
