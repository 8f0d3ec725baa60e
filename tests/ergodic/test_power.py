"""What a plan says of the slope that its grid detects, and where the deviation between seeds comes from."""

import dataclasses
import re

import numpy as np
import pytest

from helpers.__main__ import main
from helpers.config import RunConfig
from helpers.studies import find_preset, known_components
from helpers.studies.ergodic.plan_power import ASSUMED_DEVIATION, plan_note, smallest_detectable_slope
from helpers.studies.ergodic.roles import Comparisons
from helpers.studies.preset import Preset
from tests.simulated_results import run_config
from tests.simulated_truth import KS, Truth, simulate


def runs_of(preset: Preset) -> list[RunConfig]:
    return list(preset.runs(known_components(preset.config.data)))


def simulated_grid() -> list[RunConfig]:
    """The grid that `simulate` writes, as a preset would plan it."""
    preset = Preset(
        description="", config=run_config(1, 0), axes={"k": KS, "seed": (0, 1, 2)},
        companions=Comparisons(baselines=True, shuffle_control=True),
    )  # fmt: skip
    return runs_of(preset)


def test_an_assumed_deviation_is_named_as_such(storage) -> None:
    paper = runs_of(find_preset("ergodic", "paper"))
    text = plan_note(paper, storage, measure=True)
    # 15 runs of the grid and 30 on one component: a sum of squares by hand, with log2 of 1, 2, 4, 8, 11 at three seeds.
    log2_k = np.array([1, 2, 3, np.log2(11)])
    spread = 3 * (log2_k**2).sum() - (3 * log2_k.sum()) ** 2 / 45
    least = (2.0167 + 0.8497) * 0.01 / np.sqrt(spread)  # Student's t with 43 degrees of freedom, printed table
    assert f"{least:.4f} (45 runs; standard deviation of XE between seeds 0.0100, assumed)" in text
    assert "(an ideal learner's is at most 0.0070)" in text  # ln 2 / 99
    assert "0.001 to 0.026" in text and "--seed-deviation" in text
    assert least == pytest.approx(smallest_detectable_slope(np.array([1] * 33 + [2, 4, 8, 11] * 3), 0.01), rel=1e-3)


def test_a_deviation_that_is_given_counts_before_all_others(storage) -> None:
    simulate(storage, Truth(), 0)
    twice = plan_note(simulated_grid(), storage, measure=True, seed_deviation=2 * ASSUMED_DEVIATION)
    assert "0.0200, as given)" in twice and "assumed" not in twice
    for deviation in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="use nats per token above 0"):
            plan_note(simulated_grid(), storage, measure=True, seed_deviation=deviation)


def test_results_are_read_only_where_time_may_be_spent(storage) -> None:
    simulate(storage, Truth(run_deviation=0.03, window_deviation=1e-4, reaction_deviation=0.0), 1)
    assert "0.0100, assumed)" in plan_note(simulated_grid(), storage, measure=False)


def test_runs_of_the_same_condition_are_measured(storage) -> None:
    simulate(storage, Truth(run_deviation=0.03, window_deviation=1e-4, reaction_deviation=0.0), 1)
    text = plan_note(simulated_grid(), storage, measure=True)
    measured = float(re.search(r"between seeds (0\.\d+), measured in 12 matched runs\)", text)[1])
    assert measured == pytest.approx(0.03, rel=0.6)  # 95 % of estimates with 8 degrees of freedom
    assert "assumed" not in text
    other = [dataclasses.replace(run, train=dataclasses.replace(run.train, steps=9)) for run in simulated_grid()]
    other = [dataclasses.replace(run, train=dataclasses.replace(run.train, warmup_steps=1)) for run in other]
    assert "0.0100, assumed)" in plan_note(other, storage, measure=True)


def test_too_few_matched_runs_are_no_measurement(storage) -> None:
    simulate(storage, Truth(), 0, seeds=(0,))
    assert "0.0100, assumed)" in plan_note(simulated_grid(), storage, measure=True)


def test_every_size_has_its_own_line_and_a_single_k_has_none(storage) -> None:
    lines = plan_note(runs_of(find_preset("ergodic", "size")), storage, measure=True).splitlines()
    assert [line.split(", ")[1] for line in lines if "45 runs" in line] == ["14m", "31m", "70m", "160m", "410m"]
    smoke = find_preset("ergodic", "smoke")
    assert plan_note([smoke.at(k=2, seed=seed) for seed in range(9)], storage, measure=True) == ""
    assert "none, too few runs (2 runs;" in plan_note([smoke.at(k=k, seed=0) for k in (1, 2)], storage, measure=True)


def test_the_plan_of_the_command_line_says_it(storage, capsys) -> None:
    arguments = ["plan", "--preset", "demo", "--no-measure", "--storage", str(storage.root)]
    assert main([*arguments, "--seed-deviation", "0.002"]) == 0
    assert "0.0009 (30 runs; standard deviation of XE between seeds 0.0020, as given)" in capsys.readouterr().out
    assert main([*arguments, "--seed-deviation", "0"]) == 2
