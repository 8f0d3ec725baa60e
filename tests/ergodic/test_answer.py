"""The answer: verdicts from intervals written down by hand, sentences with their numbers, commands that can be run."""

import dataclasses
import shlex

import pandas as pd
import pytest

from helpers.__main__ import COMMANDS
from helpers.analysis.estimates import Equivalence, Estimate
from helpers.analysis.figures import log_spaced
from helpers.studies import find_preset, known_components
from helpers.studies.ergodic.condition import condition_of
from helpers.studies.ergodic.report import hypotheses
from helpers.studies.ergodic.report.answer import answer_text, matched_in_words, sentences
from helpers.studies.ergodic.report.hypotheses import CANNOT_TELL, CONTRADICTED, SUPPORTED
from helpers.studies.ergodic.report.missing import missing
from helpers.studies.ergodic.results import load_results
from tests.simulated_results import simulate_baselines, simulate_grid

BOUND = 0.0242  # ln 11 / 99


@pytest.fixture
def own(storage):
    """A condition of one run of K = 2, whose findings the tests replace."""
    simulate_grid(storage, ks=(1, 2), seeds=(0,))
    simulate_baselines(storage)
    results = load_results(storage)
    return results, condition_of(results, results.conditions[0], storage)


def with_findings(own, **changes):
    results, condition = own
    return results, dataclasses.replace(condition, findings=dataclasses.replace(condition.findings, **changes))


def at_k_11(low: float, high: float, excess: tuple[float, float] = (float("nan"),) * 2) -> pd.DataFrame:
    row = {"k": 11, "num_runs": 3, "dxe": (low + high) / 2, "low": low, "high": high, "bound": BOUND}
    row |= {"bayes_dxe": 0.0181 if excess[0] == excess[0] else float("nan"), "excess": sum(excess) / 2}
    return pd.DataFrame([row | {"excess_low": excess[0], "excess_high": excess[1]}])


@pytest.mark.parametrize(
    ("value", "error", "rises", "helps"),
    [
        (0.005, 0.001, SUPPORTED, CONTRADICTED),
        (-0.005, 0.001, CONTRADICTED, SUPPORTED),
        (0.001, 0.01, *[CANNOT_TELL] * 2),
    ],
)
def test_a_rise_and_a_gain_by_diversity_are_opposite_verdicts_of_the_slope(own, value, error, rises, helps):
    changed = with_findings(own, slope=Estimate.of(value, error, 13, 15))
    assert hypotheses.rise(*changed).verdict == rises
    assert hypotheses.diversity(*changed).verdict == helps
    assert f"{value:+.4f}" in hypotheses.rise(*changed).because


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.0168, 0.0213, SUPPORTED), (0.025, 0.04, CONTRADICTED), (0.01, 0.03, CANNOT_TELL)],
)
def test_the_bound_is_judged_by_the_whole_interval(own, low, high, verdict):
    assert hypotheses.within_bound(*with_findings(own, by_k=at_k_11(low, high))).verdict == verdict


@pytest.mark.parametrize(
    ("excess", "verdict"),
    [((0.0005, 0.0014), SUPPORTED), ((0.004, 0.006), CONTRADICTED), ((-0.001, 0.004), CANNOT_TELL)],
)
def test_the_known_answer_is_found_where_the_excess_is_known_to_be_a_tenth_of_the_bound(own, excess, verdict):
    found = hypotheses.known_answer(*with_findings(own, by_k=at_k_11(0.0168, 0.0213, excess)))
    assert found.verdict == verdict and "0.0024" in found.because


def test_without_an_exact_value_the_known_answer_cannot_be_judged(own):
    found = hypotheses.known_answer(*with_findings(own, by_k=at_k_11(0.01, 0.02)))
    assert found.verdict == CANNOT_TELL and "not known" in found.because


@pytest.mark.parametrize(
    ("low", "high", "p", "verdict"),
    [(-0.001, 0.002, 0.001, SUPPORTED), (0.03, 0.05, 0.9, CONTRADICTED), (-0.01, 0.03, 0.2, CANNOT_TELL)],
)
def test_the_control_is_judged_by_its_margin(own, low, high, p, verdict):
    control = Equivalence(value=(low + high) / 2, low=low, high=high, margin=BOUND, p_value=p, num_runs=3)
    assert hypotheses.shuffle(*with_findings(own, controls={11: control})).verdict == verdict


def test_one_run_supports_and_contradicts_nothing(own):
    results, condition = own
    judged = (hypotheses.within_bound, hypotheses.known_answer, hypotheses.shuffle, hypotheses.size)
    assert {judge(results, condition).verdict for judge in judged} == {CANNOT_TELL}
    first, second, third = sentences(results, condition)
    row = condition.findings.by_k.iloc[0]
    assert f"{row['dxe']:+.4f}" in first and "no interval" in first
    assert f"{row['bayes_dxe']:.4f}" in second and f"{row['bound']:.4f}" in second
    assert third.endswith(".")


def test_three_seeds_say_what_the_frames_hold(storage):
    simulate_grid(storage, ks=(1, 2, 4), seeds=(0, 1, 2))
    simulate_baselines(storage, seeds=(0, 1, 2))
    results = load_results(storage)
    condition = condition_of(results, results.conditions[0], storage)
    text = answer_text(storage, results, [condition])
    row = condition.findings.by_k.iloc[-1]
    for number in (row["low"], row["high"], row["excess_low"]):
        assert f"{number:+.4f}" in text
    assert text.count("\n- **") == len(hypotheses.HYPOTHESES)
    assert f"{row['dxe']:.4f} at K = 4" in matched_in_words(condition)


def test_every_command_that_is_offered_can_be_run(own, storage):
    results, condition = own
    found = missing(storage, results, condition)
    assert len(found) >= 4
    for one in found:
        python, dash_m, helpers, command, *options = shlex.split(one.command)
        assert [python, dash_m, helpers] == ["python", "-m", "helpers"] and command in COMMANDS
        given = list(zip(options[::2], options[1::2], strict=True))
        (name,) = (value for option, value in given if option == "--preset")
        preset = find_preset("ergodic", name, overrides=[value for option, value in given if option == "--set"])
        assert preset.runs(known_components(preset.config.data))


def test_a_further_seed_is_another_run_of_the_same_condition(own, storage):
    results, condition = own
    (further,) = (one for one in missing(storage, results, condition) if "seed" in one.what.lower().split(":")[0])
    sets = [word for word in shlex.split(further.command) if "=" in word]
    preset = find_preset("ergodic", further.command.split("--preset ")[1].split()[0], overrides=sets)
    assert {config.seed for config in preset.grid} == {1}
    assert preset.config.train.batch_size == 64 and preset.config.model.size == "tiny"


def test_marks_stand_at_equal_ratios():
    assert log_spaced(100, 3) == [0, 9, 99]
