"""In-context curves: XE and matched dXE by position of the window, the area under them, and identification.

An ideal learner of K equally likely components spends at most ln K nats of dXE in a whole window, token 0 included:
the area is what it pays to find out which component it reads. What a measured curve holds beyond that, or still holds
after a long context, has another cause. The run is the unit. An area's interval is over runs and the papers they were
measured on; a band is Student's over runs, pointwise, on these papers: the result files do not hold what other papers
would do to one position.
"""

import numpy as np
import pandas as pd
from scipy import stats

from helpers.analysis.estimates import CONFIDENCE, LEAST_RUNS_OF_A_BAND, Measured, PaperMeans, estimate_with_papers
from helpers.studies.ergodic.contrasts import with_k1
from helpers.studies.ergodic.matched import paper_differences
from helpers.studies.ergodic.results import Results
from helpers.studies.ergodic.roles import GRID

SPENT = 0.9
"""The share of the area at which a component counts as identified."""
_CURVES = {
    "xe": "xe_by_position",
    "xe_k1": "xe_by_position_k1",
    "bayes_xe": "bayes_xe_by_position",
    "bayes_known_xe": "bayes_known_xe_by_position",
}
AREA_COLUMNS = [
    "k", "num_runs", "area", "low", "high", "bayes_area", "ln_k", "identified_at", "identified_by", "reason",
]  # fmt: skip


def curves_by_run(results: Results, condition: str) -> pd.DataFrame:
    """One row a run of the grid: run_id, k, seed, the curves `xe`, `bayes_xe`, `dxe`, `bayes_dxe`, each (T,), and
    `paper_areas`, the area under dXE on each paper of each component.

    A curve is the mean over the run's components, and NaN where it is not known for one of them: dXE needs every
    component matched with a run on it alone at the same seed.
    """
    (num_positions,) = set(results.runs_of(condition)["window_tokens"])
    rows = []
    for (run_id, k, seed), own in with_k1(results, condition, GRID).groupby(["run_id", "k", "seed"]):
        mean = {name: _mean_curve(own[column], num_positions) for name, column in _CURVES.items()}
        dxe = mean["xe"] - mean["xe_k1"]
        exact = np.where(np.isnan(dxe), np.nan, mean["bayes_xe"] - mean["bayes_known_xe"])
        rows.append(
            {
                "run_id": run_id, "k": k, "seed": seed,
                "xe": mean["xe"], "bayes_xe": mean["bayes_xe"], "dxe": dxe, "bayes_dxe": exact,
                "paper_areas": None if np.isnan(dxe).any() else paper_areas(own, num_positions),
            }
        )  # fmt: skip
    return pd.DataFrame(rows, columns=["run_id", "k", "seed", "xe", "bayes_xe", "dxe", "bayes_dxe", "paper_areas"])


def paper_areas(rows: pd.DataFrame, num_positions: int) -> Measured:
    """The area under matched dXE (nats a window) on each paper, from the matched rows of one run. The first token of
    files that do not hold it by paper counts as the mean of the others."""
    areas = {}
    for component, papers in paper_differences(rows).items():
        areas[component] = PaperMeans(windows=papers.windows, values=num_positions * papers.values)
    firsts = zip(rows["component"], rows["paper_first_xe"], rows["paper_first_xe_k1"], strict=True)
    for component, first, alone in firsts:
        if first is not None and alone is not None:
            rest = areas[component].values * (1 - 1 / num_positions)
            areas[component] = PaperMeans(windows=areas[component].windows, values=rest + first - alone)
    return areas


def in_context(curves: pd.DataFrame) -> pd.DataFrame:
    """Rows of `curves_by_run` -> one row a K and position (0-based): means over runs and 95 % t bands (`*_low`,
    `*_high`, NaN for less than three runs), for XE and for matched dXE, with the exact Bayes values where known."""
    frames = []
    for k, runs in curves.groupby("k"):
        matched = _matched(runs)
        bands = _band("xe", runs["xe"]) | _band("dxe", matched["dxe"])
        exact = {
            "bayes_xe": _band("exact", runs["bayes_xe"])["exact"],
            "bayes_dxe": _band("exact", matched["bayes_dxe"])["exact"],
        }
        counts = {"k": k, "num_runs": len(runs), "num_matched": len(matched)}
        positions = {"position": range(len(runs["xe"].iloc[0]))}
        frames.append(pd.DataFrame(positions | bands | exact).assign(**counts))
    columns = ["k", "position", "num_runs", "xe", "xe_low", "xe_high", "bayes_xe"]
    columns += ["num_matched", "dxe", "dxe_low", "dxe_high", "bayes_dxe"]
    return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)


def areas(curves: pd.DataFrame) -> pd.DataFrame:
    """One row a K above 1 with a matched run: the area under matched dXE over all positions (nats a window) with its
    interval over runs and papers, the exact area, ln K, and the identification length (`identified_by` the exact or the
    measured curve)."""
    rows = []
    for k, runs in _matched(curves[curves["k"] > 1]).groupby("k"):
        area = estimate_with_papers(np.array([curve.sum() for curve in runs["dxe"]]), list(runs["paper_areas"]))
        exact = np.mean(list(runs["bayes_dxe"]), axis=0)
        if np.isnan(exact).any():
            length, reason = identification_length(np.mean(list(runs["dxe"]), axis=0), area.low)
        else:
            length, reason = identification_length(exact, float(exact.sum()))
        rows.append(
            {
                "k": k, "num_runs": len(runs), "area": area.value, "low": area.low, "high": area.high,
                "bayes_area": exact.sum(), "ln_k": np.log(k), "identified_at": length,
                "identified_by": "measured" if np.isnan(exact).any() else "exact Bayes", "reason": reason,
            }
        )  # fmt: skip
    return pd.DataFrame(rows, columns=AREA_COLUMNS)


def identification_length(dxe_T: np.ndarray, least_area: float) -> tuple[float, str]:
    """The context (tokens, BOS included) at which 90 % of a curve's area has been spent, for good; NaN and the reason
    where the curve has no such place. `least_area` is the lower end of the area's interval.

    A curve that still rises in the second half of the window is no identification: a constant excess loss would be
    "90 % spent" at 90 % of any window.
    """
    if not least_area > 0:
        return float("nan"), "the area cannot be told from zero"
    unspent = np.flatnonzero(dxe_T.cumsum() < SPENT * dxe_T.sum())
    context = int(unspent[-1]) + 2 if len(unspent) else 1  # position n is predicted from n + 1 tokens
    if context > len(dxe_T) / 2:
        return float("nan"), "more than a tenth of the area lies in the second half of the window"
    return float(context), ""


def _matched(curves: pd.DataFrame) -> pd.DataFrame:
    return curves[curves["dxe"].map(lambda curve: not np.isnan(curve).any()).astype(bool)]


def _mean_curve(curves: pd.Series, num_positions: int) -> np.ndarray:
    """(T,), NaN where a curve of the rows is not known."""
    unknown = np.full(num_positions, np.nan)
    return np.mean([curve if isinstance(curve, np.ndarray) else unknown for curve in curves], axis=0)


def _band(name: str, curves: pd.Series) -> dict[str, np.ndarray | float]:
    """The mean over runs at every position, and its pointwise t band, which takes three runs."""
    if curves.empty:
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"), np.nan)
    curves_RT = np.stack(list(curves))
    mean_T, num_runs = curves_RT.mean(axis=0), len(curves_RT)
    if num_runs < LEAST_RUNS_OF_A_BAND:
        return {name: mean_T, f"{name}_low": np.nan, f"{name}_high": np.nan}
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, num_runs - 1))
    half_T = quantile * curves_RT.std(axis=0, ddof=1) / np.sqrt(num_runs)
    return {name: mean_T, f"{name}_low": mean_T - half_T, f"{name}_high": mean_T + half_T}
