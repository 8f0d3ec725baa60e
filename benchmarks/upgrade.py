"""A grid begun under an older transformers and ended under this one, against one that was not interrupted.

    python -m benchmarks.upgrade --version 5.0.0

transformers calls the output matrix `embed_out` there and `lm_head` here; files have names of ours. The older version
is installed with what it needs in other versions into a folder that only the first half of the grid sees.
"""

import argparse
import importlib.metadata
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from helpers.repository import ROOT
from helpers.runs.result_file import Result, read_result
from helpers.runs.sessions import changes, sessions

GRID = ["grid", "--preset", "smoke", "--only", "k=1,2", "--set", "train.steps=120", "--set", "execution.threads=1"]
CUT = ["--set", "execution.max_minutes=0.002", "--set", "execution.log_every_steps=10"]
WITH = ["tokenizers==0.22.2", "huggingface-hub==1.33.0"]
"""What transformers 5.0 asks for in versions that this project does not pin."""
MOST = 1e-6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--version", default="5.0.0")
    version = parser.parse_args().version
    with tempfile.TemporaryDirectory() as place:
        older, whole, cut = (Path(place) / name for name in ("older", "whole", "cut"))
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(older)]
        subprocess.run([*install, f"transformers=={version}", *WITH], check=True)
        run_grid(whole)
        run_grid(cut, *CUT, packages=older)
        run_grid(cut)
        return compare(results(whole), results(cut), version)


def run_grid(storage: Path, *options: str, packages: Path | None = None) -> None:
    """To its end, or as far as the options let it."""
    environment = os.environ | ({"PYTHONPATH": str(packages)} if packages else {})
    command = [sys.executable, "-m", "helpers", *GRID, *options, "--storage", str(storage)]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    said, is_cut = ended.stdout + ended.stderr, packages is not None
    if ended.returncode != int(is_cut) or ("stopped at step" in said) != is_cut:
        raise RuntimeError(f"the grid ended with code {ended.returncode}:\n{said}")


def results(storage: Path) -> dict[str, Result]:
    return {path.stem: read_result(path) for path in sorted(storage.glob("results/*.jsonl"))}


def compare(whole: dict[str, Result], cut: dict[str, Result], version: str) -> int:
    assert whole.keys() == cut.keys() and whole
    print(f"transformers {version}, then {importlib.metadata.version('transformers')}")
    worst = 0.0
    for run_id, expected in whole.items():
        result = cut[run_id]
        record = result.run["provenance"]
        begun = sessions(record)[0]
        assert begun["packages"]["transformers"] == version, f"begun under {begun['packages']}"
        assert begun["to_step"] > 0, f"no step under transformers {version}"
        difference = abs(result.summaries[-1]["xe"] - expected.summaries[-1]["xe"])
        same = result.run["weights_sha256"] == expected.run["weights_sha256"]
        print(f"{run_id}: XE differs by {difference:.1e}, weights {'equal' if same else 'differ'}; {changes(record)}")
        worst = max(worst, difference)
    return 0 if worst <= MOST else 1


if __name__ == "__main__":
    sys.exit(main())
