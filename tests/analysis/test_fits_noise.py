"""The size of the noise and the draws that are made of it, against normal theory and closed forms."""

import numpy as np
import pytest
from scipy import stats

from helpers.analysis.fits.fit import fit
from helpers.analysis.fits.intervals import draw_noise, infer, noise_parts
from helpers.analysis.fits.laws import CHINCHILLA, OFFSET_POWER_LAW, POWER_LAW
from helpers.analysis.fits.objective import LEAST_SQUARES
from helpers.analysis.fits.points import Points
from helpers.analysis.fits.scale import TUNING, far_out, noise_scale
from tests.analysis.test_fits import simulated


def test_the_scale_is_the_standard_deviation_of_normal_noise() -> None:
    """And solves the equation of Huber's proposal 2, whose right side is E psi^2 by quadrature."""
    residuals = 0.01 * np.random.default_rng(0).normal(size=4000)
    scale = noise_scale(residuals, np.ones(4000), 0)
    assert scale == pytest.approx(0.01, rel=0.03)
    expected = stats.norm.expect(lambda z: np.minimum(z**2, TUNING**2))
    assert np.minimum((residuals / scale) ** 2, TUNING**2).mean() == pytest.approx(expected, rel=1e-6)


def test_one_row_far_out_hardly_moves_the_scale_and_is_found() -> None:
    residuals = 0.01 * np.random.default_rng(0).normal(size=25)
    spoilt = np.where(np.arange(25) == 7, 1e3, residuals)
    clean, moved = (noise_scale(part, np.ones(25), 5) for part in (residuals, spoilt))
    assert moved < 1.3 * clean
    assert far_out(spoilt, np.ones(25), moved, 5).tolist() == [7]
    assert far_out(residuals, np.ones(25), clean, 5).tolist() == []
    assert noise_scale(np.full(9, 1e-14), np.ones(9), 2) == 0.0


def test_delta_is_that_of_the_noise_and_the_fit_loses_little() -> None:
    """The spread of exponents over 60 tables is within 10 % of that of least squares."""
    tables = [simulated(seed) for seed in range(60)]
    robust = [fit(points, OFFSET_POWER_LAW) for points in tables]
    least = [fit(points, OFFSET_POWER_LAW, LEAST_SQUARES).params["b"] for points in tables]
    assert all(own.delta == pytest.approx(TUNING * own.scale, rel=1e-3) for own in robust)
    assert np.std([own.params["b"] for own in robust]) < 1.1 * np.std(least)


def test_drawn_noise_has_the_textbook_interval_of_a_straight_line() -> None:
    points = simulated(offset=0.0, seed=3)
    fitted = fit(points, POWER_LAW, LEAST_SQUARES)
    line = stats.linregress(np.log(points.scales[:, 0]), np.log(points.losses))
    draws = draw_noise(fitted, num_draws=20_000)
    estimate = draws.parameters()["b"]
    half = stats.t.ppf(0.975, draws.freedom) * estimate.standard_error
    assert (estimate.low, estimate.high) == pytest.approx((estimate.value - half, estimate.value + half), rel=0.02)
    assert draws.freedom == 25
    assert estimate.standard_error == pytest.approx(line.stderr, rel=0.03)


def test_configurations_have_noise_of_their_own_where_they_show_it() -> None:
    """Means of 40 configurations that differ by 0.05 and seeds by 0.01; and none where there is none."""
    rng, x = np.random.default_rng(0), np.repeat(np.logspace(0, 3, 40), 3)
    shared = np.repeat(0.05 * rng.normal(size=40), 3)
    apart = Points.of(x, 2 * x**-0.3 * np.exp(shared + 0.01 * rng.normal(size=120)))
    own, of_groups, freedom = noise_parts(fit(apart, POWER_LAW))
    assert (own, of_groups) == pytest.approx((0.01, 0.05), rel=0.35) and freedom == 38
    together = Points.of(x, 2 * x**-0.3 * np.exp(0.01 * rng.normal(size=120)))
    own, of_groups, freedom = noise_parts(fit(together, POWER_LAW))
    assert own == pytest.approx(0.01, rel=0.15) and of_groups == 0 and freedom == 118


def test_an_interval_holds_its_estimate_where_draws_lie_on_one_side() -> None:
    """The last loss of a grid pulls the fit to a bound, which draws then leave on one side only."""
    n, d = np.repeat(10 ** np.arange(7, 9.1, 0.5), 5), np.tile(10 ** np.arange(9, 11.1, 0.5), 5)
    losses = np.round(1.8 + 480 * n**-0.35 + 2000 * d**-0.37, 3)
    losses[-1] = 1.2
    for delta in (None, LEAST_SQUARES):
        draws = infer(Points.of(np.stack([n, d], axis=1), losses), CHINCHILLA, 200, delta=delta)
        for estimate in draws.parameters().values():
            assert estimate.low <= estimate.value <= estimate.high
