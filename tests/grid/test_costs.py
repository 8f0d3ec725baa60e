"""The cost model against hours that were worked out by hand."""

import pytest

from helpers.grid.costs import cost_lines, expected_seconds


def test_hours_of_the_paper_s_run_on_an_a100() -> None:
    """271.5 MFLOP a token x 100,000 steps x 256 windows x 100 tokens / (0.4 x 312 TFLOP/s) = 1.55 h."""
    flops = 271_466_496 * 100_000 * 256 * 100
    assert expected_seconds(flops)["A100"] / 3600 == pytest.approx(1.547, abs=5e-4)
    assert expected_seconds(flops)["T4"] / expected_seconds(flops)["A100"] == pytest.approx(312 / 65)


def test_lines_say_that_nothing_was_measured() -> None:
    time, memory = cost_lines(1e18, 2**20)
    assert "40 % of the peak in half precision (not measured): T4 " in time and "H100" in time
    assert memory == "memory of weights, gradients and optimizer: 16.0 MiB and activations"
