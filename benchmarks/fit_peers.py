"""Fits beside those of another package on the same simulated tables: coverage, width, error and time.

    python3.12 -m venv PEER && PEER/bin/pip install simple-scaling-laws==0.2.0
    python -m benchmarks.fit_peers --peer PEER/bin/python

The peer runs in a process and environment of its own, table by table in turn with ours, each with as many draws; times
are of the processor. What is measured goes to `benchmarks/fit_peers.json`.
"""

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from helpers.analysis.fits.intervals import infer
from helpers.analysis.fits.laws import CHINCHILLA, OFFSET_POWER_LAW
from helpers.analysis.fits.points import Points
from helpers.storage import publish_text

RESULT = Path(__file__).with_name("fit_peers.json")
NUM_DRAWS = 300
NOISE = 0.003
"""The standard deviation of log loss between runs."""
_PEER = """
import json, sys, time, warnings
import polars
from simple_scaling_laws import fit
warnings.simplefilter("ignore")
for line in sys.stdin:
    table = json.loads(line)
    columns = {"training_run_id": [f"r{n}" for n in range(len(table["loss"]))], "test_loss__ce": table["loss"]}
    columns["model_size__n"] = table["scales"][0]
    if len(table["scales"]) == 2:
        columns["dataset_size__d"] = table["scales"][1]
    begin = time.process_time()
    model = fit(polars.DataFrame(columns), n_draws=table["num_draws"], seed=table["seed"])
    value, (low, high) = model.params("test_loss__ce")["alpha"], model.conf_int("test_loss__ce")["alpha"]
    print(json.dumps({"value": value, "low": low, "high": high, "cpu_s": time.process_time() - begin}), flush=True)
"""


@dataclass(frozen=True, kw_only=True)
class Design:
    """Log-spaced sizes, and the truth at them: an offset law of one scale, or Chinchilla's of a square of two."""

    num_sizes: int
    num_seeds: int = 1
    has_two_scales: bool = False
    spoilt: float = 0.0
    """Added to the loss of one run, drawn for each table."""

    def table(self, seed: int) -> tuple[Points, float]:
        """The points, and the true exponent that is judged."""
        rng = np.random.default_rng((seed, 11))
        if self.has_two_scales:
            n, d = np.logspace(7, 9, self.num_sizes), np.logspace(9, 11, self.num_sizes)
            scales = np.stack([np.repeat(n, self.num_sizes), np.tile(d, self.num_sizes)], axis=1)
            losses, exponent = 1.8 + 480 * scales[:, 0] ** -0.35 + 2000 * scales[:, 1] ** -0.37, 0.35
        else:
            scales = np.repeat(np.logspace(0, 3, self.num_sizes), self.num_seeds)[:, None]
            losses, exponent = 1.5 + 2 * scales[:, 0] ** -0.3, 0.3
        losses = losses * np.exp(NOISE * rng.normal(size=len(losses)))
        losses[rng.integers(len(losses))] += self.spoilt
        return Points.of(scales, losses), exponent


DESIGNS = {
    "offset law, 9 sizes of 2 seeds": Design(num_sizes=9, num_seeds=2),
    "offset law, 9 sizes of 2 seeds, one run +0.15": Design(num_sizes=9, num_seeds=2, spoilt=0.15),
    "Chinchilla, 5 x 5": Design(num_sizes=5, has_two_scales=True),
    "Chinchilla, 5 x 5, one run +0.15": Design(num_sizes=5, has_two_scales=True, spoilt=0.15),
    "offset law, 5 sizes": Design(num_sizes=5),
    "offset law, 4 sizes": Design(num_sizes=4),
}


def ours(points: Points, seed: int) -> dict[str, float]:
    begin = time.process_time()
    two = points.scales.shape[1] == 2
    draws = infer(points, CHINCHILLA if two else OFFSET_POWER_LAW, NUM_DRAWS, seed)
    exponent = draws.parameters()["alpha" if two else "b"]
    cpu_s = time.process_time() - begin
    return {"value": exponent.value, "low": exponent.low, "high": exponent.high, "cpu_s": cpu_s}


class Peer:
    """The other package, which answers a line for each table."""

    def __init__(self, python: Path):
        self.process = subprocess.Popen(
            [str(python), "-c", _PEER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def fit(self, points: Points, seed: int) -> dict[str, float]:
        table = {
            "scales": points.scales.T.tolist(),
            "loss": points.losses.tolist(),
            "num_draws": NUM_DRAWS,
            "seed": seed,
        }
        self.process.stdin.write(json.dumps(table) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the peer ended at table {seed}; run it by hand to see why")
        return json.loads(answer)


def summary(rows: list[dict[str, float]], exponent: float) -> dict[str, float]:
    low, high, value = (np.array([row[name] for row in rows]) for name in ("low", "high", "value"))
    return {
        "covers": round(float(((low <= exponent) & (exponent <= high)).mean()), 4),
        "median_width": round(float(np.median(high - low)), 5),
        "mean_error": round(float(np.abs(value - exponent).mean()), 5),
        "median_cpu_s": round(float(np.median([row["cpu_s"] for row in rows])), 4),
    }


def main(peer: Path, tables: int = 100) -> None:
    """Compare, and write the report.

    Args:
        peer: The Python of an environment that has the package.
        tables: Simulated tables of each design.
    """
    other, designs = Peer(peer), {}
    for name, design in DESIGNS.items():
        rows = []
        for seed in range(tables):
            points, exponent = design.table(seed)
            rows.append((ours(points, seed), other.fit(points, seed)))
        mine, theirs = (summary(list(part), exponent) for part in zip(*rows, strict=True))
        designs[name] = {"ours": mine, "simple_scaling_laws": theirs}
        print(name, json.dumps(designs[name]), flush=True)
    other.process.stdin.close()
    report = {
        "command": f"python -m benchmarks.fit_peers --peer PEER/bin/python --tables {tables}",
        "peer": "simple-scaling-laws 0.2.0", "tables": tables, "draws": NUM_DRAWS, "noise": NOISE, "designs": designs,
    }  # fmt: skip
    publish_text(RESULT, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    tyro.cli(main)
