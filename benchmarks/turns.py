"""Works that take turns: each in a process of its own, on one core, so that what else runs slows all of them alike.

A side is a script that answers every line of its standard input by doing its work once and printing the CPU seconds.
The ratio of two sides is the median over rounds of the ratio within a round.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BASE = "4e16584"
"""The revision that this one is compared with."""


@contextlib.contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """The files of a revision of this repository, in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        files = subprocess.run(["git", "archive", revision], cwd=ROOT, check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=files, check=True)
        yield Path(folder)


def environment(root: Path) -> dict[str, str]:
    """That of a process which imports the `helpers` of `root`, with one thread."""
    path = os.pathsep.join((str(root), str(ROOT / "benchmarks")))
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "TRANSFORMERS_VERBOSITY": "error"}


def take_turns(
    sides: Mapping[str, tuple[Sequence[str], Path]], rounds: int, warm_up: int = 1
) -> list[dict[str, dict[str, float]]]:
    """What each side, (command, root of its build), printed in each round, after rounds that do not count."""
    core = min(os.sched_getaffinity(0))
    processes = {
        name: subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(root),
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )
        for name, (command, root) in sides.items()
    }  # fmt: skip
    try:
        found = [{name: _turn(name, process) for name, process in processes.items()} for _ in range(warm_up + rounds)]
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
    return found[warm_up:]


def _turn(name: str, process: subprocess.Popen) -> dict[str, float]:
    process.stdin.write("turn\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"side {name} ended with code {process.wait()}")
    return json.loads(line)


def answer(work: Callable[[], object], measures: Callable[[], Mapping[str, float]] = dict) -> None:
    """Be a side: do `work` once for each turn."""
    while wait_for_turn():
        began = time.process_time()
        work()
        end_turn(time.process_time() - began, measures())


def wait_for_turn() -> bool:
    return bool(sys.stdin.readline())


def end_turn(cpu_s: float, others: Mapping[str, float]) -> None:
    print(json.dumps({"cpu_s": cpu_s, **others}), flush=True)


def median(rounds: list[dict[str, dict[str, float]]], side: str, measure: str = "cpu_s") -> float:
    return statistics.median(found[side][measure] for found in rounds)


def ratio(rounds: list[dict[str, dict[str, float]]], other: str, ours: str = "ours", measure: str = "cpu_s") -> float:
    """How many times as long `other` takes."""
    return statistics.median(found[other][measure] / found[ours][measure] for found in rounds)
