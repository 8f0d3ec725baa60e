"""The causes of matched dXE, on grids in which it is known which one is at work."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest

from helpers.studies.ergodic.causes.parts import CANNOT_TELL, CAUSES, CONTRADICTED, SUPPORTED, causes, verdict
from helpers.studies.ergodic.results import TOTAL_TOKENS, Results, load_results
from tests.simulated_causes import Causes, simulate_causes
from tests.simulated_results import flat_curves, run_config, write_run

SIZE = {"exposure": 0.02, "repetition": -0.02, "interference": 0.02, "capacity": 0.02, "identification": 0.006}
"""Nats a doubling of K: that of identification is below ln 2 / 99, as theory has it."""


def found(results: Results) -> pd.DataFrame:
    smallest = next(name for name in results.conditions if "tiny" in name and "full" in name)
    return causes(results, smallest).set_index(["k", "cause"])


@pytest.mark.parametrize("only", CAUSES)
def test_the_one_cause_that_is_at_work_is_found_and_no_other(only) -> None:
    table = found(simulate_causes(Causes(**{only: SIZE[only]})))
    for k in (2, 4):
        at_k = table.loc[k]
        expected = SIZE[only] * np.log2(k)
        assert at_k.loc[only, "verdict"] == SUPPORTED
        assert at_k.loc["total", "value"] == pytest.approx(expected, abs=0.002)
        for name in (only, "total"):
            error = abs(at_k.loc[name, "value"] - expected)
            assert error <= 1e-9 + 2 * (at_k.loc[name, "high"] - at_k.loc[name, "value"])
        assert set(at_k.drop(index=[only, "total"])["verdict"]) <= {CONTRADICTED, CANNOT_TELL}
        assert (at_k.drop(index=[only, "total"])["value"].abs() < abs(expected) / 3).all()
    assert (table.loc[4].drop(index=[only, "total"])["verdict"] == CONTRADICTED).all()
    assert (table["num_seeds"] == 3).all() and (table["reason"] == "").all()


def test_the_parts_sum_to_the_total() -> None:
    table = found(simulate_causes(Causes(**SIZE)))["value"].unstack()
    assert table[list(CAUSES)].sum(axis=1).to_numpy() == pytest.approx(table["total"].to_numpy(), abs=1e-12)


def test_without_arms_a_part_is_missing_and_its_reason_names_the_arm() -> None:
    table = found(simulate_causes(Causes(), allocations=("full",), sizes=("tiny",)))
    assert not math.isnan(table.loc[(2, "total"), "value"])
    for cause, arm in (
        ("exposure", "matched_repeats and constant_exposure"), ("repetition", "matched_repeats"),
        ("interference", "constant_exposure"), ("capacity", "constant_exposure"),
    ):  # fmt: skip
        row = table.loc[(2, cause)]
        assert math.isnan(row["value"]) and row["verdict"] == CANNOT_TELL
        assert row["reason"] == f"no grid with data.allocation={arm}"


def test_constant_unique_stands_in_for_matched_repeats() -> None:
    table = found(simulate_causes(Causes(exposure=0.02), allocations=("full", "constant_unique", "constant_exposure")))
    assert table.loc[(4, "exposure"), "verdict"] == SUPPORTED
    assert table.loc[(4, "repetition"), "value"] == pytest.approx(0, abs=0.003)


def test_without_a_larger_model_interference_holds_capacity() -> None:
    table = found(simulate_causes(Causes(capacity=0.02), sizes=("tiny",)))
    assert table.loc[(4, "interference"), "value"] == pytest.approx(0.04, abs=0.002)
    assert "larger model" in table.loc[(4, "capacity"), "reason"]


def test_where_the_exact_value_is_not_known_interference_holds_all_that_it_can_be() -> None:
    """Half the bound of identification is no evidence of interference beyond what theory allows; twice the bound is."""
    for size, expected in ((0.5, CONTRADICTED), (2.0, SUPPORTED)):
        table = found(simulate_causes(Causes(interference=size * math.log(2) / 99), has_exact=False))
        row = table.loc[(4, "interference")]
        assert row["verdict"] == expected
        assert row["high"] - row["low"] >= math.log(4) / 99
        assert table.loc[(4, "identification"), "reason"].startswith("the source's law is not known")


def test_a_cell_that_is_not_wholly_matched_is_in_no_part() -> None:
    counts = found(simulate_causes(Causes(), sizes=("tiny",), without=("hmm_03",)))
    counts = counts["num_seeds"].unstack()
    assert (counts.loc[4, ["total", "exposure", "repetition"]] < 3).all()


def test_runs_on_one_component_count_in_every_allocation_that_shares_them() -> None:
    results = simulate_causes(Causes(), sizes=("tiny",), allocations=("full", "constant_exposure"))
    full, exposed = (results.allocations(results.conditions[0])[name] for name in ("full", "constant_exposure"))
    lent = [set(results.runs_of(name).query("k == 1")["run_id"]) for name in (full, exposed)]
    assert lent[0] == lent[1] and len(lent[0]) == 3 * 6
    assert len(results.runs_of(exposed)) == 3 * (6 + 2) and results.runs["run_id"].is_unique
    assert "tokens a component" in exposed and "tokens a component" not in full
    assert results.held_constant(full) == TOTAL_TOKENS
    assert results.held_constant(exposed) == "training tokens of each component"


def test_what_is_only_lent_is_no_condition_of_its_own(storage) -> None:
    write_run(storage, run_config(1, 0), flat_curves({"A": 2.0}))
    write_run(storage, run_config(2, 0, allocation="constant_exposure"), flat_curves({"A": 2.1, "B": 2.2}))
    results = load_results(storage)
    (condition,) = results.conditions
    assert sorted(results.runs_of(condition)["k"]) == [1, 2]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.001, 0.03, SUPPORTED), (-0.03, -0.001, SUPPORTED), (-0.005, 0.005, CONTRADICTED),
        (-0.005, 0.03, CANNOT_TELL), (-math.inf, math.inf, CANNOT_TELL),
    ],
)  # fmt: skip
def test_a_verdict_has_three_values(low, high, expected) -> None:
    assert verdict(low, high, margin=0.01) == expected


@pytest.mark.slow
def test_intervals_of_parts_hold_the_truth() -> None:
    """20 grids, of which each part's interval at both K holds the truth in 95 %: of 40, 34 or more in 99 % if they are
    right (and independent)."""
    truth = Causes(**SIZE)
    held = pd.DataFrame(0, index=["exposure", "repetition", "capacity", "total"], columns=["held"])
    for seed in range(20):
        table = found(simulate_causes(truth, noise=0.003, seed=seed))
        for cause in held.index:
            size = sum(SIZE.values()) if cause == "total" else dataclasses.asdict(truth)[cause]
            for k in (2, 4):
                row = table.loc[(k, cause)]
                held.loc[cause, "held"] += row["low"] <= size * np.log2(k) <= row["high"]
    assert (held["held"] >= 34).all()
