"""A grid on 1 to 1,000 workers that are pre-empted: makespan and lost work against the checkpoint period.

    python -m benchmarks.cluster --runs 60 --hours 1.3 --workers 1 8 64 1000 --mtbf-hours 1 8

Each worker takes the next run when it is free. It is pre-empted after an exponential time; then the work since the last
checkpoint is lost, and the run goes on from there after the restart. Beside the simulated period that loses least stand
Young's optimum, sqrt(2 d M) for a checkpoint of d seconds and a mean time M between pre-emptions (CACM 17, 1974), and
Daly's (Future Generation Computer Systems 22, 2006, eq. 37); beside the simulated hours his expectation (eq. 20). The
random times are those of a seed: nothing is measured, and no machine is needed.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from helpers.grid.makespan import makespan_s
from helpers.grid.text import aligned, duration


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Seconds all of them."""

    work_s: float
    """Of a run, without checkpoints."""
    period_s: float
    """Work between two checkpoints."""
    checkpoint_s: float
    restart_s: float
    """From a pre-emption until the run trains again."""
    mtbf_s: float
    """Mean time between two pre-emptions of a worker."""


@dataclass(frozen=True, kw_only=True)
class Simulated:
    elapsed_s: float
    lost_s: float
    """Work that was done again, or was under way in a restart that was pre-empted too."""
    num_preemptions: int


def simulate_run(setting: Setting, rng: np.random.Generator) -> Simulated:
    """One run on one worker, from its first step to its last checkpoint.

    A segment is up to a period of work and its checkpoint. After a pre-emption the next attempt at it begins with the
    restart; the time to the next pre-emption is drawn anew, for an exponential time has no memory.
    """
    elapsed = lost = 0.0
    num_preemptions, left, restart = 0, setting.work_s, 0.0
    while left > 0:
        work = min(setting.period_s, left)
        needed = restart + work + setting.checkpoint_s
        until = rng.exponential(setting.mtbf_s)
        if until >= needed:
            elapsed, left, restart = elapsed + needed, left - work, 0.0
        else:
            elapsed, lost, restart = elapsed + until, lost + until, setting.restart_s
            num_preemptions += 1
    return Simulated(elapsed_s=elapsed, lost_s=lost, num_preemptions=num_preemptions)


def expected_s(setting: Setting) -> float:
    """Daly's expectation of a run's time (eq. 20): M e^(R/M) (e^((t + d)/M) - 1) W/t. It takes the last segment to be
    whole, and the last checkpoint to be made."""
    M, period = setting.mtbf_s, setting.period_s
    attempt = math.exp((period + setting.checkpoint_s) / M) - 1
    return M * math.exp(setting.restart_s / M) * attempt * setting.work_s / period


def young_s(checkpoint_s: float, mtbf_s: float) -> float:
    return math.sqrt(2 * checkpoint_s * mtbf_s)


def daly_s(checkpoint_s: float, mtbf_s: float) -> float:
    """Daly's eq. 37: the higher-order optimum for d < 2 M, else M."""
    if checkpoint_s >= 2 * mtbf_s:
        return mtbf_s
    ratio = checkpoint_s / (2 * mtbf_s)
    return young_s(checkpoint_s, mtbf_s) * (1 + math.sqrt(ratio) / 3 + ratio / 9) - checkpoint_s


def row(setting: Setting, runs: int, workers: int, seed: int) -> list[str]:
    """One line of the table."""
    rng = np.random.default_rng([seed, workers, round(setting.period_s), round(setting.mtbf_s)])
    done = [simulate_run(setting, rng) for _ in range(runs)]
    hours = sum(run.elapsed_s for run in done)
    return [
        f"{workers:,}", f"{setting.mtbf_s / 3600:g} h", duration(setting.period_s),
        duration(makespan_s([run.elapsed_s for run in done], workers)), f"{sum(r.num_preemptions for r in done):,}",
        f"{100 * sum(run.lost_s for run in done) / hours:.1f} %",
        f"{hours / runs / setting.work_s:.3f}", f"{expected_s(setting) / setting.work_s:.3f}",
    ]  # fmt: skip


def best_period_s(setting: Setting, periods: Sequence[float], seed: int, runs: int = 4000) -> float:
    """The period, of those, whose runs took least time in a simulation of so many."""

    def mean_s(period: float) -> float:
        rng = np.random.default_rng(seed)
        tried = Setting(**{**vars(setting), "period_s": period})
        return sum(simulate_run(tried, rng).elapsed_s for _ in range(runs)) / runs

    return min(periods, key=mean_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=0, help="of the grid; default: ten for each worker")
    parser.add_argument("--hours", type=float, default=1.3, help="of work a run")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 8, 64, 1000])
    parser.add_argument("--mtbf-hours", type=float, nargs="+", default=[1.0, 8.0])
    parser.add_argument("--periods-s", type=float, nargs="+", default=[30.0, 300.0, 1800.0])
    parser.add_argument("--checkpoint-s", type=float, default=3.0)
    parser.add_argument("--restart-s", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    base = {"work_s": 3600 * options.hours, "checkpoint_s": options.checkpoint_s, "restart_s": options.restart_s}
    header = ["workers", "MTBF", "period", "makespan", "pre-empted", "lost", "time a run / work", "expected (Daly)"]
    rows = [
        row(Setting(**base, period_s=period, mtbf_s=3600 * mtbf), options.runs or 10 * workers, workers, options.seed)
        for workers in options.workers for mtbf in options.mtbf_hours for period in options.periods_s
    ]  # fmt: skip
    print(aligned(header, rows))
    for mtbf in options.mtbf_hours:
        setting = Setting(**base, period_s=1.0, mtbf_s=3600 * mtbf)
        young, daly = (best(options.checkpoint_s, setting.mtbf_s) for best in (young_s, daly_s))
        found = best_period_s(setting, [young * 2.0 ** (power / 2) for power in range(-4, 5)], options.seed)
        print(f"best period at an MTBF of {mtbf:g} h: Young {young:.0f} s, Daly {daly:.0f} s, simulated {found:.0f} s")


if __name__ == "__main__":
    main()
