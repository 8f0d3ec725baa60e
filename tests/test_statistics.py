"""The statistics against closed forms, other libraries' own functions, and simulation from a known truth."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.weightstats import ttost_paired

from helpers.analysis import statistics
from helpers.analysis.findings import find
from helpers.analysis.results import load_results
from helpers.storage import Storage
from tests.simulated_truth import KS, Truth, simulate


def rows_of(xe: dict[tuple[int, int, str], float]) -> pd.DataFrame:
    return pd.DataFrame(
        [{"run_id": f"k{k}s{s}", "k": k, "seed": s, "component": c, "xe": value} for (k, s, c), value in xe.items()]
    )


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


def test_mean_over_runs_is_the_one_sample_t_interval() -> None:
    values = np.array([0.3, -0.1, 0.4, 0.25])
    estimate = statistics.mean_over_runs(values)
    reference = stats.ttest_1samp(values, 0)
    assert (estimate.low, estimate.high) == pytest.approx(tuple(reference.confidence_interval(0.95)))
    assert estimate.p_value == pytest.approx(reference.pvalue)
    assert statistics.mean_over_runs(values[:1]).high == np.inf


def test_slope_finds_the_truth_where_there_is_hardly_noise() -> None:
    estimate = statistics.slope(simulated_rows(0.05, seed=1, run=1e-5, window=1e-5))
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
    estimate = statistics.slope(rows)
    assert estimate.value == pytest.approx(reference, abs=0.5 * estimate.standard_error)
    assert estimate.standard_error == pytest.approx(np.sqrt(np.linalg.inv(information)[1, 1]), rel=0.5)


def test_slope_does_not_depend_on_unit_or_order() -> None:
    rows = simulated_rows(0.02, seed=2)
    one = statistics.slope(rows)
    other = statistics.slope(rows.assign(xe=1000 * rows["xe"] + 5).sample(frac=1, random_state=0))
    assert other.value == pytest.approx(1000 * one.value, rel=1e-3)
    assert other.standard_error == pytest.approx(1000 * one.standard_error, rel=1e-2)


def test_what_a_slope_cannot_be_made_of_is_said() -> None:
    with pytest.raises(ValueError, match="a slope needs 3 runs at 2 values of K; there are 2 at 2"):
        statistics.slope(rows_of({(1, 0, "a"): 1.0, (2, 0, "a"): 1.1}))


def test_permutation_p_value_is_the_exact_one_of_all_permutations() -> None:
    rows = rows_of({(1, 0, "a"): 1.0, (2, 0, "a"): 1.2, (4, 0, "a"): 1.1, (8, 0, "a"): 1.9, (16, 0, "a"): 1.5})
    values, log2_k = rows["xe"].to_numpy(), np.arange(5.0)
    observed = abs(np.cov(values, log2_k)[0, 1])
    every = [abs(np.cov(order, log2_k)[0, 1]) for order in itertools.permutations(values)]
    exact = np.mean(np.array(every) >= observed - 1e-12)
    assert statistics.permutation_p_value(rows, 20_000) == pytest.approx(exact, abs=0.01)


def test_trend_is_pages_test() -> None:
    table = pd.DataFrame([[0, 1, 2, 3], [0, 2, 1, 3], [0, 1, 3, 2]], columns=[1, 2, 4, 8])
    assert statistics.trend_p_value(table) == stats.page_trend_test(table.to_numpy()).pvalue < 0.01
    with pytest.raises(ValueError, match="needs 2 whole seeds"):
        statistics.trend_p_value(table.iloc[:1])


def test_contrasts_adjust_for_their_number() -> None:
    rng = np.random.default_rng(0)
    names = [f"c{n}" for n in range(6)]
    pairs = pd.DataFrame({"component": names * 4, "dxe": rng.normal(np.tile(np.linspace(0, 3, 6), 4), 0.4)})
    table = statistics.component_contrasts(pairs).set_index("component")
    p = table["p_value"].to_numpy()
    order = np.argsort(p)
    holm = np.maximum.accumulate(np.minimum(1, p[order] * np.arange(6, 0, -1)))
    assert table["p_holm"].to_numpy()[order] == pytest.approx(holm)
    assert table["p_bh"].to_numpy() == pytest.approx(stats.false_discovery_control(p))


def test_equivalence_is_statsmodels_tost() -> None:
    differences = np.array([0.01, -0.004, 0.006, 0.002])
    ours = statistics.equivalence(differences, 0.02)
    assert ours.p_value == pytest.approx(ttost_paired(differences, np.zeros(4), -0.02, 0.02)[0])
    assert ours.is_equivalent
    assert not statistics.equivalence(differences + 0.03, 0.02).is_equivalent
    assert statistics.equivalence(differences[:1], 0.02).p_value == 1.0


def test_bootstrap_covers_the_noise_of_runs_and_of_papers() -> None:
    """With many runs the interval is the normal one: variance = (run + paper / papers) / runs."""
    rng = np.random.default_rng(0)
    papers, runs = 50, 40
    effect = rng.normal(0, 0.5, runs)
    data = [[(np.full(papers, 10.0), 1 + value + rng.normal(0, 2.0, papers))] for value in effect]
    low, high = statistics.hierarchical_bootstrap(data)
    means = np.array([run[0][1].mean() for run in data])
    # Each run's mean holds its papers' noise already, and the second stage adds it once more.
    expected = 2 * 1.96 * np.sqrt((means.var(ddof=1) + 4 / papers) / runs)
    assert high - low == pytest.approx(expected, rel=0.15)
    assert low < means.mean() < high


def test_an_outlier_is_named() -> None:
    rows = simulated_rows(0.01, seed=3)
    assert statistics.outlier_runs(rows) == []
    assert statistics.outlier_runs(rows.assign(xe=rows["xe"] + 0.2 * (rows["run_id"] == "k4s1"))) == ["k4s1"]


def test_smallest_detectable_slope_is_detected_as_often_as_stated() -> None:
    """Simulated least squares at that slope rejects in 80 % of 2,000 draws."""
    ks = np.repeat(KS, 3)
    slope = statistics.smallest_detectable_slope(ks, run_deviation=0.01)
    rng = np.random.default_rng(0)
    fits = [stats.linregress(np.log2(ks), slope * np.log2(ks) + rng.normal(0, 0.01, 15)) for _ in range(2000)]
    assert np.mean([fit.pvalue < 0.05 for fit in fits]) == pytest.approx(0.8, abs=0.03)
    assert statistics.smallest_detectable_slope(np.array([1, 2]), 0.01) == np.inf


@pytest.mark.slow
def test_interval_false_positives_and_equivalence_keep_their_rates(tmp_path) -> None:
    """A short form of `python -m benchmarks.coverage`: 40 grids; the committed result has at least 400."""
    covered = rejected = accepted = 0
    for seed in range(40):
        storage = Storage.at(tmp_path / str(seed))
        simulate(storage, Truth(slope=0.0, shift=0.0242), 10_000 + seed)
        results = load_results(storage, "ergodic")
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
    simulate(storage, Truth(slope=0.03, run_deviation=1e-4, window_deviation=1e-4), 0)
    results = load_results(storage, "ergodic")
    findings = find(results, results.conditions[0])
    assert findings.num_runs == 45
    assert findings.slope.value == pytest.approx(0.03, abs=2e-4)
    assert findings.by_k["dxe"].to_numpy() == pytest.approx(0.03 * np.log2([2, 4, 8, 11]), abs=5e-4)
    assert findings.by_k["num_runs"].tolist() == [3, 3, 3, 3]
    assert findings.permutation_p < 0.001
    assert findings.trend_p < 0.001
    assert findings.control.is_equivalent
    assert findings.contrasts["value"].to_numpy() == pytest.approx(np.full(11, 0.03 * np.log2(11)), abs=1e-3)
    assert findings.exposure["condition_number"].iloc[1] > 30  # equal sizes: repetition is K by another name
    assert findings.reasons == {}


def test_findings_of_next_to_nothing_say_what_is_missing(tmp_path) -> None:
    storage = Storage.at(tmp_path)
    simulate(storage, Truth(), 0, seeds=(0,))
    for path in sorted(storage.results().glob("*.jsonl")):
        if ("-k1-" not in path.name and "-k2-" not in path.name) or "cs" in path.name or "math" in path.name:
            path.unlink()
    results = load_results(storage, "ergodic")
    findings = find(results, results.conditions[0])
    assert findings.slope is None
    assert set(findings.reasons) == {"slope", "permutation", "trend", "control"}
    assert findings.by_k.empty
