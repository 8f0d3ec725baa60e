"""Contrasts of components, the bootstrap, and runs that lie far out; the run is the experimental unit.

Windows, tokens and checkpoints are never counted as runs. Every estimate says how many runs it rests on.
"""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from statsmodels.stats.multitest import multipletests

from helpers.analysis.estimates import CONFIDENCE, Measured, PaperMeans, mean_over_runs_and_papers

_OUTLIER_Z = 3.5  # Iglewicz & Hoaglin 1993, How to Detect and Handle Outliers


def component_contrasts(measured: Mapping[str, Sequence[Measured]]) -> pd.DataFrame:
    """XE_c(K) - XE_c(1) of each component, the mean over runs, with p adjusted for the number of components.

    `measured` has for each component a run's differences on it alone. Adds `p_holm` (Holm 1979) and `p_bh` (Benjamini &
    Hochberg 1995), both over the components whose difference can be tested.
    """
    estimates = {name: mean_over_runs_and_papers(runs) for name, runs in measured.items()}
    fields = ("value", "low", "high", "p_value", "num_runs")
    table = pd.DataFrame(
        [{"component": name} | {field: getattr(e, field) for field in fields} for name, e in estimates.items()],
        columns=["component", *fields],
    )
    tested = table["p_value"].notna().to_numpy()
    for column, method in (("p_holm", "holm"), ("p_bh", "fdr_bh")):
        table[column] = np.nan
        if tested.any():
            table.loc[tested, column] = multipletests(table.loc[tested, "p_value"], method=method)[1]
    return table


def crossed_bootstrap(runs: Sequence[Measured], num_draws: int = 2_000, seed: int = 0) -> tuple[float, float]:
    """A 95 % percentile interval of a mean over runs: runs are drawn again, and the papers of each component, which all
    runs were measured on, once for all of them (the pigeonhole bootstrap of Owen 2007, Ann. Appl. Stat. 1:386).

    It assumes no distribution, and with a handful of runs it is too narrow (a bootstrap of 3 cannot know their spread),
    which is why it stands beside the interval over runs and papers and not in its place.
    """
    rng = np.random.default_rng(seed)
    per_run_BR = np.zeros((num_draws, len(runs)))
    for name in sorted(set(itertools.chain.from_iterable(runs))):
        having = [place for place, run in enumerate(runs) if name in run]
        drawn_BR = _paper_draws(rng, [runs[place][name] for place in having], num_draws)
        per_run_BR[:, having] += drawn_BR / [len(runs[place]) for place in having]
    chosen_BR = rng.integers(len(runs), size=per_run_BR.shape)
    means_B = np.take_along_axis(per_run_BR, chosen_BR, axis=1).mean(axis=1)
    low, high = np.quantile(means_B, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def outlier_runs(rows: pd.DataFrame) -> list[str]:
    """Runs whose XE, less component means and the line in log2 K, lies far from the others' (modified z above 3.5).

    They are named, never dropped.
    """
    design = pd.get_dummies(rows["component"]).to_numpy(float)
    design = np.column_stack([design, np.log2(rows["k"].to_numpy(float))])
    xe = rows["xe"].to_numpy(float)
    residual = xe - design @ np.linalg.lstsq(design, xe, rcond=None)[0]
    runs = rows.assign(residual=residual).groupby("run_id")["residual"].mean()
    deviation = (runs - runs.median()).abs()
    if deviation.median() == 0:
        return []
    return sorted(runs.index[0.6745 * deviation / deviation.median() > _OUTLIER_Z])


def _paper_draws(rng: np.random.Generator, runs: Sequence[PaperMeans], num_draws: int) -> np.ndarray:
    """(B, R) means of a component's windows in each run when its papers are drawn again with replacement."""
    num_papers = len(runs[0].windows)
    drawn_BP = rng.multinomial(num_papers, np.full(num_papers, 1 / num_papers), size=num_draws).astype(float)
    windows_RP = np.stack([run.windows for run in runs]).astype(float)
    values_RP = np.stack([run.values for run in runs])
    return (drawn_BP @ (windows_RP * values_RP).T) / (drawn_BP @ windows_RP.T)
