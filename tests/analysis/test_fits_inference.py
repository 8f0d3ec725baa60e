"""Intervals, comparisons of forms and arms, and held-out scales, against closed forms, statsmodels and simulation."""

import dataclasses
import json
from dataclasses import asdict
from functools import partial

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from scipy import stats
from scipy.optimize import least_squares
from statsmodels.stats.anova import anova_lm

from benchmarks import fit_coverage
from helpers.analysis.estimates import Estimate
from helpers.analysis.fits.arms import compare_arms, compute_multiplier, crossing, equivalence, exponent_difference
from helpers.analysis.fits.compare import aicc, compare_forms, nested_test, profile
from helpers.analysis.fits.detectable import smallest_detectable_difference
from helpers.analysis.fits.fit import fit
from helpers.analysis.fits.holdout import hold_out, split
from helpers.analysis.fits.intervals import Draws, draw_noise, draw_pairs, draw_wild, infer, wild_factors
from helpers.analysis.fits.laws import CHINCHILLA, OFFSET_POWER_LAW, POWER_LAW
from helpers.analysis.fits.leverage import Leverage
from helpers.analysis.fits.objective import HUBER, LEAST_SQUARES
from helpers.analysis.fits.points import Points
from tests.analysis.test_fits import needs_published, published_points, simulated


def two_arms(difference: float, seed: int = 0, noise: float = 0.01, shared: float = 0.0, offset: float = 1.5) -> Points:
    """Arms g and s at the same six scales, three seeds each, matched by scale and seed."""
    x = np.repeat(np.logspace(0, 3, 6), 3)
    rng = np.random.default_rng(seed)
    together = shared * rng.normal(size=len(x))
    losses = [
        (offset + 2 * x**-exponent) * np.exp(together + noise * rng.normal(size=len(x)))
        for exponent in (0.3, 0.3 + difference)
    ]
    return Points.of(np.tile(x, 2), np.concatenate(losses), ["g"] * len(x) + ["s"] * len(x), 2 * list(range(len(x))))


# Draws


@pytest.mark.parametrize("is_weighted", [False, True])
def test_deleted_residuals_are_those_of_a_fit_without_the_cluster(is_weighted: bool) -> None:
    """Exact for the power law, which is a straight line in logs."""
    points = simulated(noise=0.05, num_sizes=5)
    if is_weighted:
        points = dataclasses.replace(points, weights=np.random.default_rng(0).uniform(0.2, 5, len(points)))
    x, y, roots = np.log(points.scales[:, 0]), np.log(points.losses), np.sqrt(points.weights)
    fitted = fit(points, POWER_LAW, LEAST_SQUARES)
    deleted = Leverage.of(fitted).deleted(fitted.residuals)
    for cluster in range(points.num_clusters):
        left_out = points.clusters == cluster
        slope, intercept = np.polyfit(x[~left_out], y[~left_out], 1, w=roots[~left_out])
        assert deleted[left_out] == pytest.approx(y[left_out] - intercept - slope * x[left_out], abs=1e-8)


def test_wild_draws_have_the_variance_of_the_cluster_jackknife() -> None:
    """CR3 of the slope in closed form; the spread of 20,000 draws is within 2 % of it."""
    points = simulated(noise=0.05, num_sizes=7)
    fitted = fit(points, POWER_LAW, LEAST_SQUARES)
    design = np.stack([np.ones(len(points)), -np.log(points.scales[:, 0])], axis=1)
    weights = np.linalg.inv(design.T @ design) @ design.T * Leverage.of(fitted).deleted(fitted.residuals)
    by_cluster = np.stack([weights[:, points.clusters == g].sum(axis=1) for g in range(7)])
    draws = draw_wild(fitted, num_draws=20_000)
    assert draws.theta.std(axis=0) == pytest.approx(np.sqrt((by_cluster**2).sum(axis=0)), rel=0.02)


def test_wild_draws_have_the_degrees_of_freedom_that_the_variance_of_the_jackknife_has() -> None:
    """2 E[V]^2 / var V of the exponents' difference over 20,000 tables of normal noise, V the CR3 of pairs in closed
    form; 4 % is what they leave. Six pairs at the ends decide it, of eighteen."""
    points = two_arms(0.0)
    draws = draw_wild(fit(points, POWER_LAW.across("gs"), LEAST_SQUARES), num_draws=100)
    x, is_second = np.log(points.scales[:, 0]), (points.arms == "s").astype(float)
    design = np.stack([1 - is_second, is_second, -(1 - is_second) * x, -is_second * x], axis=1)
    solve = np.linalg.inv(design.T @ design) @ design.T
    noise = np.random.default_rng(0).normal(size=(20_000, len(points)))
    residuals, weights, variance = noise - noise @ (design @ solve).T, solve[3] - solve[2], 0.0
    for cluster in range(18):
        rows = points.clusters == cluster
        deleted = residuals[:, rows] @ np.linalg.inv(np.eye(2) - design[rows] @ solve[:, rows]).T
        variance = variance + (deleted @ weights[rows]) ** 2
    expected = 2 * variance.mean() ** 2 / variance.var()
    assert exponent_difference(draws, "g", "s").degrees_of_freedom == pytest.approx(expected, rel=0.04)
    assert expected < 12


def test_wild_factors_belong_to_clusters_and_have_unit_variance() -> None:
    points = two_arms(0.0)
    factors = wild_factors(points, 20_000, np.random.default_rng(0))
    assert (factors[:, :18] == factors[:, 18:]).all()  # matched runs of the arms
    assert factors.mean() == pytest.approx(0, abs=0.01) and factors.var() == pytest.approx(1, abs=0.01)
    assert np.abs(np.corrcoef(factors[:, :18].T) - np.eye(18)).max() < 0.04


def test_pairs_have_the_spread_of_the_sandwich() -> None:
    """White's heteroscedastic variance of a slope, for many points; 5 % is what 4,000 draws of 200 points leave."""
    x = np.logspace(0, 3, 200)
    noise = 0.02 * np.random.default_rng(0).normal(size=200) * np.linspace(0.2, 2, 200)
    points = Points.of(x, 2 * x**-0.3 * np.exp(noise))
    draws = draw_pairs(fit(points, POWER_LAW, LEAST_SQUARES), num_draws=4000)
    frame = pd.DataFrame({"y": np.log(points.losses), "x": np.log(x)})
    reference = smf.ols("y ~ x", frame).fit(cov_type="HC0")
    assert draws.theta[:, 1].std() == pytest.approx(reference.bse["x"], rel=0.05)


@pytest.mark.slow
@needs_published
def test_published_intervals_of_the_chinchilla_law() -> None:
    """The ends of 1,000 draws are known to about a tenth of the interval's length."""
    draws = infer(published_points(), CHINCHILLA, delta=HUBER)
    assert draws.method == "pairs"
    estimates = draws.parameters()
    published = {"A": (285.2, 743.6), "B": (1042.4, 5810.3), "E": (1.769, 1.871)}
    published |= {"alpha": (0.317, 0.373), "beta": (0.331, 0.415)}
    for name, (low, high) in published.items():
        tolerance = (high - low) / 10
        assert (estimates[name].low, estimates[name].high) == pytest.approx((low, high), abs=tolerance), name
    deviations = dict(zip(CHINCHILLA.names, draws.theta.std(axis=0), strict=True))  # as the published ones are
    assert deviations["alpha"] == pytest.approx(0.0154, rel=0.1)
    assert deviations["beta"] == pytest.approx(0.0206, rel=0.1)
    correlations = draws.correlations()
    assert correlations == pytest.approx(np.corrcoef(draws.theta.T))
    assert correlations[0, CHINCHILLA.index("alpha")] > 0.4  # E trades with the exponents


@pytest.mark.slow
@needs_published
def test_a_warm_start_ends_where_a_fit_from_all_starts_does() -> None:
    points = published_points()
    draws = draw_pairs(fit(points, CHINCHILLA, HUBER), num_draws=100, seed=3)
    counts = np.random.default_rng(3).multinomial(240, np.full(240, 1 / 240), size=100)
    spread = draws.theta.std(axis=0)
    again = fit(points.take(np.repeat(np.arange(240), counts[0])), CHINCHILLA, HUBER)
    assert (np.abs(draws.theta[0] - again.theta) < 0.05 * spread).all()


def test_ends_of_drawn_noise_are_percentiles_stretched_by_students_t() -> None:
    draws = draw_noise(fit(simulated(), OFFSET_POWER_LAW, LEAST_SQUARES))
    estimate = draws.parameters()["b"]
    low, high = np.quantile(draws.theta[:, 2], [0.025, 0.975])
    assert draws.freedom == 6  # nine configurations less three parameters: they have noise of their own here
    stretch = 2.4469 / 1.95996  # t and normal, from printed tables
    assert estimate.low - estimate.value == pytest.approx(stretch * (low - estimate.value), rel=1e-4)
    assert estimate.high - estimate.value == pytest.approx(stretch * (high - estimate.value), rel=1e-4)


def test_ends_of_wild_draws_are_t_errors_apart_with_the_percentiles_on_either_side() -> None:
    draws = draw_wild(fit(simulated(noise=0.02), OFFSET_POWER_LAW, LEAST_SQUARES))
    estimate = draws.parameters()["b"]
    t = stats.t.ppf(0.975, estimate.degrees_of_freedom)
    assert (estimate.high - estimate.low) / 2 == pytest.approx(t * estimate.standard_error)
    low, high = np.quantile(draws.theta[:, 2], [0.025, 0.975]) - estimate.value
    assert (estimate.high - estimate.value) / (estimate.low - estimate.value) == pytest.approx(high / low)


def test_the_error_of_wild_draws_is_the_deviation_that_exponents_have() -> None:
    """Mean square of 300 tables' own errors beside the variance of least squares in closed form; nine configurations as
    clusters, where residuals of fits without a cluster overstate it by a fifth. 10 % is what 300 tables leave."""
    errors = []
    for seed in range(300):
        points = simulated(noise=0.02, num_sizes=9, seed=seed, offset=0.0)
        fitted = fit(points, POWER_LAW, LEAST_SQUARES)
        errors.append(draw_wild(fitted, num_draws=200).parameters()["b"].standard_error)
    x = np.log(points.scales[:, 0])
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(0.02 / np.sqrt(((x - x.mean()) ** 2).sum()), rel=0.1)


def test_predictions_hold_parameters_and_seed_noise() -> None:
    """At the middle of many points only the noise of one run is left: about 1.96 deviations to each side."""
    x = np.logspace(0, 3, 300)
    points = Points.of(x, (1.5 + 2 * x**-0.3) * np.exp(0.01 * np.random.default_rng(2).normal(size=300)))
    (estimate,) = draw_pairs(fit(points, OFFSET_POWER_LAW, LEAST_SQUARES)).predict([30.0])
    assert np.log(estimate.high / estimate.low) / 2 == pytest.approx(0.0196, rel=0.1)
    assert estimate.value == pytest.approx(1.5 + 2 * 30**-0.3, rel=0.003)


def test_draws_on_a_bound_are_told() -> None:
    flat = Points.of(simulated().scales, 2 * np.exp(0.01 * np.random.default_rng(0).normal(size=27)))
    assert "draws end on a bound" in infer(flat, OFFSET_POWER_LAW).warnings[-1]
    assert infer(simulated(), OFFSET_POWER_LAW).warnings == ()


def test_too_few_clusters_draws_or_seeds_are_refused() -> None:
    points = simulated()
    few = Points.of(points.scales, points.losses, clusters=np.arange(27) % 3)
    with pytest.raises(ValueError, match="3 clusters cannot give intervals for 3 parameters"):
        infer(few, OFFSET_POWER_LAW)
    for options, message in (({"num_draws": 10}, "bootstrap = 10"), ({"seed": -1}, "seed = -1")):
        with pytest.raises(ValueError, match=message):
            infer(points, OFFSET_POWER_LAW, **options)


# Forms


def test_aicc_by_hand() -> None:
    """n = 10, RSS = 0.2, 3 parameters and the variance: 10 ln 0.02 + 8 + 40 / 5."""
    assert aicc(0.2, 10, 3) == pytest.approx(10 * np.log(0.02) + 16)
    with pytest.raises(ValueError, match="5 points cannot judge a law of 3 parameters; use at least 6"):
        aicc(0.2, 5, 3)


def test_forms_are_told_apart() -> None:
    with_offset = compare_forms(simulated(), (POWER_LAW, OFFSET_POWER_LAW))
    assert [form.law for form in with_offset] == ["offset", "power"]
    assert with_offset[0].delta == 0 and with_offset[1].delta > 10
    without = compare_forms(simulated(seed=1, offset=0.0), (POWER_LAW, OFFSET_POWER_LAW))
    assert without[0].law == "power"


def test_the_f_test_is_that_of_statsmodels_for_straight_lines() -> None:
    points = two_arms(0.1, noise=0.05)
    frame = pd.DataFrame({"y": np.log(points.losses), "x": np.log(points.scales[:, 0]), "arm": points.arms})
    table = anova_lm(smf.ols("y ~ x + arm", frame).fit(), smf.ols("y ~ x * arm", frame).fit()).iloc[1]
    test = nested_test(points, POWER_LAW.across("gs", own=()), POWER_LAW.across("gs"))
    assert (test.statistic, test.p_value) == pytest.approx((table["F"], table["Pr(>F)"]), rel=1e-6)
    assert (test.num_extra, test.degrees_of_freedom) == (1, 32)


def test_the_bootstrap_p_is_uniform_where_matched_runs_share_noise() -> None:
    """The plain F test takes shared noise for its own and hardly ever rejects; its p is far from uniform."""
    laws = POWER_LAW.across("gs", own=()), POWER_LAW.across("gs")
    tables = [two_arms(0.0, seed, noise=0.005, shared=0.02, offset=0.0) for seed in range(80)]
    tests = [nested_test(table, *laws, num_draws=199, seed=1000) for table in tables]
    assert stats.kstest([test.bootstrap_p_value for test in tests], "uniform").pvalue > 1e-3
    assert stats.kstest([test.p_value for test in tests], "uniform").pvalue < 1e-3


def test_a_profile_has_its_minimum_at_the_fit_and_is_the_refitted_objective() -> None:
    points = simulated()
    fitted = fit(points, OFFSET_POWER_LAW, LEAST_SQUARES)
    values = np.array([0.2, fitted.params["b"], 0.4])
    objectives = profile(fitted, "b", values)
    assert objectives[1] == pytest.approx(fitted.objective, rel=1e-8)
    for value, reached in zip(values, objectives, strict=True):
        assert reached == pytest.approx(_cost_at(points, value), rel=1e-6)
    with pytest.raises(ValueError, match="use E or b"):
        profile(fitted, "a", values)


def _cost_at(points: Points, exponent: float) -> float:
    """Half the sum of squares with the exponent held, E and a by scipy."""
    decay, logs = points.scales[:, 0] ** -exponent, np.log(points.losses)
    return float(least_squares(lambda at: logs - np.log(at[0] + at[1] * decay), [1, 1], xtol=1e-14).cost)


# Arms


def test_multiplier_and_crossing_are_the_equations() -> None:
    """L_g(m C) = L_s(C), and both equal at the crossing; every draw is the truth, so the ends are the value."""
    law = OFFSET_POWER_LAW.across("gs")
    theta = np.log([1.5, 3.0, 2.5, np.exp(0.3), np.exp(0.25)])
    fitted = fit(two_arms(0.0), law, LEAST_SQUARES)
    truth = Draws(
        fit=type(fitted)(**{**vars(fitted), "theta": theta}), method="wild", theta=np.tile(theta, (100, 1)),
        noise=np.zeros(100), freedom=17,
    )  # fmt: skip

    def loss(coefficient: float, exponent: float, x: float) -> float:
        return 1.5 + coefficient * x**-exponent

    multiplier = compute_multiplier(truth, "g", "s", 200.0)
    assert loss(3.0, 0.3, multiplier.value * 200.0) == pytest.approx(loss(2.5, 0.25, 200.0))
    assert (multiplier.low, multiplier.high) == pytest.approx((multiplier.value,) * 2)
    at = crossing(truth, "g", "s").value
    assert loss(3.0, 0.3, at) == pytest.approx(loss(2.5, 0.25, at))
    assert exponent_difference(truth, "g", "s").value == pytest.approx(-0.05)


def test_the_crossing_is_bounded_only_where_the_exponents_differ() -> None:
    apart = infer(two_arms(0.1, noise=0.005), OFFSET_POWER_LAW.across("gs"))
    found = crossing(apart, "g", "s")
    assert found.low < 1 < found.high  # the arms are equal at x = 1
    assert found.low < found.value < found.high
    alike = crossing(infer(two_arms(0.0, seed=1), OFFSET_POWER_LAW.across("gs")), "g", "s")
    assert (alike.low, alike.high) == (None, None)


def test_equivalence_is_two_one_sided_t_tests() -> None:
    estimate = Estimate.of(0.004, 0.005, 12, 27)
    found = equivalence(estimate, 0.02)
    assert found.p_value == pytest.approx(
        max(stats.t.sf((0.02 + 0.004) / 0.005, 12), stats.t.cdf((0.004 - 0.02) / 0.005, 12))
    )
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.9, 12, 0.004, 0.005))
    assert found.is_equivalent and not equivalence(estimate, 0.01).is_equivalent


def test_matched_runs_narrow_the_difference() -> None:
    """Noise that matched runs share cancels: as unmatched clusters it would be twice counted."""
    points = two_arms(0.02, noise=0.003, shared=0.02)
    loose = Points.of(points.scales, points.losses, points.arms, range(len(points)))
    law = OFFSET_POWER_LAW.across("gs")
    matched, unmatched = (exponent_difference(infer(one, law), "g", "s").standard_error for one in (points, loose))
    assert matched < unmatched / 3


def test_arms_with_a_known_difference_are_told_apart() -> None:
    """At this noise the difference is many standard errors; E is shared, and its test sees nothing."""
    found = compare_arms(two_arms(0.1, seed=1, noise=0.005), OFFSET_POWER_LAW)
    (comparison,) = found.comparisons
    assert comparison.difference.low < 0.1 < comparison.difference.high
    assert comparison.difference.low > 0
    assert not comparison.equivalence.is_equivalent
    assert found.exponent_test.p_value < 1e-6 and found.exponent_test.bootstrap_p_value < 0.01
    assert found.offset_test.p_value > 0.01
    (small, at_small), (large, at_large) = comparison.multipliers
    assert (small, large) == pytest.approx((1, 1000))
    assert at_small.low < 1 < at_small.high
    assert at_large.low < 1000 ** (1 / 3) < at_large.high  # x^(b2/b1 - 1) of the truth


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="use 2 arms or more"):
        compare_arms(simulated(), POWER_LAW)
    with pytest.raises(ValueError, match="margin = 0 is not possible"):
        compare_arms(two_arms(0.0), POWER_LAW, margin=0)


def test_the_smallest_detectable_difference_has_its_power_in_closed_form() -> None:
    """Two straight lines: the F test is a t test whose power is that of a noncentral t; 400 simulations leave 5 %."""
    x = np.repeat(np.logspace(0, 3, 5), 3)
    found = smallest_detectable_difference(x, POWER_LAW, np.array([0.0, 0.3]), deviation=0.01)
    error = 0.01 * np.sqrt(2 / ((np.log(x) - np.log(x).mean()) ** 2).sum())
    power = stats.nct.sf(stats.t.ppf(0.975, 26), 26, found / error)
    assert power == pytest.approx(0.8, abs=0.05)
    offset = smallest_detectable_difference(x, OFFSET_POWER_LAW, np.log([1.5, 2.0, np.exp(0.3)]), deviation=0.01)
    assert offset > 1.5 * found  # a free E, and a reducible part of half the loss


# Held-out scales


def test_held_out_scales_by_hand() -> None:
    """An exact power law: no error, the distance ln 4, and baselines that follow from two points."""
    x = np.array([1, 2, 4, 8, 32], dtype=float)
    losses = 3 * x**-0.5 * np.exp([0.01, -0.01, -0.01, 0.01, 0.02])
    train, test = split(Points.of(x, losses))
    (row,) = hold_out(train, test, POWER_LAW)
    slope, intercept = np.polyfit(np.log(x[:4]), np.log(losses[:4]), 1)
    predicted = np.exp(intercept + slope * np.log(32))
    assert row.prediction.value == pytest.approx(predicted)
    assert row.error == pytest.approx(predicted - losses[4])
    assert row.relative_error == pytest.approx(predicted / losses[4] - 1)
    assert row.perplexity_error == pytest.approx(np.exp(predicted - losses[4]) - 1)
    assert row.distance == pytest.approx(np.log(4))
    assert np.isnan(row.error_in_seeds)
    two_point = losses[3] * (losses[3] / losses[2]) ** (np.log(4) / np.log(2))
    assert row.baselines == pytest.approx(
        {"last value": losses[3], "pure power law": predicted, "two-point slope": two_point}
    )
    line = stats.linregress(np.log(x[:4]), np.log(losses[:4]))
    residuals = np.log(losses[:4]) - line.intercept - line.slope * np.log(x[:4])
    leverage = 1 / 4 + (np.log(32) - np.log(x[:4]).mean()) ** 2 / (np.log(x[:4]).var() * 4)
    half = 4.30265 * np.sqrt((residuals**2).sum() / 2 * (1 + leverage))  # t on 2 degrees of freedom, printed
    assert np.log(row.prediction.high / predicted) == pytest.approx(half, rel=1e-5)
    assert row.is_covered == (abs(np.log(predicted / losses[4])) <= half)


def test_held_out_scales_of_two_arms_with_seeds() -> None:
    points = two_arms(0.02)
    train, test = split(points)
    assert (len(train), len(test)) == (30, 6)
    rows = hold_out(train, test, OFFSET_POWER_LAW.across("gs"))
    assert [row.arm for row in rows] == ["g"] * 3 + ["s"] * 3
    assert all(row.distance == pytest.approx(np.log(1000) / 5) for row in rows)
    first = rows[0]
    errors = np.log(first.prediction.value / first.loss) / train.seed_deviation
    assert first.error_in_seeds == pytest.approx(errors)
    assert abs(first.error) < abs(first.baselines["last value"] - first.loss)


def test_held_out_runs_have_to_be_the_larger() -> None:
    train, test = split(simulated())
    with pytest.raises(ValueError, match="are not larger than fitted ones"):
        hold_out(test, train, POWER_LAW)
    with pytest.raises(ValueError, match="held out = 9 of 9 sizes"):
        split(simulated(), 9)


# Measured rates

MEASURED = json.loads(fit_coverage.RESULT.read_text())


def test_the_committed_rates_are_of_the_truths_that_the_benchmark_names() -> None:
    assert MEASURED["draws"] == fit_coverage.NUM_DRAWS
    assert {name: row["truth"] for name, row in MEASURED["one_arm"].items()} == {
        name: asdict(truth) for name, truth in fit_coverage.ONE_ARM.items()
    }
    assert len(MEASURED["two_arms"]) == 2 * len(fit_coverage.ARMS)


LOW, HIGH = 0.922, 0.978
"""The 99 % band of 400 draws of 95 %: too wide is as wrong as too narrow."""


def test_intervals_cover_what_they_claim() -> None:
    assert MEASURED["simulations"] >= 400 and MEASURED["arm_simulations"] >= 400
    for name, rates in MEASURED["one_arm"].items():
        assert LOW <= rates["exponent_covered"] <= HIGH, name
        assert LOW <= rates["prediction_covered"] <= HIGH, name
        assert 0.9 <= rates["error_over_deviation"] <= 1.1, name
    for name, rates in MEASURED["two_arms"].items():
        assert LOW <= rates["difference_covered"] <= HIGH, name
        if rates["difference"] == 0:
            assert 0.022 <= rates["f_test_rejects_by_bootstrap"] <= 0.078, name


@pytest.mark.slow
def test_a_short_simulation_agrees_with_the_committed_rates() -> None:
    """40 tables of nine configurations; beyond these counts the committed rate has a probability below 0.1 %."""
    name = "offset law, 9 configurations of 3 seeds"
    judge = partial(fit_coverage.judge_one, truth=fit_coverage.ONE_ARM[name])
    covered = sum(judge(10_000 + seed)["exponent_covered"] for seed in range(40))
    assert covered >= stats.binom.ppf(0.001, 40, MEASURED["one_arm"][name]["exponent_covered"])
    name = "power law, 5 configurations of 3 matched seeds"
    judge = partial(fit_coverage.judge_arms, truth=fit_coverage.ARMS[name], difference=0.0)
    rejected = sum(judge(10_000 + seed)["f_test_rejects_by_bootstrap"] for seed in range(40))
    assert rejected <= stats.binom.ppf(0.999, 40, 0.05)
