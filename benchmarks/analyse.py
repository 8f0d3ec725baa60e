"""What `analyse` of the K study costs with the number of result files: processor time and peak memory.

    python -m benchmarks.analyse --files 32 96 304 992 10000 --beside ../earlier

The results are simulated: whole seeds of a grid with its baselines and its shuffle control. With `--beside` the same
files are analysed by another checkout, in turn.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from helpers.repository import ROOT
from helpers.storage import Storage
from tests.simulated_truth import Truth, simulate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, nargs="+", default=[32, 96, 304, 992])
    parser.add_argument("--beside", type=Path, help="a checkout of the build to compare with")
    options = parser.parse_args()
    builds = {"now": ROOT} | ({"earlier": options.beside.resolve()} if options.beside else {})
    costs: dict[str, list[tuple[int, float]]] = {name: [] for name in builds}
    for wanted in options.files:
        with tempfile.TemporaryDirectory() as place:
            count = write_files(Storage.at(place), wanted)
            for name, checkout in builds.items():
                cpu_s, gigabytes = analyse(Path(place), checkout)
                costs[name].append((count, cpu_s))
                print(f"{name}: {count} files, {cpu_s:.1f} s of a processor, {gigabytes:.2f} GB", flush=True)
    for name, found in costs.items():
        if len(found) > 1:
            count, cpu_s = np.log(np.array(found[-2:], float)).T
            print(f"{name}: grows with the number of files to the {np.diff(cpu_s)[0] / np.diff(count)[0]:.2f}")


def write_files(storage: Storage, wanted: int) -> int:
    """Result files of as many whole seeds as come nearest to `wanted`; their number."""
    truth = Truth(slope=0.007, shift=1.0)
    simulate(storage, truth, seed=0, seeds=[0])
    of_one_seed = len(list(storage.results().glob("*.jsonl")))
    simulate(storage, truth, seed=0, seeds=range(max(1, round(wanted / of_one_seed))))
    return len(list(storage.results().glob("*.jsonl")))


def analyse(storage: Path, checkout: Path) -> tuple[float, float]:
    """Processor seconds and the largest resident memory (GB) of the whole command, on one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "helpers", "analyse", "--storage", str(storage)]
    with subprocess.Popen(command, cwd=checkout, env=environment, stdout=subprocess.DEVNULL) as process:
        _, code, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(code)
    if process.returncode:
        raise RuntimeError(f"analyse in {checkout} ended with code {process.returncode}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1e6


if __name__ == "__main__":
    main()
