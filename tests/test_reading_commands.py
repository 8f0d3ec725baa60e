"""Commands that read make nothing, and what cannot be is said before anything is built; through `python -m helpers`."""

import pytest

from helpers.__main__ import main
from helpers.notebook.setup import open_storage
from helpers.storage import Storage


@pytest.mark.parametrize("command", ["status", "analyse", "eval --run x", "verify", "train --run x"])
def test_a_storage_that_does_not_exist_is_said_to_be_one_and_is_not_made(tmp_path, capsys, command):
    assert main([*command.split(), "--storage", str(tmp_path / "typo")]) == 2
    assert "typo" in capsys.readouterr().err
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize("command", ["status", "analyse"])
def test_a_folder_that_nothing_was_trained_into_stays_as_it_is(tmp_path, capsys, command):
    (tmp_path / "notes.txt").touch()
    assert main([command, "--storage", str(tmp_path)]) == 2
    assert "is a folder that nothing was trained into" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_plan_of_a_storage_that_is_not_there_says_so_and_makes_none(tmp_path, capsys):
    assert main(["plan", "--preset", "smoke", "--no-measure", "--storage", str(tmp_path / "new")]) == 0
    assert "new is not there yet, so every run is missing" in capsys.readouterr().out
    assert not (tmp_path / "new").exists()


def test_a_storage_that_lost_its_marker_is_still_read(tmp_path):
    (tmp_path / "results").mkdir()
    assert Storage.existing(tmp_path).root == tmp_path


def test_the_analysis_notebook_makes_no_storage(tmp_path):
    with pytest.raises(ValueError, match="typo' does not exist"):
        open_storage(str(tmp_path / "typo"), interactive=False, must_exist=True)
    assert list(tmp_path.iterdir()) == []


REFUSED = {
    "--set k=12": "k = 12 is not possible: synthetic has 11 components",
    "--set k=4 --set data.synthetic.num_components=3": "k = 4 is not possible: synthetic has 3 components",
    "--tokenizer train:300": "data.tokenizer has no part in a run with source = 'synthetic'",
    "--set data.max_papers_per_component=3": "max_papers_per_component has no part in a run with source = 'synthetic'",
    "--source arxiv --set data.synthetic.seed=3": "data.synthetic.seed has no part in a run with source = 'arxiv'",
    "--source tinystories": "k = 11 is not possible: tinystories has 1 component",
}


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (command, options)
        for command in ("plan --no-measure", "train", "fetch")
        for options, message in REFUSED.items()
        if command != "fetch" or "k =" not in message  # a cache is the same for every K
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_built(tmp_path, capsys, command, options):
    arguments = [*command.split(), "--preset", "demo", *options.split(), "--storage", str(tmp_path / "new")]
    assert main(arguments) == 2
    assert REFUSED[options] in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
