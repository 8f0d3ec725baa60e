"""The statistics of XE against K, with the run as the experimental unit: slope, tests, and controls.

Windows, tokens and checkpoints are never counted as runs. Every estimate says how many runs it rests on. The coverage
of the slope's interval, its false positives and those of the equivalence test are measured by simulation
(`python -m benchmarks.coverage`), and the report prints what was measured.
"""

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import statsmodels.formula.api as smf
from scipy import stats
from statsmodels.regression.mixed_linear_model import MixedLMParams, MixedLMResults
from statsmodels.stats.multitest import multipletests
from statsmodels.tools.sm_exceptions import ConvergenceWarning

from helpers.analysis.estimates import (
    CONFIDENCE,
    Equivalence,
    Estimate,
    Measured,
    PaperMeans,
    mean_over_runs_and_papers,
    sum_of_products,
)

# (component, run) variances in units of the residual one, from which the likelihood is climbed: components differ by
# far more than runs, and from a poor start the two are confused.
_STARTS = ((100.0, 1.0), (100.0, 0.1), (1.0, 1.0), (1000.0, 0.01))
_OUTLIER_Z = 3.5  # Iglewicz & Hoaglin 1993, How to Detect and Handle Outliers


def slope(rows: pd.DataFrame) -> Estimate:
    """The change of XE a doubling of K: XE ~ log2 K + (1 | component) + (1 | run), by REML (statsmodels MixedLM).

    `rows` has one row a run and component, as `Results.xe`. The variance is that of the mixed model, for the noise of
    runs, and that of the evaluation's papers, which all runs share. Student's t with as many degrees of freedom as runs
    less two, for K is a property of runs. ValueError if the rows have fewer than three runs, or one K only.
    """
    num_runs = rows["run_id"].nunique()
    if num_runs < 3 or rows["k"].nunique() < 2:
        raise ValueError(f"a slope needs 3 runs at 2 values of K; there are {num_runs} at {rows['k'].nunique()}")
    data = pd.DataFrame({"log2_k": np.log2(rows["k"].to_numpy(float)), "whole": 1})
    data["run"], data["component"] = (pd.factorize(rows[name])[0] for name in ("run_id", "component"))
    unit = _residual_deviation(data, rows["xe"].to_numpy())
    if unit == 0:
        raise ValueError("a slope needs runs that differ; these have no residual at all")
    data["xe"] = (rows["xe"].to_numpy() - rows["xe"].mean()) / unit
    fit = _best_fit(data)
    value, error = float(fit.params["log2_k"]) * unit, float(fit.bse["log2_k"]) * unit
    error = float(np.hypot(error, _paper_error(rows, _slope_weights(fit, data))))
    return Estimate.of(value, error, num_runs - 2, num_runs)


def permutation_p_value(rows: pd.DataFrame, num_permutations: int = 2_000, seed: int = 0) -> float:
    """The p-value of no relation between XE and K, from permuting K over runs (Freedman & Lane 1983).

    The component means are taken out first; what is left of each run, one number, is exchangeable over runs when K
    has no effect. (1 + exceedances) / (1 + permutations), so never 0.
    """
    components = pd.get_dummies(rows["component"]).to_numpy(float)
    xe = rows["xe"].to_numpy(float)
    residual = xe - components @ np.linalg.lstsq(components, xe, rcond=None)[0]
    runs = rows.assign(residual=residual).groupby("run_id").agg(k=("k", "first"), residual=("residual", "mean"))
    log2_k = np.log2(runs["k"].to_numpy(float))
    centred, left = log2_k - log2_k.mean(), runs["residual"].to_numpy()
    rng = np.random.default_rng(seed)
    draws = np.stack([rng.permutation(left) for _ in range(num_permutations)])
    exceed = np.abs(draws @ centred) >= abs(left @ centred) * (1 - 1e-12)
    return float((1 + exceed.sum()) / (1 + num_permutations))


def trend_p_value(by_seed: pd.DataFrame) -> float:
    """Page's test that dXE rises with K, seeds as blocks (Page 1963, JASA 58:216), exact by scipy.

    `by_seed` has a row a seed and a column a K, ascending; seeds with a missing K are left out. ValueError if fewer
    than two seeds or three K remain.
    """
    whole = by_seed.dropna(axis="index")
    if len(whole) < 2 or whole.shape[1] < 3:
        raise ValueError(f"a trend needs 2 whole seeds and 3 values of K; there are {len(whole)} and {whole.shape[1]}")
    return float(stats.page_trend_test(whole.to_numpy(float)).pvalue)


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


def equivalence(differences: np.ndarray, margin: float) -> Equivalence:
    """Whether the mean of independent differences, one a seed, lies within +- `margin`; p is 1 for fewer than two."""
    differences = np.asarray(differences, dtype=float)
    num_runs, mean = len(differences), float(np.mean(differences))
    if num_runs < 2:
        return Equivalence(value=mean, low=-np.inf, high=np.inf, margin=margin, p_value=1.0, num_runs=num_runs)
    error = float(differences.std(ddof=1) / np.sqrt(num_runs))
    half = float(stats.t.ppf(CONFIDENCE, num_runs - 1)) * error
    beyond = (abs(mean) - margin) / error if error else np.sign(abs(mean) - margin) * np.inf
    return Equivalence(
        value=mean, low=mean - half, high=mean + half, margin=margin,
        p_value=float(stats.t.cdf(beyond, num_runs - 1)), num_runs=num_runs,
    )  # fmt: skip


def hierarchical_bootstrap(runs: Sequence[Measured], num_draws: int = 2_000, seed: int = 0) -> tuple[float, float]:
    """A 95 % percentile interval of a mean over runs: runs are drawn again, then papers within their components.

    It assumes no distribution, and with a handful of runs it is too narrow (a bootstrap of 3 cannot know their spread),
    which is why it stands beside the interval over runs and papers and not in its place.
    """
    rng = np.random.default_rng(seed)
    per_run = np.stack([np.mean([_paper_draws(rng, papers, num_draws) for papers in run.values()], 0) for run in runs])
    chosen = rng.integers(len(runs), size=(num_draws, len(runs)))
    draws = per_run[chosen, np.arange(num_draws)[:, None]].mean(axis=1)
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
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


def _residual_deviation(data: pd.DataFrame, xe: np.ndarray) -> float:
    """The deviation of XE from component means and a line in log2 K: the scale on which variances are compared."""
    design = np.column_stack([pd.get_dummies(data["component"]).to_numpy(float), data["log2_k"]])
    residual = xe - design @ np.linalg.lstsq(design, xe, rcond=None)[0]
    return float(residual.std()) if residual.std() > 1e-12 * max(1.0, abs(xe).max()) else 0.0


def _best_fit(data: pd.DataFrame) -> MixedLMResults:
    """The REML fit of highest likelihood over several starts."""
    model = smf.mixedlm(
        "xe ~ log2_k", data, groups=data["whole"], re_formula="0",
        vc_formula={"component": "0 + C(component)", "run": "0 + C(run)"},
    )  # fmt: skip
    fits = []
    with warnings.catch_warnings():
        # A variance of zero is a legal end of the climb; it is met often, and the best of the starts is what counts.
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        for start in _STARTS:
            begin = MixedLMParams.from_components(fe_params=np.zeros(2), vcomp=np.array(start))
            fits.append(model.fit(reml=True, start_params=begin, method=["lbfgs"]))
    usable = [fit for fit in fits if np.isfinite(fit.llf) and np.isfinite(fit.bse["log2_k"])]
    if not usable:
        raise ValueError("the mixed model has no finite fit on these runs; more runs or values of K are needed")
    return max(usable, key=lambda fit: fit.llf)


def _slope_weights(fit: MixedLMResults, data: pd.DataFrame) -> np.ndarray:
    """[N] the weight of each row's XE in the slope: generalised least squares with the variances of the fit."""
    design_N2 = np.column_stack([np.ones(len(data)), data["log2_k"]])
    covariance_NN = fit.scale * np.eye(len(data))
    for name, variance in zip(fit.model.exog_vc.names, fit.vcomp, strict=True):
        codes = data[name].to_numpy()
        covariance_NN += variance * (codes[:, None] == codes)
    solved_N2 = np.linalg.solve(covariance_NN, design_N2)
    return np.linalg.solve(design_N2.T @ solved_N2, solved_N2.T)[1]


def _paper_error(rows: pd.DataFrame, weights: np.ndarray) -> float:
    """The standard error of a weighted sum of XE from papers that react to K alike in all runs.

    The products, paper by paper, of two runs' weighted deviations: what papers do within one run is in the mixed model
    already, and how hard a paper is in all runs cancels (`estimates` has the same for matched differences).
    """
    total = 0.0
    for _, own in rows.assign(weight=weights).groupby("component"):
        papers = [PaperMeans(windows=row.paper_windows, values=row.paper_xe) for row in own.itertuples()]
        deviations_RP = np.stack([part.deviations for part in papers])
        moved_RP = own["weight"].to_numpy()[:, None] * (deviations_RP - deviations_RP.mean(axis=0))
        total += sum_of_products(moved_RP)
    return float(np.sqrt(max(0.0, total)))


def _paper_draws(rng: np.random.Generator, papers: PaperMeans, num_draws: int) -> np.ndarray:
    """Means [num_draws] of a component's windows when its papers are drawn again with replacement."""
    num_papers = len(papers.windows)
    drawn = rng.multinomial(num_papers, np.full(num_papers, 1 / num_papers), size=num_draws) * papers.windows
    return drawn @ papers.values / drawn.sum(axis=1)
