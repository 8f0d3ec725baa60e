"""1,000 resamples of a table of runs, here and in another checkout in turn: seconds of the processor, and their ratio.

    git worktree add --detach OTHER REVISION
    python -m benchmarks.fit_resamples --other OTHER --csv epoch_chinchilla.csv

The table has the columns of Epoch AI's points of Hoffmann et al. 2022; the five highest losses are left out, and delta
is theirs, 0.001.
"""

import os
import statistics
import subprocess
import sys
from pathlib import Path

import tyro

_MEASURED = """
import sys, time
import pandas as pd
from helpers.analysis.fits.fit import fit
from helpers.analysis.fits.intervals import draw_pairs
from helpers.analysis.fits.laws import CHINCHILLA
from helpers.analysis.fits.points import Points
table = pd.read_csv(sys.argv[1]).sort_values("loss")[:-5].sort_index()
n = table["Model Size"].to_numpy(float)
scales = pd.DataFrame({"N": n, "D": table["Training FLOP"] / (6 * n)}).to_numpy()
fitted = fit(Points.of(scales, table["loss"].to_numpy()), CHINCHILLA, 0.001)
begin = time.process_time()
draw_pairs(fitted, 1000)
print(time.process_time() - begin, repr(fitted.objective))
"""


def resample(checkout: Path, csv: Path) -> tuple[float, str]:
    """Seconds of the processor for the draws, and the objective of the fit."""
    command = [sys.executable, "-c", _MEASURED, str(csv.resolve())]
    environment = os.environ | {"PYTHONPATH": str(checkout.resolve()), "OMP_NUM_THREADS": "1"}
    found = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=True)
    seconds, objective = found.stdout.split()
    return float(seconds), objective


def main(other: Path, csv: Path, repeats: int = 5) -> None:
    """Measure both in turn.

    Args:
        other: A checkout to compare with.
        csv: The table.
        repeats: Turns.
    """
    here = Path(__file__).resolve().parents[1]
    turns = [[resample(checkout, csv) for checkout in (here, other)] for _ in range(repeats)]
    ours, theirs = (statistics.median(turn[place][0] for turn in turns) for place in (0, 1))
    ratio = statistics.median(turn[0][0] / turn[1][0] for turn in turns)
    print(f"1,000 resamples: here {ours:.2f} s, there {theirs:.2f} s of the processor; ratio {ratio:.2f}")
    print(f"objective: here {turns[0][0][1]}, there {turns[0][1][1]}")


if __name__ == "__main__":
    tyro.cli(main)
