"""Means over runs and papers against closed forms and simulation, and what a grid can detect against its own test."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from helpers.analysis.estimates import PaperMeans, mean_over_runs, mean_over_runs_and_papers, shared_variance
from helpers.analysis.power import smallest_detectable
from helpers.studies.ergodic.matched import seed_deviation
from helpers.studies.ergodic.plan_power import smallest_detectable_slope

KS = (1, 2, 4, 8, 11)


def measured(values: np.ndarray, names: str = "ab") -> list[dict[str, PaperMeans]]:
    """Runs from values [runs, components, papers], every paper with as many windows."""
    windows = np.full(values.shape[2], 4)
    return [
        {name: PaperMeans(windows=windows, values=papers) for name, papers in zip(names, run, strict=False)}
        for run in values
    ]


# Means


def test_mean_over_runs_is_the_one_sample_t_interval() -> None:
    values = np.array([0.3, -0.1, 0.4, 0.25])
    estimate = mean_over_runs(values)
    reference = stats.ttest_1samp(values, 0)
    assert (estimate.low, estimate.high) == pytest.approx(tuple(reference.confidence_interval(0.95)))
    assert estimate.p_value == pytest.approx(reference.pvalue)
    assert mean_over_runs(values[:1]).high == np.inf


def test_the_shared_variance_is_the_mean_covariance_of_two_runs_means() -> None:
    """For one component of equal papers: the sample covariance of two runs over papers, divided by their number."""
    values = np.random.default_rng(0).normal(size=(3, 1, 7)) + np.arange(7.0)
    covariance = np.cov(values[:, 0])
    expected = np.mean([covariance[r, s] for r, s in itertools.permutations(range(3), 2)]) / 7
    assert shared_variance(measured(values, "a")) == (pytest.approx(expected), 6)


def test_papers_of_more_windows_weigh_more() -> None:
    """A paper of two windows is as two papers of one with the same value, but for the number of clusters."""
    few, many = np.array([1.0, 4.0, 2.0]), np.array([1.0, 4.0, 2.0, 2.0])
    uneven = [{"a": PaperMeans(windows=np.array([1, 1, 2]), values=run * few)} for run in (1, 2)]
    even = [{"a": PaperMeans(windows=np.ones(4, int), values=run * many)} for run in (1, 2)]
    assert mean_over_runs_and_papers(uneven).value == pytest.approx(1.5 * many.mean())
    # Deviations of a 4th of -1.25, 1.75 and twice -0.25: by paper, the last two are one cluster.
    sums = {"uneven": 1.25**2 + 1.75**2 + 0.5**2, "even": 1.25**2 + 1.75**2 + 2 * 0.25**2}
    assert shared_variance(uneven)[0] == pytest.approx(2 * sums["uneven"] / 16 * 3 / 2)
    assert shared_variance(even)[0] == pytest.approx(2 * sums["even"] / 16 * 4 / 3)


def test_runs_on_different_components_share_no_noise() -> None:
    values = np.random.default_rng(1).normal(size=(3, 1, 5))
    runs = [{name: measured(values[[run]], "a")[0]["a"]} for run, name in enumerate("xyz")]
    assert shared_variance(runs) == (0.0, 0)
    ours, reference = mean_over_runs_and_papers(runs), mean_over_runs(values.mean(axis=(1, 2)))
    assert (ours.value, ours.low, ours.p_value) == pytest.approx((reference.value, reference.low, reference.p_value))


def test_the_interval_is_the_weighted_mean_of_both_quantiles() -> None:
    rng = np.random.default_rng(2)
    values = rng.normal(size=(3, 2, 9)) * 0.2 + rng.normal(size=(2, 9)) + rng.normal(size=(3, 1, 1)) * 0.3
    estimate = mean_over_runs_and_papers(measured(values))
    runs, papers = values.mean(axis=(1, 2)).var(ddof=1) / 3, shared_variance(measured(values))[0]
    # Student's t, 0.975 quantiles for 2 and 16 degrees of freedom, from a printed table.
    half = (4.3027 * runs + 2.1199 * papers) / math.sqrt(runs + papers)
    assert papers > 0
    assert (estimate.low, estimate.high) == pytest.approx((values.mean() - half, values.mean() + half), rel=1e-4)
    assert (estimate.p_value < 0.05) == (not estimate.low <= 0 <= estimate.high)


def test_one_run_has_no_interval() -> None:
    estimate = mean_over_runs_and_papers(measured(np.ones((1, 2, 5))))
    assert (estimate.value, estimate.high, estimate.num_runs) == (1.0, np.inf, 1)


@pytest.mark.slow
@pytest.mark.parametrize("components", ["same", "different"])
@pytest.mark.parametrize("shared", [0.0, 0.003, 0.02])
def test_the_interval_covers_whatever_part_comes_from_papers(components: str, shared: float) -> None:
    """1,000 grids of 3 seeds, in each 40 papers of each of two components that are drawn anew for each grid.

    `shared` is the deviation of the grid's mean that comes from papers, beside one of runs of 0.01.
    """
    rng, num_grids, covered = np.random.default_rng(3), 1_000, 0
    for _ in range(num_grids):
        seeds = rng.normal(0, 0.01, size=(3, 1, 1))
        papers = rng.normal(0, shared * math.sqrt(80), size=(1 if components == "same" else 3, 2, 40))
        values = seeds + papers + rng.normal(0, 0.02, size=(3, 2, 40))
        runs = measured(values)
        if components == "different":
            runs = [{f"{name}{run}": part for name, part in own.items()} for run, own in enumerate(runs)]
        estimate = mean_over_runs_and_papers(runs)
        covered += estimate.low <= 0 <= estimate.high
    assert 0.93 <= covered / num_grids <= 0.98


# Power


def test_smallest_detectable_slope_is_detected_as_often_as_stated() -> None:
    """Simulated least squares at that slope rejects in 80 % of 2,000 draws."""
    ks = np.repeat(KS, 3)
    slope = smallest_detectable_slope(ks, seed_deviation=0.01)
    rng = np.random.default_rng(0)
    fits = [stats.linregress(np.log2(ks), slope * np.log2(ks) + rng.normal(0, 0.01, 15)) for _ in range(2000)]
    assert np.mean([fit.pvalue < 0.05 for fit in fits]) == pytest.approx(0.8, abs=0.03)
    error = 0.01 / np.sqrt(15 * np.log2(ks).var())
    assert slope == smallest_detectable(error, 13)


def test_too_few_runs_detect_nothing() -> None:
    assert smallest_detectable_slope(np.array([1, 2]), 0.01) == np.inf
    assert smallest_detectable_slope(np.array([4, 4, 4]), 0.01) == np.inf
    assert smallest_detectable(0.01, 0) == np.inf


def test_the_seed_deviation_is_pooled_over_k() -> None:
    matched = pd.DataFrame({"k": [1, 1, 2, 2, 4, 4, 4, 8], "dxe": [0.0, 0.0, 0.01, 0.03, 0.01, 0.02, 0.03, 0.5]})
    # Variances 2e-4 at K = 2 and 1e-4 at K = 4, which are 3/2 and 5/4 of a run's, with 1 and 2 degrees of freedom; one
    # run at K = 8 has none, and K = 1 is zero by itself.
    expected = math.sqrt((2e-4 / 1.5 + 2 * 1e-4 / 1.25) / 3)
    assert seed_deviation(matched) == (pytest.approx(expected), 3)
    deviation, freedom = seed_deviation(matched[matched["k"] == 8])
    assert math.isnan(deviation) and freedom == 0


def test_the_seed_deviation_is_that_of_runs() -> None:
    """300 grids of three seeds, in which a run's deviation is 0.01 and every component has its own run at K = 1."""
    rng, rows = np.random.default_rng(4), []
    for _ in range(300):
        for k, seed in itertools.product((2, 8), range(3)):
            rows.append({"k": k, "seed": seed, "dxe": rng.normal(0, 0.01) - rng.normal(0, 0.01, k).mean()})
    deviation, freedom = seed_deviation(pd.DataFrame(rows))
    assert freedom == 2 * 899
    assert deviation == pytest.approx(0.01, rel=0.05)
