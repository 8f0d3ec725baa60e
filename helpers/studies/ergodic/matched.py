"""The matched difference: XE_c(K) - XE_c(1 on c), same seed and windows, the mean over the components c of a run.

It needs a run on each component alone; runs for which one is missing are counted, not guessed. The pairs are the rows
of `contrasts.with_k1`.
"""

import pandas as pd

from helpers.analysis.estimates import Estimate, Measured, PaperMeans, mean_over_runs_and_papers


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
    return {
        int(k): [paper_differences(pairs[pairs["run_id"] == run_id]) for run_id in runs["run_id"]]
        for k, runs in matched.groupby("k")
    }


def matched_estimates(pairs: pd.DataFrame) -> dict[int, Estimate]:
    """Matched dXE of each K above 1 that has a matched run, with the interval over runs and papers."""
    return {k: mean_over_runs_and_papers(runs) for k, runs in measured_by_k(pairs).items()}


def paper_differences(rows: pd.DataFrame) -> Measured:
    """The difference from K = 1 on each paper of each component, from the matched rows of one run."""
    return {
        row.component: PaperMeans(windows=row.paper_windows, values=row.paper_xe - row.paper_xe_k1)
        for row in rows.itertuples()
    }
