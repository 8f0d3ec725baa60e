"""The slope of XE on log2 K, and the two tests of it that assume less: a permutation of K over runs, and Page's trend.

XE of run r on component c is a level of the component, the slope times log2 K, and noise of four origins: the run, its
seed (runs of one seed share batches), the cell (run and component), and the papers of the evaluation. Papers react to K
by chance, alike in all runs: what that does to a component's mean grows with log2 K, so that more runs do not average
it out. Its size is known before the fit, from how differently the papers of a component react (`reaction_variance`).
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from helpers.analysis.estimates import Estimate, PaperMeans
from helpers.studies.ergodic.mixed_model import RESIDUAL, MixedFit, fit_mixed
from helpers.studies.ergodic.structured import Groups

MOST_OF_PAPERS = 0.1
"""Of the variance of the slope that runs leave. Above it a test that knows the noise of runs alone, as Page's does,
errs in more than 6 % of experiments without an effect."""
_NUM_PERMUTATIONS = 4_000


@dataclass(frozen=True, kw_only=True)
class Tested:
    """The p-value of a permutation test, and the lowest that it could have had."""

    p_value: float
    floor: float

    @property
    def is_at_floor(self) -> bool:
        return self.p_value <= self.floor * (1 + 1e-9)


@dataclass(frozen=True, kw_only=True)
class SlopeModel:
    """The mixed model of some runs: XE ~ log2 K + (1 | component) + (1 | run) + (1 | seed) + what papers do."""

    rows: pd.DataFrame
    log2_k: np.ndarray
    """(N,) of each row of a run and component."""
    fit: MixedFit
    reaction_variance: float
    """Of one component's change of XE a doubling of K, by which papers it is measured on."""
    degrees_of_freedom: int

    @property
    def estimate(self) -> Estimate:
        error = float(np.sqrt(self.fit.covariance_PP[1, 1]))
        num_runs = self.rows["run_id"].nunique()
        return Estimate.of(float(self.fit.coefficients_P[1]), error, self.degrees_of_freedom, num_runs)

    @property
    def share_of_papers(self) -> float:
        """The part of the slope's variance that comes from papers, over the part that runs leave."""
        papers = self.variance_of_papers(self.fit.weights_PN[1])
        return papers / max(float(self.fit.covariance_PP[1, 1]) - papers, np.finfo(float).tiny)

    def reactions(self, xe_NQ: np.ndarray) -> np.ndarray:
        """What papers do to each row of each column of XE, as best predicted where there is no slope (Henderson 1975,
        Biometrics 31:423)."""
        precision_N = self.fit.solve(np.ones((len(xe_NQ), 1)))[:, 0]
        level_Q = precision_N @ xe_NQ / precision_N.sum()
        papers_NC = self._reacting
        return self.reaction_variance * papers_NC @ (papers_NC.T @ self.fit.solve(xe_NQ - level_Q))

    def noise_of_runs(self) -> np.ndarray:
        """(N, Q) whose product with its transpose is the covariance of the rows by the noise of runs and cells."""
        cells, runs = (np.sqrt(self.fit.variances[name]) for name in (RESIDUAL, "run"))
        return np.hstack([cells * np.eye(len(self.rows)), runs * _levels(self.rows["run_id"])])

    def noise_of_papers(self) -> np.ndarray:
        """(N, C) the same, by papers."""
        return np.sqrt(self.reaction_variance) * self._reacting

    @property
    def _reacting(self) -> np.ndarray:
        return _levels(self.rows["component"]) * self.log2_k[:, None]

    def variance_of_papers(self, weights_N: np.ndarray) -> float:
        """Of a weighted sum of the rows' XE."""
        return float(((weights_N @ self.noise_of_papers()) ** 2).sum())


def slope_model(rows: pd.DataFrame) -> SlopeModel:
    """The model of `rows`, one a run and component, as `Results.xe`.

    Student's t has as many degrees of freedom as runs less two, for K is a property of runs, and less one for each
    further seed. ValueError if the rows have fewer than three runs, one K only, or no noise.
    """
    num_runs = rows["run_id"].nunique()
    if num_runs < 3 or rows["k"].nunique() < 2:
        raise ValueError(f"a slope needs 3 runs at 2 values of K; there are {num_runs} at {rows['k'].nunique()}")
    log2_k = np.log2(rows["k"].to_numpy(float))
    components = rows["component"].to_numpy()
    nested = {"run": rows["run_id"].to_numpy()}
    of_seeds = rows.groupby("seed")["k"].nunique()
    beside_seeds = num_runs - len(of_seeds) - int((of_seeds > 1).any())  # a line in K is one more where seeds have it
    if len(of_seeds) > 1 and beside_seeds > 0:
        nested["seed"] = rows["seed"].to_numpy()
    variance = reaction_variance(rows)
    reacting_NC = _levels(rows["component"]) * log2_k[:, None]
    return SlopeModel(
        rows=rows,
        log2_k=log2_k,
        fit=fit_mixed(
            rows["xe"].to_numpy(float),
            np.column_stack([np.ones(len(rows)), log2_k]),
            {"component": components},
            nested,
            known_NL=np.sqrt(variance) * reacting_NC,
        ),
        reaction_variance=variance,
        degrees_of_freedom=beside_seeds if "seed" in nested else num_runs - 2,
    )


def slope(rows: pd.DataFrame) -> Estimate:
    """The change of XE a doubling of K, over the noise of runs, seeds and papers (`slope_model`)."""
    return slope_model(rows).estimate


def reaction_variance(rows: pd.DataFrame) -> float:
    """The variance of a component's mean change of XE a doubling of K by which papers were drawn, the mean over
    components; 0 where no component has three runs at two values of K and two papers.

    A paper's reaction is the slope of its deviation from its component, in a run, on log2 K. What the noise of cells
    adds to the spread of these slopes is taken off, as least squares of each paper over the runs leaves it.
    """
    variances = [variance for _, own in rows.groupby("component") if (variance := _reaction_variance(own)) is not None]
    return max(0.0, float(np.mean(variances))) if variances else 0.0


def _reaction_variance(own: pd.DataFrame) -> float | None:
    """Of one component; below 0 by chance where papers hardly react. None if it cannot be told."""
    x_R = np.log2(own["k"].to_numpy(float))
    centred_R = x_R - x_R.mean()
    squares = float(centred_R @ centred_R)
    columns = zip(own["paper_windows"], own["paper_xe"], strict=True)
    papers = [PaperMeans(windows=windows, values=values) for windows, values in columns]
    num_papers = len(papers[0].windows)
    if len(own) < 3 or squares == 0 or num_papers < 2:
        return None
    moved_RP = np.stack([run.deviations for run in papers])
    moved_RP = moved_RP - moved_RP.mean(axis=0)
    slopes_P = centred_R @ moved_RP / squares
    left_RP = moved_RP - np.outer(centred_R, slopes_P)
    noise_P = (left_RP**2).sum(axis=0) / (len(own) - 2) / squares
    return float((slopes_P**2 - noise_P).sum()) * num_papers / (num_papers - 1)


def permutation_test(
    rows: pd.DataFrame, model: SlopeModel, num_permutations: int = _NUM_PERMUTATIONS, seed: int = 0
) -> Tested:
    """No relation between XE and K: K is permuted over the runs of a seed (Freedman & Lane 1983).

    Components' means, and seeds', are taken out first. What is left of a run is one number, and runs on many components
    have a smaller deviation: numbers are exchanged in units of the deviation that the model gives each. To each
    permutation the papers' noise is added, which no exchange of runs holds, and which is taken out of what is exchanged
    as far as it can be predicted. What was taken out leaves less noise than runs have, in the usual grid by 15 % of its
    variance: what is exchanged is stretched by what the model says of that. All permutations where they are few, else
    (1 + exceedances) / (1 + permutations), so never 0.
    """
    runs = rows.drop_duplicates("run_id").set_index("run_id")[["k", "seed"]]
    means = _RunMeans.of(rows, runs)
    xe_N = rows["xe"].to_numpy(float)
    deviation_R = _run_deviations(runs, model)
    blocks_R = _blocks(runs)
    x_R = _weighted_centred(np.log2(runs["k"].to_numpy(float)), deviation_R, blocks_R)
    score_R = x_R / deviation_R
    observed = float(score_R @ (means.of_runs(xe_N) / deviation_R))
    weights_N, of_runs_NQ = means.weights(score_R / deviation_R), model.noise_of_runs()
    columns_NQ = np.column_stack([xe_N, of_runs_NQ, model.noise_of_papers()])
    left_RQ = means.of_runs(columns_NQ - model.reactions(columns_NQ)) / deviation_R[:, None]
    variance, exchanged = ((weights_N @ of_runs_NQ) ** 2).sum(), _exchanged_variance(score_R, left_RQ[:, 1:], blocks_R)
    exchangeable_R = left_RQ[:, 0] * (math.sqrt(variance / exchanged) if exchanged > 0 else 1.0)
    rng = np.random.default_rng(seed)
    whole = math.prod(math.factorial(count) for count in np.bincount(blocks_R)) <= num_permutations
    orders = _all_orders(blocks_R) if whole else _random_orders(blocks_R, num_permutations, rng)
    exchanged = np.array([exchangeable_R[order] @ score_R for order in orders])
    papers = rng.normal(0, math.sqrt(model.variance_of_papers(weights_N)), len(exchanged))
    sizes = np.abs(exchanged + papers)
    extra = 0 if whole else 1
    exceed = int((sizes >= abs(observed) * (1 - 1e-12)).sum())
    least = int((np.abs(exchanged) >= np.abs(exchanged).max() * (1 - 1e-12)).sum()) if whole else 0
    total = len(exchanged) + extra
    return Tested(p_value=max(exceed + extra, 1) / total, floor=(least + extra) / total)


def trend_test(by_seed: pd.DataFrame, num_permutations: int = _NUM_PERMUTATIONS, seed: int = 0) -> Tested:
    """Page's test that dXE rises with K, seeds as blocks (Page 1963, JASA 58:216), by permuting each seed's values.

    `by_seed` has a row a seed and a column a K, ascending; seeds with a missing K are left out. Ties have the mean of
    their ranks. ValueError if fewer than two seeds or three K remain.
    """
    whole = by_seed.dropna(axis="index")
    if len(whole) < 2 or whole.shape[1] < 3:
        raise ValueError(f"a trend needs 2 whole seeds and 3 values of K; there are {len(whole)} and {whole.shape[1]}")
    ranks_SK = whole.rank(axis="columns").to_numpy()
    order_K = np.arange(1.0, whole.shape[1] + 1)
    observed = float((ranks_SK @ order_K).sum())
    rng = np.random.default_rng(seed)
    drawn = np.broadcast_to(ranks_SK, (num_permutations, *ranks_SK.shape))
    reached = (rng.permuted(drawn, axis=2) @ order_K).sum(axis=1)
    exceed = int((reached >= observed - 1e-9).sum())
    ways = math.factorial(whole.shape[1]) ** len(whole)
    return Tested(p_value=(1 + exceed) / (1 + num_permutations), floor=max(1 / (1 + num_permutations), 1 / ways))


@dataclass(frozen=True, kw_only=True)
class _RunMeans:
    """What the means of components leave of each run: the mean of its rows, linear in XE."""

    runs: Groups
    """Of rows."""
    components_NC: np.ndarray
    """The components' indicators, and beside them their pseudoinverse (C, N)."""
    inverse_CN: np.ndarray

    @classmethod
    def of(cls, rows: pd.DataFrame, runs: pd.DataFrame) -> "_RunMeans":
        components = _levels(rows["component"])
        return cls(
            runs=Groups.of(runs.index.get_indexer(rows["run_id"])), components_NC=components,
            inverse_CN=components.T / components.sum(axis=0)[:, None],
        )  # fmt: skip

    def of_runs(self, xe_NQ: np.ndarray) -> np.ndarray:
        """(R, Q)"""
        return self.runs.means(xe_NQ - self.components_NC @ (self.inverse_CN @ xe_NQ))

    def weights(self, weights_R: np.ndarray) -> np.ndarray:
        """(N,) the weight of each row in a weighted sum of the runs."""
        spread_N = self.runs.spread(weights_R / self.runs.counts_G)
        return spread_N - self.inverse_CN.T @ (self.components_NC.T @ spread_N)


def _run_deviations(runs: pd.DataFrame, model: SlopeModel) -> np.ndarray:
    """(R,) the deviation of a run's mean over its components."""
    variances = model.fit.variances
    counts = model.rows.groupby("run_id")["component"].size().reindex(runs.index).to_numpy()
    return np.sqrt(variances["run"] + variances[RESIDUAL] / counts)


def _blocks(runs: pd.DataFrame) -> np.ndarray:
    """(R,) whose runs may be exchanged: those of a seed, unless no seed has runs at two values of K."""
    by_seed = pd.factorize(runs["seed"])[0]
    return by_seed if (runs.groupby("seed")["k"].nunique() > 1).any() else np.zeros(len(runs), dtype=int)


def _weighted_centred(values_R: np.ndarray, deviation_R: np.ndarray, blocks_R: np.ndarray) -> np.ndarray:
    """Less their block's mean, weighted as the runs are."""
    weights = 1 / deviation_R**2
    means = np.bincount(blocks_R, weights * values_R) / np.bincount(blocks_R, weights)
    return values_R - means[blocks_R]


def _exchanged_variance(score_R: np.ndarray, left_RQ: np.ndarray, blocks_R: np.ndarray) -> float:
    """Of a score over what is left of runs, by exchanges within blocks; the sum over the columns."""
    blocks = Groups.of(blocks_R)
    scores_B, left_BQ = (
        blocks.sums((values - blocks.spread(blocks.means(values))) ** 2) for values in (score_R[:, None], left_RQ)
    )
    return float((scores_B * left_BQ / np.maximum(blocks.counts_G - 1, 1)[:, None]).sum())


def _random_orders(blocks_R: np.ndarray, num_permutations: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """(R,) each: permutations within blocks."""
    by_block = np.argsort(blocks_R, kind="stable")
    for _ in range(num_permutations):
        order = np.empty(len(blocks_R), dtype=int)
        order[by_block] = np.lexsort((rng.random(len(blocks_R)), blocks_R))
        yield order


def _all_orders(blocks_R: np.ndarray) -> Iterator[np.ndarray]:
    """(R,) each: every permutation within blocks."""
    places = [np.flatnonzero(blocks_R == block) for block in range(blocks_R.max() + 1)]
    for parts in itertools.product(*(itertools.permutations(place) for place in places)):
        order = np.empty(len(blocks_R), dtype=int)
        for place, part in zip(places, parts, strict=True):
            order[place] = part
        yield order


def _levels(column: pd.Series) -> np.ndarray:
    return pd.get_dummies(column).to_numpy(float)
