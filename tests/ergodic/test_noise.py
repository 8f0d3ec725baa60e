"""The noise floor: measured on the seeds of one cell, which come first, and no difference inside it is called one."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from helpers.studies import find_preset, find_study, known_components
from helpers.studies.ergodic.noise import NoiseFloor, noise_blocks, noise_floor, with_noise
from helpers.studies.ergodic.plan_power import ASSUMED_DEVIATION
from helpers.studies.ergodic.report.words import matched_sentence
from helpers.studies.ergodic.results import load_results
from helpers.studies.ergodic.roles import noise_cell
from helpers.studies.run_preset import known_runs, plan_preset
from tests.simulated_results import flat_curves, run_config, write_run
from tests.simulated_truth import Truth, simulated_results


def test_the_floor_is_the_pooled_deviation_of_the_seeds_of_a_cell(storage) -> None:
    for seed, levels in enumerate(({"A": 2.00}, {"A": 2.04}, {"B": 3.0})):
        write_run(storage, run_config(1, seed), flat_curves(levels))
    write_run(storage, run_config(1, 2, components=("A",)), flat_curves({"A": 2.08}))
    write_run(storage, run_config(1, 0, components=("B",)), flat_curves({"B": 3.02}))
    results = load_results(storage)
    floor = noise_floor(results, results.conditions[0])
    # By hand: variances 0.0016 (2 degrees of freedom) and 0.0002 (1).
    assert floor.deviation == pytest.approx(np.sqrt((2 * 0.0016 + 0.0002) / 3))
    assert (floor.freedom, floor.num_runs) == (3, 5)


def test_a_simulated_deviation_is_found() -> None:
    results = simulated_results(Truth(run_deviation=0.03, window_deviation=1e-4, reaction_deviation=0.0), 1)
    floor = noise_floor(results, results.conditions[0])
    assert floor.deviation == pytest.approx(0.03, rel=0.35) and floor.freedom == 2 * 11 + 2


def test_without_two_seeds_of_a_cell_the_floor_is_assumed_and_says_so(storage) -> None:
    write_run(storage, run_config(1, 0), flat_curves({"A": 2.0}))
    results = load_results(storage)
    floor = noise_floor(results, results.conditions[0])
    assert (floor.deviation, floor.freedom) == (ASSUMED_DEVIATION, 0)
    assert "not measured" in noise_blocks(pd.DataFrame({"dxe": [], "noise": [], "k": []}), floor)[0].texts[0]


def test_the_half_width_is_that_of_a_mean_of_matched_differences() -> None:
    floor = NoiseFloor(deviation=0.01, freedom=4, num_runs=6)
    assert floor.half_width(4, 3) == pytest.approx(2.7764 * 0.01 * np.sqrt(1.25 / 3), rel=1e-4)
    assumed = NoiseFloor(deviation=0.01, freedom=0, num_runs=0)
    assert assumed.half_width(1, 1) == pytest.approx(1.96 * 0.01 * np.sqrt(2), rel=1e-4)


@pytest.mark.parametrize(("dxe", "called"), [(0.004, "called no difference"), (0.04, "evidence of a rise")])
def test_a_difference_inside_the_noise_is_never_called_one(dxe, called) -> None:
    """Two runs that agree by chance have a narrow interval of their own: it is not what decides."""
    floor = NoiseFloor(deviation=0.01, freedom=4, num_runs=6)
    row = {"k": 2, "num_runs": 2, "dxe": dxe, "low": dxe - 0.001, "high": dxe + 0.001, "bound": 0.007}
    by_k = with_noise(pd.DataFrame([row]), floor)
    sentence = matched_sentence(by_k.to_dict("records")[0])
    assert called in sentence and ("evidence" in sentence) == (dxe > 0.02)
    assert ("Inside it" in noise_blocks(by_k, floor)[0].texts[0]) == (dxe < 0.02)


def runs_of(name: str):
    preset = find_preset("ergodic", name)
    components = known_components(preset.config.data)
    return preset.runs(components), components


def test_the_cell_is_one_component_at_every_seed_where_there_are_baselines() -> None:
    cell = noise_cell(*runs_of("known"))
    assert [config.seed for config in cell] == [0, 1, 2] and {config.k for config in cell} == {1}
    assert {config.data.components for config in cell} == {(), ("hmm00",)}


def test_the_cell_is_all_components_where_there_are_none() -> None:
    smoke = find_preset("ergodic", "smoke")
    grid = dataclasses.replace(smoke, axes=smoke.axes | {"seed": (0, 1)}).grid
    components = known_components(smoke.config.data)
    assert {config.k for config in noise_cell(grid, components)} == {11}
    assert noise_cell(grid, None) == []
    assert noise_cell(*runs_of("smoke")) == []  # a single seed


def test_a_shuffled_run_is_in_no_cell() -> None:
    runs, components = runs_of("demo")
    shuffled = [dataclasses.replace(c, data=dataclasses.replace(c.data, shuffle_labels=True)) for c in runs]
    assert noise_cell(shuffled, components) == []


def test_the_cell_comes_first_and_the_plan_says_so(storage) -> None:
    preset = find_preset("ergodic", "known")
    runs = known_runs(preset, storage)
    assert runs[:3] == noise_cell(*runs_of("known"))
    assert {config.run_id for config in runs} == {config.run_id for config in runs_of("known")[0]}
    assert len(runs) == len({config.run_id for config in runs})
    assert "the seeds of one cell come first (k = 1 on hmm00, seeds 0, 1, 2)" in str(plan_preset(preset, storage))
    smoke = str(plan_preset(find_preset("ergodic", "smoke"), storage))
    assert "noise floor" not in smoke


def test_elsewhere_the_cell_is_that_of_the_first_run() -> None:
    preset = find_preset("activation", "smoke")
    runs = preset.runs(None)
    cell = find_study("activation").noise_cell(runs, None)
    assert cell[0] == runs[0] and sorted(config.seed for config in cell) == [0, 1]
    assert len({(config.model, config.train) for config in cell}) == 1
