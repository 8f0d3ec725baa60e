"""In-context curves, areas, identification and decomposition, against numbers worked out by hand."""

import dataclasses
import math

import numpy as np
import pytest

from helpers.data.hidden_markov import mixture_log_loss
from helpers.model_config import PythiaConfig
from helpers.studies.ergodic import matched_figures
from helpers.studies.ergodic.condition import by_size, condition_of
from helpers.studies.ergodic.curves import areas, curves_by_run, identification_length, in_context
from helpers.studies.ergodic.decomposition import decompose
from helpers.studies.ergodic.results import load_results
from tests.simulated_results import NUM_POSITIONS, flat_curves, run_config, simulate_baselines, simulate_grid, write_run

# Student's t, 0.975 quantiles for 1 and 2 degrees of freedom, from a printed table.
T_1, T_2 = 12.7062047362, 4.3026527297
POSITION = np.arange(NUM_POSITIONS)


def curves_of(storage):
    results = load_results(storage)
    return curves_by_run(results, results.conditions[0])


def first_token(value):
    """A curve that is `value` at position 0 and 0 elsewhere."""
    return np.where(POSITION == 0, value, 0.0)


def write_pair(storage, seed, excess_A, excess_B, bayes=None):
    """K = 2 of A (level 2) and B (level 3) with runs on each alone; the excess is a curve over those."""
    write_run(storage, run_config(1, seed), {"A": np.full(NUM_POSITIONS, 2.0)}, *_known(bayes, "A"))
    alone = run_config(1, seed, components=("B",))
    write_run(storage, alone, {"B": np.full(NUM_POSITIONS, 3.0)}, *_known(bayes, "B"))
    curves = {"A": 2.0 + excess_A, "B": 3.0 + excess_B}
    if bayes is None:
        return write_run(storage, run_config(2, seed), curves)
    mixture = {"A": 1.9 + bayes, "B": 2.9 + bayes}
    return write_run(storage, run_config(2, seed), curves, mixture, flat_curves({"A": 1.9, "B": 2.9}))


def _known(bayes, name):
    level = flat_curves({name: {"A": 1.9, "B": 2.9}[name]})
    return (level, level) if bayes is not None else ()


# Curves


def test_matched_curve_is_the_mean_over_components_of_the_difference(storage):
    ramp = POSITION / 100
    write_pair(storage, 0, ramp, 3 * ramp)
    table = in_context(curves_of(storage)).set_index("k")
    assert np.allclose(table.loc[2, "dxe"], 2 * ramp)
    assert np.allclose(table.loc[2, "xe"], 2.5 + 2 * ramp)
    assert np.allclose(table.loc[1, "dxe"], 0.0)
    assert (table.loc[2, ["num_runs", "num_matched"]] == 1).all(axis=None)


def test_bands_are_students_t_at_every_position_from_three_runs_on(storage):
    for seed, level in ((0, 0.1), (1, 0.3)):
        write_pair(storage, seed, level * POSITION, level * POSITION)
    table = in_context(curves_of(storage)).set_index("k").loc[2]
    assert np.allclose(table["dxe"], 0.2 * POSITION) and table[["dxe_low", "xe_high"]].isna().all(axis=None)
    write_pair(storage, 2, 0.2 * POSITION, 0.2 * POSITION)
    table = in_context(curves_of(storage)).set_index("k").loc[2]
    half = T_2 * 0.1 * POSITION / math.sqrt(3)
    assert np.allclose(table["dxe"], 0.2 * POSITION)
    assert np.allclose(table["dxe_high"] - table["dxe"], half, rtol=1e-5)
    assert np.allclose(table["xe_low"], 2.5 + 0.2 * POSITION - half, rtol=1e-5)


def test_one_run_has_no_band(storage):
    write_pair(storage, 0, POSITION, POSITION)
    table = in_context(curves_of(storage))
    assert table[["xe_low", "xe_high", "dxe_low", "dxe_high"]].isna().all(axis=None)
    assert table["dxe"].notna().all()


def test_a_run_with_one_component_unmatched_has_xe_and_no_matched_curve(storage):
    write_pair(storage, 0, 0.1 * POSITION, 0.1 * POSITION)
    storage.result(run_config(1, 0, components=("B",)).run_id).unlink()
    curves = curves_of(storage)
    table = in_context(curves).set_index("k").loc[2]
    assert table["xe"].notna().all() and table["dxe"].isna().all()
    assert (table["num_matched"] == 0).all()
    assert areas(curves).empty


def test_a_baseline_of_another_seed_does_not_match(storage):
    write_pair(storage, 0, 0.1 * POSITION, 0.1 * POSITION)
    storage.result(run_config(1, 0, components=("B",)).run_id).unlink()
    write_run(storage, run_config(1, 1, components=("B",)), flat_curves({"B": 3.0}))
    assert areas(curves_of(storage)).empty


# Areas


def test_the_area_counts_token_0_which_xe_does_not_average(storage):
    write_pair(storage, 0, first_token(0.5), first_token(0.5))
    (area,) = areas(curves_of(storage)).to_dict("records")
    assert area["area"] == pytest.approx(0.5)
    assert area["ln_k"] == pytest.approx(0.693147, abs=1e-6)
    assert math.isnan(area["bayes_area"])


def test_the_area_has_students_interval_over_runs(storage):
    for seed, value in enumerate((1.0, 1.2, 1.4)):
        write_pair(storage, seed, first_token(value), first_token(value))
    (area,) = areas(curves_of(storage)).to_dict("records")
    half = T_2 * 0.2 / math.sqrt(3)
    assert (area["num_runs"], area["area"]) == (3, pytest.approx(1.2))
    assert (area["low"], area["high"]) == (pytest.approx(1.2 - half, abs=1e-4), pytest.approx(1.2 + half, abs=1e-4))


def test_two_symbols_that_name_their_component_cost_ln_2_at_the_first_token(storage):
    """Disjoint alphabets: an ideal learner knows the component from one token, and has paid ln 2 for it."""
    loglik_KBT = np.full((2, 1, NUM_POSITIONS), -0.1)
    loglik_KBT[1] = -1e9
    exact = mixture_log_loss(loglik_KBT, np.array([0.5, 0.5])).mean(axis=0) - 0.1
    write_pair(storage, 0, first_token(0.9), first_token(0.9), bayes=exact)
    (area,) = areas(curves_of(storage)).to_dict("records")
    assert area["bayes_area"] == pytest.approx(math.log(2))
    assert (area["identified_at"], area["identified_by"], area["reason"]) == (1, "exact Bayes", "")


# Identification


def test_identification_of_a_geometric_curve():
    # 1 - 2^-(n + 1) reaches 0.9 at n = 3, which is predicted from 4 tokens.
    assert identification_length(0.5 ** (POSITION + 1.0), 0.5) == (4.0, "")


def test_identification_is_for_good():
    curve = np.zeros(NUM_POSITIONS)
    curve[:4] = 1.0, 0.0, -0.5, 0.5
    assert identification_length(curve, 0.1) == (4.0, "")


@pytest.mark.parametrize(
    "curve, least_area, reason",
    [
        (np.full(NUM_POSITIONS, 0.01), 0.9, "second half"),
        (0.5 ** (POSITION + 1.0), -0.1, "cannot be told from zero"),
        (0.5 ** (POSITION + 1.0), -math.inf, "cannot be told from zero"),
        (-(0.5 ** (POSITION + 1.0)), -1.1, "cannot be told from zero"),
    ],
)
def test_curves_without_an_identification_length_say_why(curve, least_area, reason):
    length, why = identification_length(curve, least_area)
    assert math.isnan(length)
    assert reason in why


def test_one_measured_run_has_no_identification_length(storage):
    write_pair(storage, 0, first_token(0.5), first_token(0.5))
    (area,) = areas(curves_of(storage)).to_dict("records")
    assert math.isnan(area["identified_at"]) and area["identified_by"] == "measured"


# Decomposition


@pytest.fixture
def parts_storage(storage):
    """Two seeds of K = 2: total 0.05 and 0.07, exact 0.006 (positions 1 to 99), amount -0.02 and -0.04."""
    for seed, total, amount in ((0, 0.05, -0.02), (1, 0.07, -0.04)):
        flat = np.full(NUM_POSITIONS, total)
        write_pair(storage, seed, flat, flat, bayes=np.full(NUM_POSITIONS, 0.006))
        write_run(storage, run_config(1, seed, shuffle_labels=True), flat_curves({"A": 2.6}))
        shuffled = flat_curves({"A": 2.6 + amount, "B": 9.0})
        write_run(storage, run_config(2, seed, shuffle_labels=True), shuffled)
    return storage


def parts_of(storage, constant_unique=None):
    results = load_results(storage)
    condition = next(name for name in results.conditions if "full" in name)
    return decompose(results, condition, constant_unique).set_index("part")


def test_the_parts_add_up_by_seed(parts_storage):
    parts = parts_of(parts_storage)
    values = parts["value"].drop("repetition").to_dict()
    expected = {"total": 0.06, "identification": 0.006, "amount": -0.03, "remainder": 0.084}
    assert values == pytest.approx(expected)
    # By seed the remainders are 0.05 - 0.006 + 0.02 = 0.064 and 0.07 - 0.006 + 0.04 = 0.104.
    half = T_1 * (0.04 / math.sqrt(2)) / math.sqrt(2)
    assert parts.loc["remainder", "high"] == pytest.approx(0.084 + half, rel=1e-4)
    assert parts.loc["identification", "bound"] == pytest.approx(math.log(2) / 99)
    assert parts["bound"].notna().sum() == 1


def test_the_remainder_rests_on_the_seeds_that_have_every_part(parts_storage):
    parts_storage.result(run_config(2, 1, shuffle_labels=True).run_id).unlink()
    parts = parts_of(parts_storage)
    assert parts["num_seeds"].to_dict() == {
        "total": 2, "identification": 2, "amount": 1, "remainder": 1, "repetition": 0,
    }  # fmt: skip
    assert parts.loc["remainder", "value"] == pytest.approx(0.064)
    assert parts.loc["remainder", "low"] == -math.inf


def test_repetition_is_full_less_constant_unique_over_the_components_of_both(parts_storage):
    constant = {"allocation": "constant_unique"}
    write_run(parts_storage, run_config(1, 0, **constant), flat_curves({"A": 2.1}))
    write_run(parts_storage, run_config(2, 0, **constant), flat_curves({"A": 2.18, "B": 3.4}))
    results = load_results(parts_storage)
    full, other = results.conditions
    assert results.alike_but_for(full, "data.allocation") == [full, other]
    row = parts_of(parts_storage, other).loc["repetition"]
    # On A at seed 0: 0.05 under full, 0.08 under constant_unique.
    assert (row["num_seeds"], row["value"]) == (1, pytest.approx(0.05 - 0.08))
    assert decompose(results, other, None).empty


def test_missing_parts_are_missing_and_say_why(storage):
    write_pair(storage, 0, first_token(0.1), first_token(0.1))
    parts = parts_of(storage)
    missing = parts[parts["value"].isna()]
    assert set(missing.index) == {"identification", "amount", "remainder", "repetition"}
    assert (missing["num_seeds"] == 0).all()
    assert missing.loc["remainder", "reason"] == "identification and amount missing"
    assert (missing["reason"] != "").all() and parts.loc["total", "reason"] == ""


# Sizes


def test_only_conditions_that_differ_in_size_alone_are_compared(storage):
    config = run_config(1, 0)
    larger = dataclasses.replace(config, model=PythiaConfig(size="14m", dropout=0.0))
    faster = dataclasses.replace(
        config,
        model=PythiaConfig(size="31m", dropout=0.0),
        train=dataclasses.replace(config.train, peak_lr=1e-3),
    )
    for seed in (0, 1):
        write_run(storage, dataclasses.replace(config, seed=seed), flat_curves({"A": 2.0 + 0.2 * seed}))
    write_run(storage, larger, flat_curves({"A": 1.8}))
    write_run(storage, faster, flat_curves({"A": 1.0}))
    results = load_results(storage)
    sizes = by_size(results, results.alike_but_for(results.conditions[0], "model.size"))
    assert sorted(sizes["size"]) == ["14m", "tiny"]
    tiny = sizes[sizes["size"] == "tiny"].iloc[0]
    assert (tiny["num_runs"], tiny["xe"]) == (2, pytest.approx(2.1))
    assert tiny["high"] == pytest.approx(2.1 + T_1 * 0.1, rel=1e-4)
    drawn = [len(condition_of(results, condition, storage).sizes) > 0 for condition in results.conditions]
    assert sum(drawn) == 1


# Figures


def labels_and_values(axes):
    """Label -> y values of every line and every error bar of a panel."""
    lines = {line.get_label(): line.get_ydata() for line in axes.lines if not line.get_label().startswith("_")}
    bars = {bar.get_label(): bar[0].get_ydata() for bar in axes.containers if hasattr(bar, "has_yerr") and bar[0]}
    return lines | bars


def test_the_in_context_figure_draws_the_frames(storage):
    simulate_grid(storage, ks=(1, 2, 4), seeds=(0, 1))
    simulate_baselines(storage, seeds=(0, 1))
    curves = curves_of(storage)
    table, area = in_context(curves), areas(curves)
    figure = matched_figures.in_context(table, area, "a condition")
    xe, dxe, ends = figure.axes
    assert np.allclose(labels_and_values(xe)["K = 4 (n = 2)"], table[table["k"] == 4]["xe"])
    assert np.allclose(labels_and_values(dxe)["K = 2 (n = 2)"], table[table["k"] == 2]["dxe"])
    assert np.allclose(labels_and_values(ends)["exact Bayes"], area["bayes_area"])
    assert np.allclose(labels_and_values(ends)["model"], area["area"])
    start, end = ends.lines[1].get_xydata()
    assert start.tolist() == [0, 0] and end[0] == end[1]  # the bound is the diagonal


def test_the_decomposition_figure_leaves_out_what_is_missing(storage):
    write_pair(storage, 0, first_token(0.1) + 0.02, first_token(0.1) + 0.02)
    parts = parts_of(storage).reset_index()
    (axes,) = matched_figures.decomposition(parts, "a condition").axes
    assert [line for line in axes.lines if line.get_marker() == "x"] == []
    assert axes.get_legend_handles_labels()[1] == ["bound ln K / T", "total: matched ΔXE"]
    heights = [bar.get_height() for bar in axes.patches if np.isfinite(bar.get_height())]
    assert heights == pytest.approx([0.02])
