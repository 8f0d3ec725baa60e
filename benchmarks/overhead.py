"""What a run costs beside its steps, and what commands cost that train nothing, here and of an earlier build.

    python -m benchmarks.overhead --rounds 5

A run in a grid: the preset smoke with two steps a run and the smallest evaluation, less `analyse` of the same storage,
which a grid ends with. Commands are timed on a storage in which one run of smoke is done. The builds take turns.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.turns import BASE, ROOT, checkout, environment

RUNS = 5  # of the preset
SHORT = [f"--set={field}" for field in ("train.steps=2", "train.warmup_steps=1", "eval.windows_per_component=2")]
PRESET = ["--preset", "smoke"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--base", default=BASE, help="a revision of this repository")
    options = parser.parse_args()
    with checkout(options.base) as base, tempfile.TemporaryDirectory() as place:
        builds = {"here": ROOT, options.base: base}
        for name, root in builds.items():
            cpu_s(root, train_of(root), Path(place) / name)
        rounds = [
            {name: measure(root, Path(place) / name, Path(place) / f"{name}-{turn}") for name, root in builds.items()}
            for turn in range(options.rounds)
        ]
    for work in rounds[0]["here"]:
        own = statistics.median(found["here"][work] for found in rounds)
        share = statistics.median(found["here"][work] / found[options.base][work] for found in rounds)
        print(f"{work:24} {own:6.2f} CPU s, {share:.2f} of {options.base}")


def measure(root: Path, done: Path, grid: Path) -> dict[str, float]:
    """CPU seconds of each work."""
    commands = {
        "--help": ["--help"],
        "status": ["status", *PRESET, f"--storage={done}"],
        "plan --no-measure": ["plan", "--no-measure", *PRESET, f"--storage={done}"],
        "train of a done run": [*train_of(root), f"--storage={done}"],
    }
    found = {name: cpu_s(root, command) for name, command in commands.items()}
    whole = cpu_s(root, ["grid", *PRESET, *SHORT, f"--storage={grid}"])
    return found | {"a run in a grid": (whole - cpu_s(root, ["analyse", f"--storage={grid}"])) / RUNS}


def train_of(root: Path) -> list[str]:
    """One run of smoke; earlier builds name its axes by options of their own."""
    one = (
        ["--only=k=1", "--only=seed=0"] if (root / "helpers/studies/run_preset.py").exists() else ["--k=1", "--seed=0"]
    )
    return ["train", *PRESET, *one, *SHORT]


def cpu_s(root: Path, command: list[str], storage: Path | None = None) -> float:
    """Of a command and all processes that it waits for. CalledProcessError if it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    arguments = [*command, f"--storage={storage}"] if storage else command
    subprocess.run(
        [sys.executable, "-m", "helpers", *arguments], cwd=root, env=environment(root), check=True, capture_output=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
