"""What an engine adds to a run, and what a second worker gains; on a machine that does nothing else.

python -m benchmarks.engines overhead --runs 4     # seconds a run beside its child process alone, in turn
python -m benchmarks.engines workers               # the demo grid: one worker with two threads, two with one each
"""

import argparse
import dataclasses
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.soak import ENGINES, Grid
from helpers.config import RunConfig, to_json
from helpers.data.fetch_arxiv import ensure_cache
from helpers.grid.engines import Engine
from helpers.grid.notebook_job import Job, execute, thread_share
from helpers.repository import ROOT
from helpers.runs.config_file import config_path
from helpers.seals import publish_sealed
from helpers.settings import apply_overrides
from helpers.storage import Storage


def overhead(engines: list[str], runs: int) -> None:
    """Print the seconds that each engine takes to begin, and those that it adds to a run of five steps."""
    config = apply_overrides(Grid(runs=1).preset.grid[0], ["train.steps=5"])
    for name in engines:
        began = time.perf_counter()
        engine = dataclasses.replace(ENGINES[name], workers=1).open(report=lambda line: None)
        ready_s = time.perf_counter() - began
        alone, through = [], []
        for _ in range(runs + 1):  # the first warms the caches of the disk, and is not counted
            alone.append(_timed(config, partial(execute, environment=thread_share(1))))
            through.append(_timed(config, partial(_through, engine)))
        engine.stop()
        added = median(more - less for more, less in zip(through[1:], alone[1:], strict=True))
        print(f"{name}: ready after {ready_s:.1f} s; a run {median(alone[1:]):.1f} s alone, {added:+.2f} s through it "
              f"(median of {runs})", flush=True)  # fmt: skip


def _timed(config: RunConfig, run: Callable[[Job], object]) -> float:
    """Seconds of the run in a fresh storage with its cache."""
    folder = Path(tempfile.mkdtemp(prefix="engines-"))
    storage = Storage.at(folder)
    ensure_cache(config.data, storage, report=lambda line: None)
    publish_sealed(config_path(storage, config.run_id), {"config": to_json(config)})
    parameters = {"RUN": config.run_id, "STORAGE": str(folder), "INTERACTIVE": False}
    job = Job(name=config.run_id, notebook=ROOT / "ergodic_scaling.ipynb", parameters=parameters, storage=storage)
    began = time.perf_counter()
    run(job)
    seconds = time.perf_counter() - began
    assert storage.result(config.run_id).exists()
    shutil.rmtree(folder)
    return seconds


def _through(engine: Engine, job: Job) -> None:
    engine.start([job])
    while not engine.wait(1.0):
        pass


def workers(rounds: int) -> None:
    """Print how much faster the demo grid ends with two workers of a thread than with one of two, in turn."""
    seconds: dict[tuple[int, int], list[float]] = {(1, 2): [], (2, 1): []}
    for _ in range(rounds):
        for (num_workers, threads), measured in seconds.items():
            with tempfile.TemporaryDirectory() as folder:
                words = ["--preset", "demo", "--storage", folder]
                subprocess.run([sys.executable, "-m", "helpers", "fetch", *words], cwd=ROOT, check=True)
                began = time.perf_counter()
                words += ["--workers", str(num_workers), "--threads", str(threads)]
                subprocess.run([sys.executable, "-m", "helpers", "grid", *words], cwd=ROOT, check=True)
                measured.append(time.perf_counter() - began)
    one, two = (median(measured) for measured in seconds.values())
    print(f"one worker of two threads {one:.0f} s, two workers of one {two:.0f} s: {one / two:.2f} times as fast")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("overhead", "workers"))
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--runs", type=int, default=4, help="of which the median is taken")
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    if options.what == "overhead":
        overhead(options.engines, options.runs)
    else:
        workers(options.rounds)


if __name__ == "__main__":
    main()
