"""What comes from elsewhere (a storage from someone else, names in data, a notebook) executes nothing, leaves no folder
that it was given, and shows as the text that it is."""

import ast
import dataclasses
import json
import os
import pickle
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from IPython.core.inputtransformer2 import TransformerManager
from markdown_it import MarkdownIt

from helpers.__main__ import main
from helpers.analysis.tables import markdown
from helpers.config import DataConfig, ExecutionConfig, RunConfig
from helpers.data.cache_id import cache_id
from helpers.data.fetch_arxiv import ensure_cache
from helpers.data.token_cache import MANIFEST, open_cache, read_manifest
from helpers.grid.notebook_job import Job
from helpers.grid.plan import plan_grid
from helpers.outbox import Outbox
from helpers.repository import ROOT
from helpers.runs.events import Saved
from helpers.runs.result_file import read_result, write_result
from helpers.seals import publish_sealed, read_sealed
from helpers.storage import Storage
from helpers.studies.ergodic.analyse import analyse
from helpers.studies.ergodic.results import load_results
from helpers.studies.ergodic.tables import HEADINGS
from helpers.training.evaluate_again import evaluate_again
from helpers.training.train_single_k import train_single_k
from tests.simulated_results import COMPONENTS, flat_curves, run_config, simulate_grid, write_run

NAMES_THAT_LEAD_OUT = [
    "../../etc",
    "..",
    ".",
    "",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "~",
    ".hidden",
    "a\0b",
    "a\nb",
    "ä",
    "a b",
]
HOSTILE_TEXTS = [
    "<script>alert(1)</script>", "a|b", "a\nb\n\n# title", "](javascript:alert(1))", "[x](javascript:y)", "../../x",
    "$\\frac{1}{2}$", "`code`", "**bold**", "&lt;b&gt;", "日本語/ß", "<img src=x onerror=y>", "a\\|b",
]  # fmt: skip


class Execute:
    """Unpickling it creates the file `marker`."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Storage, RunConfig]:
    """A finished run with every file that a run leaves, made while a secret lay in the environment."""
    config = tiny()
    storage = Storage.at(tmp_path_factory.mktemp("finished"))
    os.environ["A_TOKEN"] = "hf_" + "secret" * 5
    try:
        train_single_k(config, storage, ())
    finally:
        del os.environ["A_TOKEN"]
    return storage, config


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> tuple[Storage, RunConfig]:
    """A run that was stopped at its first checkpoint."""
    config, storage = tiny(), Storage.at(tmp_path_factory.mktemp("begun"))

    def stop(event) -> None:
        if isinstance(event, Saved):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_single_k(config, storage, [stop])
    assert storage.checkpoint_steps(config.run_id) == [2]
    return storage, config


def tiny() -> RunConfig:
    config = RunConfig(
        study="ergodic", k=2, execution=ExecutionConfig(threads=1, snapshot_every_steps=2, storage_patience_minutes=0)
    )
    synthetic = dataclasses.replace(config.data.synthetic, num_components=3, papers_per_component=4, paper_tokens=300)
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, synthetic=synthetic),
        model=dataclasses.replace(config.model, size="tiny"),
        train=dataclasses.replace(config.train, steps=4, warmup_steps=1, batch_size=8),
        eval=dataclasses.replace(config.eval, windows_per_component=4),
    )


# Nothing that is read can execute code

FORBIDDEN_MODULES = {"pickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "yaml", "runpy", "code"}
FORBIDDEN_CALLS = {
    "eval", "exec", "compile", "__import__", "torch.load", "torch.jit.load", "pd.read_pickle", "pandas.read_pickle",
    "os.system", "os.popen", "importlib.import_module", "np.fromregex",
}  # fmt: skip
FORBIDDEN_ARGUMENTS = {"allow_pickle", "shell", "trust_remote_code", "weights_only"}


def package_sources() -> list[tuple[str, str]]:
    """Name and text of every module of the package, and of the code of every notebook."""
    modules = [(str(path), path.read_text(encoding="utf-8")) for path in sorted((ROOT / "helpers").rglob("*.py"))]
    notebooks = [*ROOT.glob("*.ipynb"), *ROOT.glob("studies/*.ipynb")]
    for path in notebooks:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        modules.append((str(path), TransformerManager().transform_cell("\n".join(code))))  # magics as calls
    return modules


def dangers(source: str) -> list[str]:
    """What in `source` could execute what it reads."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in FORBIDDEN_MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in FORBIDDEN_MODULES:
            found.append(node.module)
        elif isinstance(node, ast.Call):
            name, is_constant = ast.unparse(node.func), all(isinstance(given, ast.Constant) for given in node.args)
            found += [name] if name in FORBIDDEN_CALLS and not (name == "os.popen" and is_constant) else []
            found += [keyword.arg for keyword in node.keywords if keyword.arg in FORBIDDEN_ARGUMENTS]
    return found


def test_no_module_or_notebook_loads_code():
    sources = package_sources()
    assert len(sources) > 50
    assert {name: found for name, source in sources if (found := dangers(source))} == {}


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from joblib import load", "torch.load(path)", "np.load(path, allow_pickle=True)", "eval(text)",
     "exec(text)", "import yaml", "subprocess.run(command, shell=True)", "import dill as d", "pd.read_pickle(path)"],
)  # fmt: skip
def test_the_search_for_such_code_finds_it(source):
    assert dangers(source)


@pytest.mark.parametrize("state", ["finished", pytest.param("begun", marks=pytest.mark.slow)])
def test_a_pickle_in_place_of_any_file_is_not_executed(state, tmp_path, request):
    made, config = request.getfixturevalue(state)
    marker = tmp_path / "executed"
    poison = pickle.dumps(Execute(marker))
    pickle.loads(poison)
    marker.rmdir()  # the poison works
    for source in sorted(path for path in made.root.rglob("*") if path.is_file()):
        copy = Storage.at(copied(made, tmp_path / "storage"))
        (copy.root / source.relative_to(made.root)).write_bytes(poison)
        read_everything(copy, config)
        assert not marker.exists(), source
        remove(copy.root)


def copied(storage: Storage, target: Path) -> Path:
    for path in storage.root.rglob("*"):
        if path.is_file():
            (target / path.relative_to(storage.root)).parent.mkdir(parents=True, exist_ok=True)
            (target / path.relative_to(storage.root)).write_bytes(path.read_bytes())
    return target


def remove(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


def read_everything(storage: Storage, config: RunConfig) -> None:
    """Through every loader; a damaged file is an error of ours or is made again."""
    steps = [
        lambda: load_results(storage),
        lambda: plan_grid([config], storage, axes=("k", "seed")),
        lambda: evaluate_again(config, storage, subscribers=()),
        lambda: train_single_k(config, storage, ()),
    ]
    for step in steps:
        try:
            step()
        except (ValueError, RuntimeError) as error:
            assert str(error), "an error has words"


# No name leads out of the storage


@pytest.mark.parametrize("name", NAMES_THAT_LEAD_OUT)
def test_no_place_in_the_storage_has_such_a_name(name, storage):
    for place in (
        storage.run, storage.result, storage.cache, storage.notebook, storage.checkpoints, storage.flat_tokens,
        storage.tensorboard, storage.outbox, storage.lock, lambda name: storage.checkpoint(name, 1),
        lambda name: storage.snapshot(name, 1),
    ):  # fmt: skip
        if place == storage.result and name == "":
            continue  # results/.jsonl is refused below, by its leading dot
        with pytest.raises(ValueError, match="is not a name of a run, cache or file"):
            place(name)
    for place in (storage.result, storage.figure, storage.table):
        with pytest.raises(ValueError, match="is not a name of a run, cache or file"):
            place(name)


@pytest.mark.parametrize("name", ["../../etc", "/etc/passwd", "..", "a/../../b"])
def test_the_command_line_takes_no_such_run(name, tmp_path, capsys):
    Storage.at(tmp_path / "storage")
    assert main(["eval", "--run", name, "--storage", str(tmp_path / "storage")]) == 2
    assert f"{name!r} is not a name" in capsys.readouterr().err.replace(".jsonl", "")


@pytest.mark.parametrize("place", ["run", "checkpoints", "result", "cache"])
def test_a_link_out_of_the_storage_is_not_followed(place, storage, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept").touch()
    link = getattr(storage, place)("name")
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "outside")
    with pytest.raises(ValueError, match=r"is a link that leads out of the storage .*; remove it"):
        getattr(storage, place)("name")
    assert (tmp_path / "outside" / "kept").exists()


def test_a_result_that_is_a_link_out_of_the_storage_is_left_out(storage, tmp_path):
    simulate_grid(storage, ks=(1, 2), seeds=(0,))
    other = Storage.at(tmp_path / "other")
    elsewhere = write_run(other, run_config(1, 5), flat_curves({COMPONENTS[0]: 9.0}))
    (storage.results() / elsewhere.name).symlink_to(elsewhere)
    os.mkfifo(storage.results() / "pipe.jsonl")
    results = load_results(storage)
    assert len(results.runs) == 2
    assert sorted(results.left_out) == [
        f"{elsewhere.name}: is a link that leads out of the storage",
        "pipe.jsonl: is a directory or a device, not a file",
    ]


def test_an_outbox_delivers_nothing_out_of_the_storage(storage, tmp_path):
    outbox = Outbox(storage=storage, run_id="run", report=lambda text: None)
    storage.outbox("run").mkdir(parents=True)
    (storage.outbox("run") / "..@escaped").write_text("x")
    assert outbox.deliver(), "a hidden file is none of its own"
    for name in ("runs@..@..@escaped", "runs@@escaped", "runs@run@config json"):
        (storage.outbox("run") / name).write_text("x")
        with pytest.raises(ValueError, match="is not a name"):
            outbox.deliver()
        (storage.outbox("run") / name).unlink()
    assert not list(tmp_path.rglob("escaped"))


@pytest.mark.parametrize("cache_name", ["../../x", "/x", 5, None, ["a"]])
def test_a_result_cannot_name_a_cache_elsewhere(finished, cache_name, tmp_path):
    made, config = finished
    storage = Storage.at(copied(made, tmp_path / "storage"))
    result = read_result(storage.result(config.run_id))
    result.run["provenance"]["cache_id"] = cache_name
    write_result(storage.result(config.run_id), result)
    with pytest.raises(ValueError, match="is done, but on other data"):
        evaluate_again(config, storage)


@pytest.mark.parametrize(
    "file", ["../../outside.parquet", "/etc/passwd", "train/../../../outside.parquet", "a\0b", "."]
)
@pytest.mark.parametrize("of", ["parts", "files"])
def test_a_manifest_cannot_name_a_file_outside_of_its_cache(storage, tiny_config, file, of):
    cache = ensure_cache(tiny_config.data, storage)
    manifest = read_sealed(cache.folder / MANIFEST)
    if of == "parts":
        manifest["splits"]["train"]["parts"][0]["file"] = file
    else:
        manifest["files"][file] = {"bytes": 1, "sha256": "0"}
    publish_sealed(cache.folder / MANIFEST, manifest)
    for read in (open_cache, read_manifest):
        with pytest.raises(ValueError, match=r"names the file .* outside of its folder; nothing was read. Delete"):
            read(storage, cache.cache_id)
    with pytest.raises(ValueError, match="outside of its folder"):
        ensure_cache(tiny_config.data, storage)


@pytest.mark.parametrize("link", ["train", "train/part-00000.parquet", "index.parquet"])
def test_a_cache_is_not_read_through_a_link_out_of_it(storage, tiny_config, link, tmp_path):
    cache = ensure_cache(tiny_config.data, storage)
    (cache.folder / link).rename(tmp_path / "outside")
    (cache.folder / link).symlink_to(tmp_path / "outside")
    with pytest.raises(ValueError, match="outside of its folder"):
        open_cache(storage, cache.cache_id)


def test_a_cache_is_not_written_through_a_link_out_of_it(storage, tiny_config, tmp_path):
    (tmp_path / "outside").mkdir()
    folder = storage.cache(cache_id(tiny_config.data))
    folder.mkdir(parents=True)
    (folder / "train").symlink_to(tmp_path / "outside")
    with pytest.raises(ValueError, match="is a link, and a cache is not written through one"):
        ensure_cache(tiny_config.data, storage)
    assert list((tmp_path / "outside").iterdir()) == []


@settings(derandomize=True, deadline=None, max_examples=200)
@given(
    study=st.text(max_size=80),
    source=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=80) | st.sampled_from(HOSTILE_TEXTS),
    components=st.lists(st.text(min_size=1) | st.sampled_from(HOSTILE_TEXTS), max_size=3, unique=True).map(tuple),
)
def test_a_run_id_is_a_file_name_whatever_the_names_are(study, source, components):
    data = DataConfig(source=source, components=components)
    try:
        run_id = RunConfig(study=study, k=max(1, len(components)), data=data).run_id
    except UnicodeEncodeError:
        return  # lone surrogates: no config that is read from text or JSON holds them
    assert Path(run_id).name == run_id and run_id.isascii() and not set(run_id) & set('/\\:*?"<>| \n\0')


# Notebooks


def test_only_the_repositorys_notebooks_are_executed(storage, tmp_path):
    foreign = tmp_path / "analysis.ipynb"
    foreign.write_bytes((ROOT / "analysis.ipynb").read_bytes())
    inside_outputs = storage.notebook("name")
    inside_outputs.parent.mkdir()
    inside_outputs.write_bytes(foreign.read_bytes())
    linked = tmp_path / "linked"
    linked.symlink_to(ROOT)
    Job(name="analysis", notebook=linked / "analysis.ipynb", parameters={}, storage=storage)
    for notebook in (foreign, inside_outputs, ROOT / ".." / "analysis.ipynb", linked / ".." / "analysis.ipynb"):
        with pytest.raises(ValueError, match="is not one of the repository's"):
            Job(name="analysis", notebook=notebook, parameters={}, storage=storage)


# Text from data shows as itself


@pytest.mark.parametrize("text", HOSTILE_TEXTS)
def test_names_are_escaped_in_markdown_tables(text):
    """Rendered by a Markdown library, the cell shows the name (its whitespace as single spaces) and no markup."""
    table = markdown(pd.DataFrame({"component": [text, "plain"], "k": [1, 2]}), HEADINGS)
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(table)
    cells = [token for token in tokens if token.type == "inline"]
    assert [len(cells), cells[4].content] == [6, "plain"]
    shown = cells[2]
    assert {child.type for child in shown.children} <= {"text", "text_special"}
    assert "".join(child.content for child in shown.children) == " ".join(text.split())


@pytest.mark.slow
def test_hostile_names_go_through_the_whole_analysis(storage):
    """As components, as a source whose name is in every caption and file name, and in a file that is left out."""
    names = HOSTILE_TEXTS[:4]
    config = run_config(len(names), 0, source="papers/$\\frac{<b>|`x`", components=tuple(names))
    for order in (0, 1):
        write_run(storage, dataclasses.replace(config, seed=order), flat_curves(dict.fromkeys(names, 2.0)))
    simulate_grid(storage, ks=(1, 2), seeds=(0, 1, 2))
    (storage.results() / "<img src=x>.jsonl").write_text("{}")
    made = analyse(storage)
    assert all(path.resolve().is_relative_to(storage.root) for path in made)
    assert len([path for path in made if "frac" in path.name and path.suffix == ".png"]) == 3  # no run is matched
    text = "".join(path.read_text(encoding="utf-8") for path in made if path.suffix == ".md")
    assert "<img" not in text and "<script" not in text and "&lt;img" in text and "&lt;script" in text


# Secrets


def test_no_file_of_a_run_holds_the_environment(finished):
    storage, _ = finished
    files = [path for path in storage.root.rglob("*") if path.is_file()]
    assert {"provenance.json", "manifest.json", "tokens.bin"} <= {path.name for path in files}
    assert any("tfevents" in path.name for path in files) and any(path.suffix == ".safetensors" for path in files)
    for path in files:
        assert b"secretsecret" not in path.read_bytes() and b"A_TOKEN" not in path.read_bytes(), path


def test_trackers_are_told_the_runs_name_and_its_metrics_only(tiny_config, storage, monkeypatch):
    told = []
    monkeypatch.setattr("accelerate.Accelerator.init_trackers", lambda self, *args, **more: told.append((args, more)))
    train_single_k(tiny_config, storage, ())
    assert told == [((tiny_config.run_id,), {})]
