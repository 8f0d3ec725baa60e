"""The noise floor: by how much XE differs between seeds where nothing else does, and which differences lie inside it.

A cell is a set of components; its runs at several seeds differ in weights, batches and dropout alone. Their standard
deviation, pooled over cells, says how far a matched dXE can be from zero without any effect of K. Until a cell has two
seeds, an assumed deviation stands in, and says that it is assumed. A difference inside the noise is never called one.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from helpers.analysis.estimates import CONFIDENCE
from helpers.analysis.report_blocks import Block, Points
from helpers.studies.ergodic.plan_power import ASSUMED_DEVIATION
from helpers.studies.ergodic.results import Results
from helpers.studies.ergodic.roles import BASELINE, GRID


@dataclass(frozen=True, kw_only=True)
class NoiseFloor:
    """The standard deviation of a run's XE between seeds, in nats per token."""

    deviation: float
    freedom: int
    """Degrees of freedom; 0 where it is assumed."""
    num_runs: int

    def half_width(self, k: int, num_runs: int) -> float:
        """What the mean matched dXE of so many runs at K keeps within in 95 % of experiments without an effect.

        It holds the noise of the runs, and a K-th of that of each of K runs on one component.
        """
        tail = (1 + CONFIDENCE) / 2
        quantile = float(stats.t.ppf(tail, self.freedom) if self.freedom else stats.norm.ppf(tail))
        return quantile * self.deviation * math.sqrt((1 + 1 / k) / num_runs)


def noise_floor(results: Results, condition: str) -> NoiseFloor:
    """Pooled over the cells of a condition that have two seeds or more; assumed where there is none."""
    runs = pd.concat([results.of(condition, role)[0] for role in (GRID, BASELINE)])
    by_cell = runs.groupby(runs["components"].map(frozenset))["xe"]
    variance, freedom = by_cell.var(ddof=1), by_cell.count() - 1
    total = int(freedom.sum())
    if total == 0:
        return NoiseFloor(deviation=ASSUMED_DEVIATION, freedom=0, num_runs=0)
    pooled = float(np.sqrt((variance.fillna(0) * freedom).sum() / total))
    return NoiseFloor(deviation=pooled, freedom=total, num_runs=int((freedom[freedom > 0] + 1).sum()))


def with_noise(by_k: pd.DataFrame, floor: NoiseFloor) -> pd.DataFrame:
    """Rows of `Findings.by_k` with `noise`, the half-width of what is no difference."""
    noise = [floor.half_width(int(k), int(n)) for k, n in zip(by_k["k"], by_k["num_runs"], strict=True)]
    return by_k.assign(noise=np.array(noise, dtype=float))


def noise_blocks(by_k: pd.DataFrame, floor: NoiseFloor) -> list[Block]:
    """Where the floor comes from, and which K lie inside it."""
    inside = [str(k) for k in by_k.loc[by_k["dxe"].abs() <= by_k["noise"], "k"]]
    sentences = [_origin(floor)]
    if inside:
        sentences.append(f"Inside it, and so called no difference: matched ΔXE at K = {', '.join(inside)}.")
    elif len(by_k):
        sentences.append("No matched ΔXE lies inside it.")
    return [Points([" ".join(sentences)])]


def _origin(floor: NoiseFloor) -> str:
    if floor.freedom:
        return (
            f"Noise floor: XE has a standard deviation of {floor.deviation:.4f} nats per token between seeds of "
            f"the same components ({floor.num_runs} runs, {floor.freedom} degrees of freedom)."
        )
    return (
        f"Noise floor: not measured, for no components were trained on at two seeds; {floor.deviation:.4f} nats per "
        "token between seeds is assumed. The seeds of one cell come first in every grid that has them."
    )
