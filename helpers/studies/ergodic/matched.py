"""The matched difference: XE_c(K) - XE_c(1 on c), same seed and windows, the mean over the components c of a run.

It needs a run on each component alone; runs for which one is missing are counted, not guessed. The pairs are the rows
of `contrasts.with_k1`.
"""

import numpy as np
import pandas as pd

from helpers.analysis.conditions import Settings
from helpers.analysis.estimates import Estimate, Measured, PaperMeans, mean_over_runs_and_papers
from helpers.storage import Storage
from helpers.studies.ergodic.contrasts import with_k1
from helpers.studies.ergodic.results import load_results
from helpers.studies.ergodic.roles import GRID


def matched_by_run(pairs: pd.DataFrame) -> pd.DataFrame:
    """One row a run: run_id, k, seed, num_components, num_matched, `dxe`, and the exact `bayes_dxe` where known; both
    are NaN unless every component of the run is matched."""
    groups = pairs.groupby(["run_id", "k", "seed"])
    table = groups.agg(
        num_components=("component", "count"),
        num_matched=("dxe_same", "count"),
        dxe=("dxe_same", "mean"),
        bayes_dxe=("bayes_dxe_same", "mean"),
    ).reset_index()
    whole = table["num_matched"] == table["num_components"]
    return table.assign(dxe=table["dxe"].where(whole), bayes_dxe=table["bayes_dxe"].where(whole))


def measured_by_k(pairs: pd.DataFrame) -> dict[int, list[Measured]]:
    """The paper differences of every matched run with K above 1, by K ascending."""
    matched = matched_by_run(pairs)
    matched = matched[(matched["k"] > 1) & matched["dxe"].notna()]
    rows = dict(list(pairs[pairs["run_id"].isin(matched["run_id"])].groupby("run_id")))
    return {int(k): [paper_differences(rows[run_id]) for run_id in runs["run_id"]] for k, runs in matched.groupby("k")}


def matched_estimates(pairs: pd.DataFrame) -> dict[int, Estimate]:
    """Matched dXE of each K above 1 that has a matched run, with the interval over runs and papers."""
    return {k: mean_over_runs_and_papers(runs) for k, runs in measured_by_k(pairs).items()}


def paper_differences(rows: pd.DataFrame) -> Measured:
    """The difference from K = 1 on each paper of each component, from the matched rows of one run."""
    columns = (rows[name] for name in ("component", "paper_windows", "paper_xe", "paper_xe_k1"))
    return {
        component: PaperMeans(windows=windows, values=xe - alone)
        for component, windows, xe, alone in zip(*columns, strict=True)
    }


def seed_deviation(matched: pd.DataFrame) -> tuple[float, int]:
    """The standard deviation of XE between seeds, and its degrees of freedom, from rows of `matched_by_run`.

    The matched dXE of a run with K components holds its own noise and a K-th of that of each of K runs on one
    component, so that its variance is 1 + 1 / K times that of a run's XE; pooled over K above 1. NaN and 0 where no K
    has two matched runs.
    """
    groups = matched[(matched["k"] > 1) & matched["dxe"].notna()].groupby("k")["dxe"]
    freedom = groups.count() - 1
    if freedom.sum() == 0:
        return float("nan"), 0
    variance = groups.var(ddof=1) / (1 + 1 / groups.count().index)
    return float(np.sqrt((variance * freedom).sum() / freedom.sum())), int(freedom.sum())


def measured_deviation(storage: Storage, settings: Settings) -> tuple[float, int, int]:
    """`seed_deviation` of the results that share these settings, and the number of matched runs that it rests on."""
    results = load_results(storage)
    for name, own in results.settings.items():
        if own == settings:
            matched = matched_by_run(with_k1(results, name, GRID))
            return *seed_deviation(matched), int((matched["dxe"].notna() & (matched["k"] > 1)).sum())
    return float("nan"), 0, 0
