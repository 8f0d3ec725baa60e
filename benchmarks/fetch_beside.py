"""What a cache of papers costs beside another checkout: time, processor time and peak memory of whole `fetch` commands.

    python -m benchmarks.fetch_beside ../earlier --megabytes 1600 --rounds 1

The papers are made up (see `tokenise.py`) and written once; then each build fetches them in turn into a storage of its
own. This build looks for near-duplicates between the splits on its way, which the earlier one may not.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.tokenise import write_papers
from helpers.repository import ROOT


class Cost(NamedTuple):
    """Of one command with its children."""

    wall_s: float
    cpu_s: float
    gigabytes: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("earlier", type=Path, help="a checkout of the build to compare with")
    parser.add_argument("--megabytes", type=int, default=1600)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--tokenizer", default="train:4096", help="a tokenizer.json, a Hub name, or train:N")
    options = parser.parse_args()
    builds = {"earlier": options.earlier.resolve(), "now": ROOT}
    costs: dict[str, list[Cost]] = {name: [] for name in builds}
    with tempfile.TemporaryDirectory() as place:
        papers = Path(place) / "papers"
        papers.mkdir()
        print(f"{write_papers(papers, options.megabytes):.0f} MB of made-up papers", flush=True)
        for turn in range(options.rounds):
            for name, checkout in builds.items():
                data = ["--source", str(papers), "--tokenizer", options.tokenizer]
                command = [sys.executable, "-m", "helpers", "fetch", *data, "--storage", f"{place}/{name}-{turn}"]
                costs[name].append(run(command, checkout))
                print(f"{name}: {costs[name][-1]}", flush=True)
    for i, what in enumerate(Cost._fields):
        ratio = statistics.median(now[i] / earlier[i] for earlier, now in zip(*costs.values(), strict=True))
        print(f"{what}: {ratio:.3f} of earlier")


def run(command: list[str], checkout: Path) -> Cost:
    """To its end; memory is resident less file-backed pages, sampled every 50 ms over the process and its children."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with subprocess.Popen(command, cwd=checkout, env=environment, stdout=subprocess.DEVNULL) as process:
        peak, ended = [0.0], threading.Event()
        watch = threading.Thread(target=sample_memory, args=(process.pid, peak, ended))
        watch.start()
        code = process.wait()
        ended.set()
        watch.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if code:
        raise RuntimeError(f"{' '.join(command)} in {checkout} ended with code {code}")
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(time.perf_counter() - start, cpu_s, peak[0])


def sample_memory(pid: int, peak: list[float], ended: threading.Event) -> None:
    while not ended.wait(0.05):
        try:
            process = psutil.Process(pid)
            memory = [one.memory_info() for one in (process, *process.children(recursive=True))]
        except psutil.NoSuchProcess:
            continue
        peak[0] = max(peak[0], sum(m.rss - m.shared for m in memory) / 1e9)


if __name__ == "__main__":
    main()
