"""Errors in a notebook: three lines for ours, a full traceback for what no one foresaw, and a cell that fails either
way."""

import nbclient
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from helpers.config import RunConfig
from helpers.errors import is_foreseen, is_ours, three_lines
from helpers.outbox import StorageAway
from helpers.settings import apply_overrides


def raised(make) -> BaseException:
    with pytest.raises(BaseException) as caught:
        make()
    return caught.value


def test_three_lines_say_what_happened_what_was_kept_and_what_to_do():
    lines = three_lines(StorageAway("the storage is away")).splitlines()
    assert lines[0] == "the storage is away"
    assert lines[1].startswith("Kept: ") and lines[2].startswith("Next: run this cell again")
    assert three_lines(KeyboardInterrupt()).splitlines()[0] == "stopped"
    assert "change the setting" in three_lines(ValueError("k = 0 is not possible")).splitlines()[2]


def test_ours_are_the_errors_that_this_package_raises():
    ours = raised(lambda: RunConfig(study="ergodic", k=0))
    a_librarys = raised(lambda: nbformat.reads("{", as_version=4))
    assert is_ours(ours) and is_foreseen(ours)
    assert not is_ours(a_librarys) and not is_foreseen(a_librarys)
    assert not is_foreseen(
        raised(lambda: apply_overrides(RunConfig(study="ergodic"), None))
    )  # a TypeError: a fault of a caller
    assert is_foreseen(OSError(28, "No space left on device")) and is_foreseen(KeyboardInterrupt())


def test_a_kernel_shows_ours_short_and_others_whole_and_every_such_cell_fails():
    sources = {
        "install": "from helpers.notebook.errors import explain_errors\nexplain_errors()",
        "ours": "from helpers.config import RunConfig\nRunConfig(study='x', k=0)",
        "unforeseen": "1 / 0",
        "a library's": "int('x')",
        "stopped": "raise KeyboardInterrupt",
        "goes on": "print('still here')",
    }
    notebook = new_notebook(cells=[new_code_cell(source) for source in sources.values()])
    nbclient.NotebookClient(notebook, kernel_name="python3", allow_errors=True).execute()
    outputs = {name: cell.outputs for name, cell in zip(sources, notebook.cells, strict=True)}
    errors = {name: out for name in sources for out in outputs[name] if out.output_type == "error"}
    assert list(errors) == ["ours", "unforeseen", "a library's", "stopped"]
    assert (errors["ours"].ename, errors["ours"].evalue) == (
        "ValueError",
        raised(lambda: RunConfig(study="ergodic", k=0)).args[0],
    )
    assert [line.partition(" ")[0] for line in errors["ours"].traceback] == ["ValueError:", "Kept:", "Next:"]
    (folded,) = [out.data["text/html"] for out in outputs["ours"] if out.output_type == "display_data"]
    assert folded.startswith("<details>") and "require" in folded
    assert errors["stopped"].traceback[0] == "KeyboardInterrupt: stopped"
    for name in ("unforeseen", "a library's"):
        assert "Traceback" in "".join(errors[name].traceback) and len(outputs[name]) == 1
    assert outputs["goes on"][0].text == "still here\n"
