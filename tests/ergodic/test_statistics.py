"""The statistics against closed forms, other libraries' own functions, and simulation from a known truth."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.weightstats import ttost_paired

from helpers.analysis.estimates import PaperMeans
from helpers.analysis.power import smallest_detectable
from helpers.storage import Storage
from helpers.studies.ergodic import inference
from helpers.studies.ergodic.findings import find
from helpers.studies.ergodic.results import load_results
from tests.simulated_truth import KS, Truth, simulate


def rows_of(xe: dict[tuple[int, int, str], float]) -> pd.DataFrame:
    rows = [{"run_id": f"k{k}s{s}", "k": k, "seed": s, "component": c, "xe": xe[k, s, c]} for k, s, c in xe]
    frame = pd.DataFrame(rows)
    return frame.assign(**one_paper(frame))


def one_paper(rows: pd.DataFrame) -> dict[str, list[np.ndarray]]:
    """All windows of a component in one paper, of which there is no noise to be known."""
    return {"paper_windows": [np.array([1])] * len(rows), "paper_xe": [np.array([xe]) for xe in rows["xe"]]}


def simulated_rows(slope: float, seed: int, run: float = 0.01, window: float = 0.01) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    offsets = rng.normal(0, 0.3, 11)
    xe = {}
    for k, s in itertools.product(KS, range(3)):
        effect = slope * np.log2(k) + rng.normal(0, run)
        for place in range(k):
            component = (s + 7 * place) % 11
            xe[k, s, f"c{component}"] = offsets[component] + effect + rng.normal(0, window)
    return rows_of(xe)


def test_slope_finds_the_truth_where_there_is_hardly_noise() -> None:
    estimate = inference.slope(simulated_rows(0.05, seed=1, run=1e-5, window=1e-5))
    assert estimate.value == pytest.approx(0.05, abs=2e-5)
    assert estimate.num_runs == 15
    assert estimate.degrees_of_freedom == 13


def test_slope_is_generalised_least_squares_with_its_variances() -> None:
    """With variances known to be large for components, the estimate is near GLS with the true ones."""
    rows = simulated_rows(0.02, seed=4)
    same = [(rows[name].to_numpy()[:, None] == rows[name].to_numpy()) for name in ("run_id", "component")]
    covariance = 1e-4 * same[0] + 0.09 * same[1] + 1e-4 * np.eye(len(rows))
    design = np.column_stack([np.ones(len(rows)), np.log2(rows["k"])])
    inverse = np.linalg.inv(covariance)
    information = design.T @ inverse @ design
    reference = np.linalg.solve(information, design.T @ inverse @ rows["xe"].to_numpy())[1]
    estimate = inference.slope(rows)
    assert estimate.value == pytest.approx(reference, abs=0.5 * estimate.standard_error)
    assert estimate.standard_error == pytest.approx(np.sqrt(np.linalg.inv(information)[1, 1]), rel=0.5)


def test_slope_does_not_depend_on_unit_or_order() -> None:
    rows = simulated_rows(0.02, seed=2)
    one = inference.slope(rows)
    other = inference.slope(rows.assign(xe=1000 * rows["xe"] + 5).sample(frac=1, random_state=0))
    assert other.value == pytest.approx(1000 * one.value, rel=1e-3)
    assert other.standard_error == pytest.approx(1000 * one.standard_error, rel=1e-2)


def test_what_a_slope_cannot_be_made_of_is_said() -> None:
    with pytest.raises(ValueError, match="a slope needs 3 runs at 2 values of K; there are 2 at 2"):
        inference.slope(rows_of({(1, 0, "a"): 1.0, (2, 0, "a"): 1.1}))


def test_permutation_p_value_is_the_exact_one_of_all_permutations() -> None:
    rows = rows_of({(1, 0, "a"): 1.0, (2, 0, "a"): 1.2, (4, 0, "a"): 1.1, (8, 0, "a"): 1.9, (16, 0, "a"): 1.5})
    values, log2_k = rows["xe"].to_numpy(), np.arange(5.0)
    observed = abs(np.cov(values, log2_k)[0, 1])
    every = [abs(np.cov(order, log2_k)[0, 1]) for order in itertools.permutations(values)]
    exact = np.mean(np.array(every) >= observed - 1e-12)
    assert inference.permutation_p_value(rows, 20_000) == pytest.approx(exact, abs=0.01)


def test_trend_is_pages_test() -> None:
    table = pd.DataFrame([[0, 1, 2, 3], [0, 2, 1, 3], [0, 1, 3, 2]], columns=[1, 2, 4, 8])
    assert inference.trend_p_value(table) == stats.page_trend_test(table.to_numpy()).pvalue < 0.01
    with pytest.raises(ValueError, match="needs 2 whole seeds"):
        inference.trend_p_value(table.iloc[:1])


def test_contrasts_adjust_for_their_number() -> None:
    rng = np.random.default_rng(0)
    differences = rng.normal(np.linspace(0, 3, 6), 0.4, size=(4, 6))
    measured = {
        f"c{n}": [{f"c{n}": PaperMeans(windows=np.array([1]), values=np.array([value]))} for value in column]
        for n, column in enumerate(differences.T)
    }
    p = stats.ttest_1samp(differences, 0).pvalue  # one paper each: nothing to be known of papers
    table = inference.component_contrasts(measured)
    assert table["p_value"].to_numpy() == pytest.approx(p)
    order = np.argsort(p)
    holm = np.maximum.accumulate(np.minimum(1, p[order] * np.arange(6, 0, -1)))
    assert table["p_holm"].to_numpy()[order] == pytest.approx(holm)
    assert table["p_bh"].to_numpy() == pytest.approx(stats.false_discovery_control(p))


def test_equivalence_is_statsmodels_tost() -> None:
    differences = np.array([0.01, -0.004, 0.006, 0.002])
    ours = inference.equivalence(differences, 0.02)
    assert ours.p_value == pytest.approx(ttost_paired(differences, np.zeros(4), -0.02, 0.02)[0])
    assert ours.is_equivalent
    assert not inference.equivalence(differences + 0.03, 0.02).is_equivalent
    assert inference.equivalence(differences[:1], 0.02).p_value == 1.0


def test_bootstrap_covers_the_noise_of_runs_and_of_papers() -> None:
    """With many runs the interval is the normal one: variance = (run + paper / papers) / runs."""
    rng = np.random.default_rng(0)
    papers, runs = 50, 40
    effect = rng.normal(0, 0.5, runs)
    values = [1 + value + rng.normal(0, 2.0, papers) for value in effect]
    data = [{"a": PaperMeans(windows=np.full(papers, 10.0), values=run)} for run in values]
    low, high = inference.hierarchical_bootstrap(data)
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
    fits = [inference.slope(simulated_rows(0.0, seed)) for seed in range(60)]
    least = np.mean([smallest_detectable(fit.standard_error, fit.degrees_of_freedom) for fit in fits])
    rejected = sum(inference.slope(simulated_rows(least, seed)).p_value < 0.05 for seed in range(100, 160))
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
    with_papers, without = inference.slope(rows), inference.slope(rows.assign(**one_paper(rows)))
    assert with_papers.value == without.value
    of_papers = np.sqrt(with_papers.standard_error**2 - without.standard_error**2)
    assert of_papers == pytest.approx(0.01 / np.sqrt(11 * papers), rel=0.3)


@pytest.mark.slow
def test_interval_false_positives_and_equivalence_keep_their_rates(tmp_path) -> None:
    """A short form of `python -m benchmarks.coverage`: 40 grids; the committed result has at least 400."""
    covered = rejected = accepted = 0
    for seed in range(40):
        storage = Storage.at(tmp_path / str(seed))
        simulate(storage, Truth(slope=0.0, shift=0.0242), 10_000 + seed)
        results = load_results(storage)
        findings = find(results, results.conditions[0])
        covered += findings.slope.low <= 0 <= findings.slope.high
        rejected += findings.permutation_p < 0.05
        accepted += findings.control.is_equivalent
    # Beyond these a rate of 95 %, 5 % or 5 % has a probability below 0.1 % (binomial, n = 40).
    assert covered >= stats.binom.ppf(0.001, 40, 0.95)
    assert rejected <= stats.binom.ppf(0.999, 40, 0.05)
    assert accepted <= stats.binom.ppf(0.999, 40, 0.05)


def test_findings_of_a_whole_grid(tmp_path) -> None:
    storage = Storage.at(tmp_path)
    simulate(storage, Truth(slope=0.03, run_deviation=1e-4, window_deviation=1e-4, reaction_deviation=1e-5), 0)
    results = load_results(storage)
    findings = find(results, results.conditions[0])
    assert findings.num_runs == 45
    assert findings.slope.value == pytest.approx(0.03, abs=2e-4)
    assert findings.by_k["dxe"].to_numpy() == pytest.approx(0.03 * np.log2([2, 4, 8, 11]), abs=5e-4)
    assert findings.by_k["num_runs"].tolist() == [3, 3, 3, 3]
    assert findings.permutation_p < 0.001
    assert findings.trend_p < 0.001
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
