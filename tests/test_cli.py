"""The command line: exit codes, one-line errors, and what it does not import or touch."""

import subprocess
import sys
from pathlib import Path

import pytest

from helpers.__main__ import COMMANDS, main
from helpers.config import to_json
from helpers.data.fetch_arxiv import ensure_cache
from helpers.repository import REPOSITORY, ROOT, set_repository
from helpers.runs.config_file import config_path
from helpers.seals import publish_sealed
from helpers.storage import Storage
from helpers.studies import STUDIES, find_preset
from helpers.training import train_single_k
from tests.grid.fake_engine import use_fake
from tests.simulated_results import simulate_grid

TINY = [f"--set={field}" for field in ("train.steps=3", "train.warmup_steps=1", "eval.windows_per_component=2")]


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "helpers", *arguments], cwd=ROOT, capture_output=True, text=True)


def test_help_names_every_command_and_preset(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    for name in [*COMMANDS, *(preset for study in STUDIES for preset in study.presets)]:
        assert name in text


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["plan", "--preset", "nothing"], "preset = 'nothing' is unknown; the presets of ergodic are smoke, demo"),
        (["plan", "--study", "nothing"], "the studies are ergodic"),
        (["plan", "--set", "train.stepz=5"], "unknown field 'stepz'"),
        (["plan", "--set", "train.steps=many"], "expected a whole number or none"),
        (["plan", "--set", "train.steps"], "has no '='"),
        (["train", "--set", "k=0"], "k = 0 is not possible"),
        (["plan", "--cluster", "8"], "cluster = '8' is not possible; use NxCARD, such as 8xA100"),
        (["plan", "--shard", "3/2"], "shard = '3/2' is not possible; use i/n"),
        (["plan", "--preset", "smoke", "--shard", "1/9"], "the grid has 5 runs"),
        (["grid", "--shard", "half"], "shard = 'half' is not possible"),
        (["grid", "--workers", "0"], "workers = 0 is not possible"),
        (["grid", "--gpus", "1.5"], "gpus = 1.5 is not possible; use a whole number, or a part such as 0.5"),
        (["grid", "--gpus", "0.5"], "gpus = 0.5 is not possible with --engine local; use --engine ray"),
        (["grid", "--ray-address", "auto"], "--ray-address is not possible with --engine local"),
        (["grid", "--slurm", "partition=gpu"], "--slurm is not possible with --engine local; use --engine slurm"),
        (["eval", "--run", "../../etc"], "is not a name of a run"),
        (["train", "--preset", "smoke", "--set", "k=12"], "k = 12"),
        (
            ["train", "--preset", "smoke"],
            "5 runs of the grid are chosen; one is trained: add --only k=1, or give --run",
        ),
        (["train", "--run", "no-such-run"], "is neither planned in"),
        (["plan", "--only", "k=5"], "k is one of 1, 2, 4, 8, 11 in this preset"),
        (["plan", "--anchors-only"], "--anchors-only is not possible: this preset holds no runs out"),
        (
            ["plan", "--study", "activation", "--preset", "smoke", "--seed-deviation", "0.1"],
            "--seed-deviation is not possible",
        ),
        (["status", "--interval", "0"], "interval = 0 is not possible"),
        (["analyse"], "no result of study 'ergodic'"),
        (["analyse", "--study", "nothing"], "the studies are ergodic"),
        (["repository", "no-slash"], "is not of the form owner/name"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments, message, tmp_path, capsys):
    where = [] if arguments[0] == "repository" else ["--storage", str(tmp_path)]
    Storage.at(tmp_path)
    assert main([*arguments, *where]) == 2
    error = capsys.readouterr().err.splitlines()
    assert error[-1].startswith("error: ") and message in error[-1]
    assert not any("Traceback" in line for line in error)


def test_unwritable_storage_is_wrong_usage(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["plan", "--storage", str(tmp_path / "file")]) == 2
    assert "is a file; use a folder" in capsys.readouterr().err
    assert main(["fetch", "--preset", "smoke", "--storage", str(tmp_path / "file")]) == 2
    assert "cannot be written to" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["grid", "--ks", "1,2"], "chosen by --only k=VALUES, such as --only k=1,4"),
        (["plan", "--seed=1"], "chosen by --only seed=VALUES"),
        (["plan", "--preset", "papr"], "did you mean paper?"),
        (["plan", "--study", "ergodc"], "did you mean ergodic?"),
        (["plan", "--set", "train.step=5"], "did you mean steps?"),
        (["plan", "--only", "seeds=1"], "did you mean seed?"),
    ],
)
def test_what_was_nearly_meant_is_said(arguments, said, capsys):
    try:
        code = main(arguments)
    except SystemExit as end:
        code = end.code
    assert code == 2 and said in capsys.readouterr().err


def test_help_has_examples_and_exit_codes(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "Exit codes: 0 done, 1 failed or not complete, 2 wrong usage." in shown
    assert "python -m helpers grid --preset demo --workers 2 --storage outputs" in shown


def test_unknown_option_is_wrong_usage(capsys):
    with pytest.raises(SystemExit) as end:
        main(["plan", "--nothing", "1"])
    assert end.value.code == 2


def test_plan_lists_the_runs_without_importing_torch(tmp_path):
    code = (
        "import sys; from helpers.__main__ import main; "
        f"assert main(['plan', '--preset', 'paper', '--no-measure', '--storage', {str(tmp_path)!r}]) == 0; "
        "assert not {'torch', 'transformers', 'papermill'} & sys.modules.keys()"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "60 runs: 0 done, 60 to do" in ended.stdout
    assert "25.6 epochs of 100 M" in ended.stdout


def test_plan_of_a_shard_lists_its_runs(tmp_path, capsys):
    arguments = ["plan", "--preset", "demo", "--no-measure", "--storage", str(tmp_path), "--shard"]
    listed = []
    for shard in ("1/2", "2/2"):
        assert main([*arguments, shard]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert "15 runs: 0 done, 15 to do" in lines
        listed += [tuple(line.split()[1:3]) for line in lines if line.startswith("grid ")]
    assert sorted(listed) == sorted((str(k), str(seed)) for k in (1, 2, 4, 8, 11) for seed in (0, 1))


def test_train_and_eval_end_with_0_and_name_the_result(tmp_path, capsys):
    storage = ["--storage", str(tmp_path)]
    train = ["train", "--preset", "smoke", "--only", "k=2", *TINY, *storage]
    assert main(train) == 0
    told = capsys.readouterr().out
    path = Path(told.splitlines()[-1])
    assert path.exists()
    code = (
        f"import sys; from helpers.__main__ import main; assert main({train}) == 0; assert 'torch' not in sys.modules"
    )
    again = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines() == told.splitlines()[-2:], "of a done run, the end alone"
    assert main(["eval", "--run", path.stem, *storage]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(path)


def test_fetch_builds_the_cache_that_plan_then_reads(tmp_path, capsys):
    arguments = ["--preset", "smoke", "--storage", str(tmp_path)]
    assert main(["fetch", *arguments]) == 0
    assert "11 components, 33 token ids" in capsys.readouterr().out
    assert main(["plan", *arguments]) == 0
    assert "after fetch" not in capsys.readouterr().out


def test_a_divergence_ends_with_1_and_one_line(tmp_path, capsys):
    arguments = ["--set", "train.peak_lr=1e9", "--set", "execution.log_every_steps=1", "--storage", str(tmp_path)]
    assert main(["train", "--preset", "smoke", "--only", "k=1", *arguments]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize("error, code", [(OSError(28, "No space left on device"), 1), (KeyboardInterrupt(), 1)])
def test_failures_of_the_machine_end_with_1(error, code, tmp_path, monkeypatch, capsys):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(train_single_k, "train_single_k", fail)
    assert main(["train", "--preset", "smoke", "--only=k=1", "--storage", str(tmp_path)]) == code
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_an_unforeseen_error_keeps_its_traceback(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("a fault of a library")

    monkeypatch.setattr(train_single_k, "train_single_k", fail)
    with pytest.raises(RuntimeError, match="a fault of a library"):
        main(["train", "--preset", "smoke", "--only=k=1", "--storage", str(tmp_path)])


def test_a_failed_run_makes_the_grid_end_with_1(tmp_path, monkeypatch, capsys):
    use_fake(monkeypatch, lambda job: "the card fell off the bus")
    assert main(["grid", "--preset", "smoke", "--storage", str(tmp_path)]) == 1
    output = capsys.readouterr().out
    assert "the card fell off the bus" in output and "0 done, 5 failed, 0 left" in output


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["status", "--interval", "0"], 2, "interval = 0 is not possible"),
        (["train", "--preset", "smoke"], 2, "5 runs of the grid are chosen"),
        (["analyse"], 2, "no result of study 'ergodic'"),
        (["eval", "--run", "x"], 2, "run = 'x' is not planned in"),
    ],
)
def test_exit_codes_are_those_of_the_process(arguments, code, message, tmp_path):
    """Through `python -m helpers`, where the module that raises is named __main__."""
    Storage.at(tmp_path)
    ended = run(*arguments, "--storage", str(tmp_path))
    assert (ended.returncode, "Traceback" in ended.stderr) == (code, False), ended.stderr
    assert message in ended.stderr.splitlines()[-1]


@pytest.mark.parametrize("address", ["git@github.com:some-one/a.project.git", "https://github.com/some-one/a.project"])
def test_repository_is_set_everywhere_from_the_remote(address, tmp_path):
    (tmp_path / "helpers").mkdir()
    places = {
        "helpers/repository.py": 'REPOSITORY = "OWNER/NAME"\n',
        "README.md": "https://colab.research.google.com/github/OWNER/NAME/blob/main/a.ipynb, not OWNER/NAME alone",
        "a.ipynb": "git clone https://github.com/OWNER/NAME and https://github.com/OWNER/NAMESAKE",
    }
    for name, text in places.items():
        (tmp_path / name).write_text(text)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    with pytest.raises(ValueError, match="no git remote 'origin'"):
        set_repository(root=tmp_path)
    subprocess.run(["git", "-C", str(tmp_path), "remote", "add", "origin", address], check=True)
    assert len(set_repository(root=tmp_path)) == 3
    assert (tmp_path / "helpers/repository.py").read_text() == 'REPOSITORY = "some-one/a.project"\n'
    assert "github/some-one/a.project/blob" in (tmp_path / "README.md").read_text()
    assert "not OWNER/NAME alone" in (tmp_path / "README.md").read_text()
    assert (tmp_path / "a.ipynb").read_text().endswith("github.com/OWNER/NAMESAKE")
    assert len(set_repository("an/other", root=tmp_path)) == 3
    assert set_repository("an/other", root=tmp_path) == []


def test_repository_is_a_name_of_the_right_form():
    assert REPOSITORY.count("/") == 1


def test_a_part_of_a_preset_is_chosen_by_its_axes(tmp_path, capsys):
    arguments = ["plan", "--preset", "demo", "--only", "k=2,8", "--only", "seed=1", "--no-measure"]
    assert main([*arguments, "--storage", str(tmp_path)]) == 0
    rows = [line.split()[:3] for line in capsys.readouterr().out.splitlines() if line.startswith("grid")]
    assert rows == [["grid", "2", "1"], ["grid", "8", "1"]]


def test_a_run_is_trained_by_its_name_from_the_preset_or_from_where_it_is_planned(tmp_path, capsys):
    storage = Storage.at(tmp_path)
    tiny = find_preset("ergodic", "smoke", overrides=[field.removeprefix("--set=") for field in TINY])
    config = tiny.at(k=2, seed=0)
    where = ["--storage", str(tmp_path)]
    assert main(["train", "--preset", "smoke", "--run", config.run_id, *TINY, *where]) == 0
    assert storage.result(config.run_id).exists()
    planned = tiny.at(k=1, seed=8)  # of no preset's grid
    publish_sealed(config_path(storage, planned.run_id), {"config": to_json(planned)})
    assert main(["train", "--run", planned.run_id, "--set", "execution.log_every_steps=1", *where]) == 0
    assert storage.result(planned.run_id).exists()
    capsys.readouterr()
    assert main(["train", "--run", planned.run_id, "--set", "train.steps=4", *where]) == 2
    assert "--set changes what run" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["plan", "--no-measure"], ["status"]])
def test_looking_loads_no_library_that_takes_seconds(command, tmp_path):
    """Not on a fresh storage, and not on one with a cache and results."""
    storage = Storage.at(tmp_path)
    simulate_grid(storage, ks=(1, 2), seeds=(0,))
    ensure_cache(find_preset("ergodic", "demo").config.data, storage, report=lambda text: None)
    code = (
        "import sys; from helpers.__main__ import main; "
        f"assert main([*{command!r}, '--storage', {str(tmp_path)!r}]) == 0; "
        "assert not {'torch', 'transformers', 'pandas', 'scipy', 'datasets', 'papermill'} & sys.modules.keys()"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
