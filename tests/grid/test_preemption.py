"""The simulated cluster against the closed forms of Young and Daly, and a worker that is never pre-empted."""

import numpy as np
import pytest

from benchmarks.cluster import Setting, best_period_s, daly_s, expected_s, simulate_run, young_s

SETTING = Setting(work_s=3600.0, period_s=300.0, checkpoint_s=5.0, restart_s=60.0, mtbf_s=1800.0)


@pytest.mark.parametrize("mtbf_s", [900.0, 1800.0, 36_000.0])
def test_the_mean_of_simulated_runs_is_dalys_expectation(mtbf_s):
    """Which follows from an attempt of length L taking M (1 - e^(-L/M)) in the mean, whether it succeeds or not: the
    first at a segment has L = t + d, a later one the restart more, and each succeeds with e^(-L/M)."""
    setting = Setting(**{**vars(SETTING), "mtbf_s": mtbf_s})
    rng = np.random.default_rng(0)
    times = np.array([simulate_run(setting, rng).elapsed_s for _ in range(4000)])
    assert abs(times.mean() - expected_s(setting)) < 4 * times.std() / np.sqrt(len(times))
    first, later = (np.exp(-length / mtbf_s) for length in (305.0, 365.0))
    segment = mtbf_s * (1 - first) + (1 - first) * mtbf_s * (1 - later) / later
    assert expected_s(setting) == pytest.approx(12 * segment, rel=1e-12)


def test_without_pre_emption_nothing_is_lost():
    calm = Setting(**{**vars(SETTING), "mtbf_s": 1e15})
    run = simulate_run(calm, np.random.default_rng(0))
    assert (run.elapsed_s, run.lost_s, run.num_preemptions) == (3600 + 12 * 5, 0.0, 0)


def test_the_best_period_is_the_closed_one():
    assert young_s(5, 1800) == pytest.approx(134.164, abs=1e-3)
    assert daly_s(5, 1800) == pytest.approx(young_s(5, 1800) * (1 + (5 / 3600) ** 0.5 / 3 + 5 / 3600 / 9) - 5)
    assert daly_s(5, 2) == 2
    periods = [daly_s(5, 1800) * factor for factor in (0.25, 0.5, 1.0, 2.0, 4.0)]
    assert best_period_s(SETTING, periods, seed=0, runs=1500) == periods[2]
