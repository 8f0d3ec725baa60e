"""The statistics against closed forms, other libraries' own functions, and simulation from a known truth."""

import itertools
import json
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from scipy import optimize, stats
from statsmodels.stats.weightstats import ttost_paired

from benchmarks import coverage
from helpers.analysis.estimates import PaperMeans, Spread, equivalence_with_papers
from helpers.analysis.power import smallest_detectable
from helpers.storage import Storage
from helpers.studies.ergodic import inference
from helpers.studies.ergodic.findings import find
from helpers.studies.ergodic.mixed_model import fit_mixed
from helpers.studies.ergodic.report.methods import COVERAGE
from helpers.studies.ergodic.results import load_results
from helpers.studies.ergodic.roles import BASELINE, GRID
from helpers.studies.ergodic.slope import permutation_test, reaction_variance, slope, slope_model, trend_test
from tests.simulated_truth import KS, Truth, simulate, simulated_results


def rows_of(xe: dict[tuple[int, int, str], float]) -> pd.DataFrame:
    rows = [{"run_id": f"k{k}s{s}", "k": k, "seed": s, "component": c, "xe": xe[k, s, c]} for k, s, c in xe]
    frame = pd.DataFrame(rows)
    return frame.assign(**one_paper(frame))


def one_paper(rows: pd.DataFrame) -> dict[str, list[np.ndarray]]:
    """All windows of a component in one paper, of which there is no noise to be known."""
    return {"paper_windows": [np.array([1])] * len(rows), "paper_xe": [np.array([xe]) for xe in rows["xe"]]}


def simulated_rows(
    slope: float, seed: int, run: float = 0.01, window: float = 0.01, component: float = 0.3
) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    offsets = rng.normal(0, component, 11)
    xe = {}
    for k, s in itertools.product(KS, range(3)):
        effect = slope * np.log2(k) + rng.normal(0, run)
        for place in range(k):
            number = (s + 7 * place) % 11
            xe[k, s, f"c{number}"] = offsets[number] + effect + rng.normal(0, window)
    return rows_of(xe)


def measured(differences: np.ndarray) -> list[dict[str, PaperMeans]]:
    """Runs of one component that is one paper: of papers there is nothing to be known."""
    return [{"a": PaperMeans(windows=np.array([1]), values=np.array([value]))} for value in differences]


def log_likelihood(rows: pd.DataFrame, variances: dict[str, float], known: np.ndarray | float = 0.0) -> float:
    """Restricted, by its textbook formula."""
    design = np.column_stack([np.ones(len(rows)), np.log2(rows["k"])])
    covariance = variances["residual"] * np.eye(len(rows)) + known
    for name in set(variances) - {"residual"}:
        levels = rows[{"run": "run_id"}.get(name, name)].to_numpy()
        covariance += variances[name] * (levels[:, None] == levels)
    inverse = np.linalg.inv(covariance)
    information = design.T @ inverse @ design
    xe = rows["xe"].to_numpy()
    left = xe - design @ np.linalg.solve(information, design.T @ inverse @ xe)
    logs = np.linalg.slogdet(covariance)[1] + np.linalg.slogdet(information)[1] + left @ inverse @ left
    return -(logs + (len(rows) - 2) * np.log(2 * np.pi)) / 2


# The mixed model

RANGES = [(0.002, 0.001, 0.6), (0.002, 0.001, 0.3), (0.002, 0.002, 0.6), (0.01, 0.005, 0.6), (0.001, 0.02, 0.1)]


@pytest.mark.parametrize("run, window, component", RANGES)
def test_the_mixed_model_is_at_the_maximum(run, window, component) -> None:
    """No variances that a simplex search finds from there, or from the truth, are likelier."""
    rows = simulated_rows(0.005, seed=2, run=run, window=window, component=component)
    fit = slope_model(rows).fit
    names = list(fit.variances)
    assert names == ["component", "run", "seed", "residual"]
    assert log_likelihood(rows, fit.variances) == pytest.approx(fit.log_likelihood, abs=1e-4)
    truth = {"component": component**2, "run": run**2, "seed": 1e-8, "residual": window**2}
    for start in (fit.variances, truth):
        found = optimize.minimize(
            lambda logs: -log_likelihood(rows, dict(zip(names, np.exp(logs), strict=True))),
            np.log([max(start[name], 1e-12) for name in names]), method="Nelder-Mead", options={"maxfev": 300},
        )  # fmt: skip
        assert -found.fun <= fit.log_likelihood + 1e-4


@pytest.mark.parametrize("name, seed", [(1, 319), (1, 367), (8, 384)])
def test_no_variances_are_held_for_likely_because_of_rounding(name: int, seed: int) -> None:
    """Grids in which the climb once came by variances so far apart that a sum of squares was below 0, and ended there:
    standard errors of 73 and 12 nats a doubling, and a slope of 67."""
    truth = list(coverage.RANGES.values())[name]
    results = simulated_results(truth, seed)
    full = results.runs.loc[results.runs["allocation"] == "full", "condition"].iloc[0]
    model = slope_model(pd.concat([results.of(full, role)[1] for role in (GRID, BASELINE)]))
    papers = model.noise_of_papers() @ model.noise_of_papers().T
    assert log_likelihood(model.rows, model.fit.variances, papers) == pytest.approx(model.fit.log_likelihood, abs=1e-5)
    assert abs(model.estimate.value) < 4 * model.estimate.standard_error < 0.02


def test_the_mixed_model_is_statsmodels_where_that_converges() -> None:
    rows = simulated_rows(0.02, seed=4)
    data = pd.DataFrame({"xe": rows["xe"], "log2_k": np.log2(rows["k"]), "whole": 1})
    data["component"], data["run"] = pd.factorize(rows["component"])[0], pd.factorize(rows["run_id"])[0]
    parts = {"component": "0 + C(component)", "run": "0 + C(run)"}
    model = smf.mixedlm("xe ~ log2_k", data, groups=data["whole"], re_formula="0", vc_formula=parts)
    reference = model.fit(reml=True, method=["powell"])
    design = np.column_stack([np.ones(len(rows)), data["log2_k"]])
    crossed, nested = ({name: data[name].to_numpy()} for name in parts)
    ours = fit_mixed(rows["xe"].to_numpy(), design, crossed, nested)
    assert ours.log_likelihood == pytest.approx(reference.llf, abs=1e-3)
    assert ours.coefficients_P == pytest.approx(reference.fe_params.to_numpy(), rel=1e-3)
    assert [ours.variances[name] for name in parts] == pytest.approx(reference.vcomp, rel=0.02)
    assert np.sqrt(ours.covariance_PP[1, 1]) == pytest.approx(reference.bse["log2_k"], rel=0.02)


def test_a_seed_effect_leaves_the_slope() -> None:
    """Runs of a seed move together; the grid has every K at every seed, so that the slope is as it was."""
    rows = simulated_rows(0.01, seed=7)
    moved = rows.assign(xe=rows["xe"] + rows["seed"].map({0: 0.05, 1: -0.02, 2: -0.03}))
    still, shaken = slope(rows), slope(moved)
    assert shaken.value == pytest.approx(still.value, abs=0.2 * still.standard_error)
    assert shaken.standard_error == pytest.approx(still.standard_error, rel=0.15)
    assert still.degrees_of_freedom == 11  # 15 runs less a line and two further seeds


def test_slope_finds_the_truth_where_there_is_hardly_noise() -> None:
    estimate = slope(simulated_rows(0.05, seed=1, run=1e-5, window=1e-5))
    assert estimate.value == pytest.approx(0.05, abs=2e-5)
    assert estimate.num_runs == 15
    assert estimate.degrees_of_freedom == 11


def test_slope_is_generalised_least_squares_with_its_variances() -> None:
    """With variances known to be large for components, the estimate is near GLS with the true ones."""
    rows = simulated_rows(0.02, seed=4)
    same = [(rows[name].to_numpy()[:, None] == rows[name].to_numpy()) for name in ("run_id", "component")]
    covariance = 1e-4 * same[0] + 0.09 * same[1] + 1e-4 * np.eye(len(rows))
    design = np.column_stack([np.ones(len(rows)), np.log2(rows["k"])])
    inverse = np.linalg.inv(covariance)
    information = design.T @ inverse @ design
    reference = np.linalg.solve(information, design.T @ inverse @ rows["xe"].to_numpy())[1]
    estimate = slope(rows)
    assert estimate.value == pytest.approx(reference, abs=0.5 * estimate.standard_error)
    assert estimate.standard_error == pytest.approx(np.sqrt(np.linalg.inv(information)[1, 1]), rel=0.5)


def test_slope_does_not_depend_on_unit_or_order() -> None:
    rows = simulated_rows(0.02, seed=2)
    one = slope(rows)
    other = slope(rows.assign(xe=1000 * rows["xe"] + 5).sample(frac=1, random_state=0))
    assert other.value == pytest.approx(1000 * one.value, rel=1e-3)
    assert other.standard_error == pytest.approx(1000 * one.standard_error, rel=1e-2)


def test_what_a_slope_cannot_be_made_of_is_said() -> None:
    with pytest.raises(ValueError, match="a slope needs 3 runs at 2 values of K; there are 2 at 2"):
        slope(rows_of({(1, 0, "a"): 1.0, (2, 0, "a"): 1.1}))


def test_permutation_p_value_is_the_exact_one_of_all_permutations() -> None:
    rows = rows_of({(1, 0, "a"): 1.0, (2, 0, "a"): 1.2, (4, 0, "a"): 1.1, (8, 0, "a"): 1.9, (16, 0, "a"): 1.5})
    values, log2_k = rows["xe"].to_numpy(), np.arange(5.0)
    observed = abs(np.cov(values, log2_k)[0, 1])
    every = [abs(np.cov(order, log2_k)[0, 1]) for order in itertools.permutations(values)]
    exact = np.mean(np.array(every) >= observed - 1e-12)
    tested = permutation_test(rows, slope_model(rows))
    assert tested.p_value == pytest.approx(exact, abs=1e-12)
    assert tested.floor == pytest.approx(2 / 120) and not tested.is_at_floor
    drawn = permutation_test(rows, slope_model(rows), num_permutations=100)
    assert drawn.p_value == pytest.approx(exact, abs=0.15) and drawn.floor == pytest.approx(1 / 101)


def test_a_permutation_that_can_say_nothing_is_at_its_floor() -> None:
    """Two seeds of two runs: of the four orders within seeds, two are as far out as any."""
    rows = rows_of({(1, 0, "a"): 1.0, (4, 0, "a"): 1.5, (1, 1, "a"): 1.1, (4, 1, "a"): 1.62})
    tested = permutation_test(rows, slope_model(rows))
    assert (tested.p_value, tested.floor) == (0.5, 0.5) and tested.is_at_floor


def test_trend_is_pages_test() -> None:
    table = pd.DataFrame([[0, 1, 2, 3], [0, 2, 1, 3], [0, 1, 3, 2]], columns=[1, 2, 4, 8])
    exact = stats.page_trend_test(table.to_numpy()).pvalue
    assert trend_test(table, 100_000).p_value == pytest.approx(exact, rel=0.2) and exact < 0.01
    with pytest.raises(ValueError, match="needs 2 whole seeds"):
        trend_test(table.iloc[:1])


def test_a_tie_in_a_trend_has_the_p_of_every_order() -> None:
    """Where scipy cuts Page's L to a whole number: against all 6 x 6 orders of the two seeds."""
    table = pd.DataFrame([[0.0, 1.0, 1.0], [0.0, 1.0, 2.0]], columns=[1, 2, 4])
    ranks = stats.rankdata(table, axis=1)
    reached = [
        (np.array(first) + np.array(second)) @ [1, 2, 3]
        for first, second in itertools.product(*(itertools.permutations(row) for row in ranks))
    ]
    exact = np.mean(np.array(reached) >= (ranks.sum(axis=0) @ [1, 2, 3]) - 1e-9)
    assert trend_test(table, 50_000).p_value == pytest.approx(exact, abs=0.01)
    assert stats.page_trend_test(table.to_numpy()).pvalue > 1.5 * exact


def test_contrasts_adjust_for_their_number() -> None:
    rng = np.random.default_rng(0)
    differences = rng.normal(np.linspace(0, 3, 6), 0.4, size=(4, 6))
    by_component = {f"c{n}": measured(column) for n, column in enumerate(differences.T)}
    p = stats.ttest_1samp(differences, 0).pvalue  # one paper each: nothing to be known of papers
    table = inference.component_contrasts(by_component)
    assert table["p_value"].to_numpy() == pytest.approx(p)
    order = np.argsort(p)
    holm = np.maximum.accumulate(np.minimum(1, p[order] * np.arange(6, 0, -1)))
    assert table["p_holm"].to_numpy()[order] == pytest.approx(holm)
    assert table["p_bh"].to_numpy() == pytest.approx(stats.false_discovery_control(p))


def test_equivalence_is_statsmodels_tost() -> None:
    differences = np.array([0.01, -0.004, 0.006, 0.002])
    ours = equivalence_with_papers(measured(differences), 0.02)
    assert ours.p_value == pytest.approx(ttost_paired(differences, np.zeros(4), -0.02, 0.02)[0])
    assert ours.is_equivalent
    outside = equivalence_with_papers(measured(differences + 0.03), 0.02)
    assert outside.p_value == pytest.approx(ttost_paired(differences + 0.03, np.zeros(4), -0.02, 0.02)[0])
    assert not outside.is_equivalent
    assert equivalence_with_papers(measured(differences[:1]), 0.02).p_value == 1.0


def test_the_tail_of_a_spread_is_the_level_of_its_quantile() -> None:
    """Of one part Student's own; of two the weighted mean of their quantiles, far in the tail ruled by the fewer."""
    assert Spread(variances=(2.0, 0.0), freedoms=(3, 50)).beyond(4.0) == pytest.approx(stats.t.sf(4.0, 3))
    both = Spread(variances=(1.0, 3.0), freedoms=(2, 300))
    for tail in (0.2, 0.025, 1e-4):
        quantile = (stats.t.isf(tail, 2) + 3 * stats.t.isf(tail, 300)) / 4
        assert both.quantile(1 - tail) == pytest.approx(quantile)
        assert both.beyond(quantile) == pytest.approx(tail, rel=1e-6)
    assert both.beyond(1e300) == 0.0 and both.beyond(0.0) == 0.5


def test_bootstrap_covers_the_noise_of_runs_and_of_papers() -> None:
    """With many runs the interval is the normal one: variance = (run + paper / papers) / runs."""
    rng = np.random.default_rng(0)
    papers, runs = 50, 40
    effect = rng.normal(0, 0.5, runs)
    values = [1 + value + rng.normal(0, 2.0, papers) for value in effect]
    data = [{"a": PaperMeans(windows=np.full(papers, 10.0), values=run)} for run in values]
    low, high = inference.crossed_bootstrap(data)
    means = np.mean(values, axis=1)
    # Each run's mean holds its papers' noise already, and the second stage adds it once more.
    expected = 2 * 1.96 * np.sqrt((means.var(ddof=1) + 4 / papers) / runs)
    assert high - low == pytest.approx(expected, rel=0.15)
    assert low < means.mean() < high


def test_an_outlier_is_named() -> None:
    rows = simulated_rows(0.01, seed=3)
    assert inference.outlier_runs(rows) == []
    assert inference.outlier_runs(rows.assign(xe=rows["xe"] + 0.2 * (rows["run_id"] == "k4s1"))) == ["k4s1"]


@pytest.mark.slow
def test_the_slope_is_detected_as_often_as_its_standard_error_says() -> None:
    """At the smallest slope that 60 simulated grids are said to detect on average, 60 others reject in 80 %."""
    fits = [slope(simulated_rows(0.0, seed)) for seed in range(60)]
    least = np.mean([smallest_detectable(fit.standard_error, fit.degrees_of_freedom) for fit in fits])
    rejected = sum(slope(simulated_rows(least, seed)).p_value < 0.05 for seed in range(100, 160))
    assert stats.binom.ppf(0.001, 60, 0.8) <= rejected <= stats.binom.ppf(0.999, 60, 0.8)


def test_the_slope_holds_the_noise_of_papers_that_react_alike_in_all_runs() -> None:
    """Runs without noise of their own, on papers that react to K by chance: the error is that of the mean reaction."""
    rng, papers = np.random.default_rng(5), 25
    reaction = {f"c{number}": rng.normal(0, 0.01, papers) for number in range(11)}
    rows = simulated_rows(0.0, seed=5, run=1e-6, window=1e-6)
    difficulty = {name: rng.normal(0, 0.5, papers) for name in reaction}
    values = [
        row.xe + difficulty[row.component] + reaction[row.component] * np.log2(row.k) for row in rows.itertuples()
    ]
    rows = rows.assign(xe=[xe.mean() for xe in values], paper_xe=values, paper_windows=[np.full(papers, 4)] * len(rows))
    with_papers, without = slope(rows), slope(rows.assign(**one_paper(rows)))
    assert with_papers.low < without.value < with_papers.high  # which weighs components by their noise otherwise
    assert with_papers.standard_error == pytest.approx(0.01 / np.sqrt(11 * papers), rel=0.3)
    assert np.sqrt(reaction_variance(rows) * papers) == pytest.approx(0.01, rel=0.15)


@pytest.mark.slow
def test_interval_false_positives_and_equivalence_keep_their_rates(tmp_path) -> None:
    """A short form of `python -m benchmarks.coverage`: 40 grids; the committed result has at least 400."""
    covered = rejected = accepted = 0
    for seed in range(40):
        storage = Storage.at(tmp_path / str(seed))
        simulate(storage, Truth(slope=0.0, shift=1.0), 10_000 + seed)
        results = load_results(storage)
        findings = find(results, results.conditions[0])
        covered += findings.slope.low <= 0 <= findings.slope.high
        rejected += findings.permutation.p_value < 0.05
        accepted += findings.control.is_equivalent
    # Beyond these a rate of 95 %, 5 % or 5 % has a probability below 0.1 % (binomial, n = 40).
    assert covered >= stats.binom.ppf(0.001, 40, 0.95)
    assert rejected <= stats.binom.ppf(0.999, 40, 0.05)
    assert accepted <= stats.binom.ppf(0.999, 40, 0.05)


def test_the_committed_rates_are_those_that_are_claimed() -> None:
    """Of every truth of the benchmark: within the 99 % band of 400 draws, too wide as wrong as too narrow. Page's test
    is said of some grids only; the shares of several K of one grid are nearly one number, so that grids are counted."""
    measured = json.loads(COVERAGE.read_text())
    assert measured["truths"] == {name: asdict(truth) for name, truth in coverage.RANGES.items()}
    assert measured["grids"] >= 400
    for name, rates in measured["ranges"].items():
        for statistic in ("slope", "matched", "area", "amount", "repetition"):
            assert 0.922 <= rates.get(f"{statistic}_covers", 0.95) <= 0.978, (name, statistic)
        for statistic in ("permutation_rejects", "control_accepts_at_the_largest"):
            assert 0.022 <= rates[statistic] <= 0.078, (name, statistic)
        assert 0.9 <= rates["slope_error_over_deviation"] <= 1.1, name
        said = round(rates["trend_is_said"] * measured["grids"])
        if said:
            low, high = stats.binom.interval(0.99, said, 0.05)
            assert low <= rates["trend_rejects"] * said <= high + 1e-9, name


def test_findings_of_a_whole_grid(tmp_path) -> None:
    storage = Storage.at(tmp_path)
    simulate(storage, Truth(slope=0.03, run_deviation=1e-4, window_deviation=1e-4, reaction_deviation=1e-5), 0)
    results = load_results(storage)
    findings = find(results, results.conditions[0])
    assert findings.num_runs == 45
    assert findings.slope.value == pytest.approx(0.03, abs=2e-4)
    assert findings.by_k["dxe"].to_numpy() == pytest.approx(0.03 * np.log2([2, 4, 8, 11]), abs=5e-4)
    assert findings.by_k["num_runs"].tolist() == [3, 3, 3, 3]
    assert findings.permutation.p_value < 0.001
    assert list(findings.controls) == [2, 4, 8, 11]
    assert [control.margin for control in findings.controls.values()] == pytest.approx(np.log([2, 4, 8, 11]) / 99)
    assert findings.control.is_equivalent
    assert findings.contrasts["value"].to_numpy() == pytest.approx(np.full(11, 0.03 * np.log2(11)), abs=1e-3)
    alone, beside = findings.exposure.to_dict("records")
    assert alone["log2_k"] == pytest.approx(0.03, abs=1e-3)
    # Equal sizes: repetition is K by another name, and no coefficient of the two is given.
    assert beside["condition_number"] > 30 and np.isnan([beside["log2_k"], beside["log2_repetition"]]).all()
    assert findings.reasons == {}


def test_findings_of_next_to_nothing_say_what_is_missing(tmp_path) -> None:
    storage = Storage.at(tmp_path)
    simulate(storage, Truth(), 0, seeds=(0,))
    for path in sorted(storage.results().glob("*.jsonl")):
        if ("-k1-" not in path.name and "-k2-" not in path.name) or "cs" in path.name or "math" in path.name:
            path.unlink()
    results = load_results(storage)
    findings = find(results, results.conditions[0])
    assert findings.slope is None
    assert set(findings.reasons) == {"slope", "permutation", "trend", "control"}
    assert findings.by_k.empty
