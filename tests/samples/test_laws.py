"""The laws against the document's printed figures, against statsmodels, and on points whose truth is known."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from helpers.analysis.estimates import Estimate
from helpers.studies.samples.laws import (
    count_means,
    document_points,
    fit_law,
    fitted_table,
    gain,
    partial_regression,
    prediction_table,
    verdict,
)  # fmt: skip


def test_every_figure_that_the_document_prints() -> None:
    law = fit_law(*document_points())
    assert [round(law.slope, 4), round(law.intercept, 4), round(law.r_squared, 4)] == [-0.7143, 14.6331, 0.9818]
    assert [round(law.p_value, 4), round(law.standard_error, 4)] == [0.0092, 0.0689]
    assert round(np.exp(law.intercept)) == 2_264_935
    fitted = fitted_table(law)
    assert fitted["fitted"].round(2).tolist() == [6666.37, 3876.32, 2265.84, 1172.58]
    assert fitted["error_percent"].round(2).tolist() == [-6.79, 15.36, -7.11, 0.12]
    assert prediction_table(law)["predicted"].round().tolist() == [607, 192, 117, 23]


def test_the_intervals_that_the_document_could_not_give() -> None:
    law = fit_law(*document_points())
    exponent = law.parameters()["b"]
    assert (round(exponent.low, 2), round(exponent.high, 2)) == (0.42, 1.01)
    table = prediction_table(law)
    last = table.iloc[-1]
    assert 2.7 < last["low"] < 2.9 and 180 < last["high"] < 188
    assert (np.diff(np.log(table["high"] / table["low"])) > 0).all()  # they widen
    assert table["warning"].tolist() == ["", *["beyond 10 times the data"] * 3]


def test_two_sample_counts_give_no_law() -> None:
    with pytest.raises(ValueError, match="2 sample counts leave no interval"):
        fit_law(np.array([10, 20, 20]), np.array([3.0, 2, 2]))


def cells(samples: float, steps: float, noise: float, seed: int, matches=("epochs", "steps", "tokens")) -> pd.DataFrame:
    """Points of a world in which log PPL = 10 + samples log N + steps log S."""
    rng, rows = np.random.default_rng(seed), []
    for count in (20, 40, 80, 160, 320, 640):
        tokens, shared = 80 * count, rng.normal() * noise
        for match in matches:
            taken = {"epochs": tokens / 512, "steps": 100, "tokens": 120}[match] * rng.uniform(0.9, 1.1)
            log_ppl = 10 + samples * np.log(tokens) + steps * np.log(taken) + shared + rng.normal() * noise
            rows.append({"samples": count, "tokens": tokens, "steps": taken, "ppl": np.exp(log_ppl)})
    return pd.DataFrame(rows)


def test_coefficients_and_errors_are_those_of_statsmodels() -> None:
    table = cells(-0.2, -0.5, 0.05, seed=3)

    def fit(part: pd.DataFrame):
        x = sm.add_constant(np.log(part[["tokens", "steps"]].to_numpy()))
        return sm.OLS(np.log(part["ppl"].to_numpy()), x).fit()

    plain = fit(table)
    left = [fit(table[table["samples"] != count]).params for count in table["samples"].unique()]
    jackknife = np.sqrt(5 / 6 * sum((params - plain.params) ** 2 for params in left))
    found = partial_regression(table, 0.7)
    for number, estimate in enumerate((found.samples, found.steps), start=1):
        assert estimate.value == pytest.approx(plain.params[number])
        assert estimate.standard_error == pytest.approx(max(plain.bse[number], jackknife[number]))
        assert estimate.degrees_of_freedom == 5


@pytest.mark.parametrize(
    ("samples", "steps", "expected"),
    [(-0.7, 0.0, ("supported", "contradicted")), (0.0, -0.7, ("contradicted", "supported"))],
)
def test_it_tells_samples_from_steps(samples: float, steps: float, expected: tuple[str, str]) -> None:
    found = partial_regression(cells(samples, steps, 0.01, seed=0), 0.7)
    assert (found.verdict("samples"), found.verdict("steps")) == expected


def test_intervals_cover_the_truth_where_counts_have_noise_of_their_own() -> None:
    found = [partial_regression(cells(-0.3, -0.4, 0.1, seed), 0.7) for seed in range(300)]
    for name, truth in (("samples", -0.3), ("steps", -0.4)):
        covered = np.mean([getattr(each, name).low < truth < getattr(each, name).high for each in found])
        assert covered >= 0.92, name


def test_epochs_alone_cannot_tell_and_the_reason_says_so() -> None:
    with pytest.raises(ValueError, match=r"samples and steps rise together \(R2 = 0\.99"):
        partial_regression(cells(-0.3, -0.4, 0.1, seed=0, matches=("epochs",)), 0.7)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.1, 0.5, "supported"), (-0.5, -0.1, "contradicted"), (-0.01, 0.015, "contradicted"), (-0.01, 0.3, "cannot tell"),
     (-0.3, 0.01, "cannot tell")],
)  # fmt: skip
def test_a_verdict_rests_on_the_interval_alone(low: float, high: float, expected: str) -> None:
    estimate = Estimate(
        value=(low + high) / 2, low=low, high=high, standard_error=0.1, degrees_of_freedom=4, p_value=0.5, num_runs=5
    )
    assert verdict(estimate, 0.02, sign=1) == expected
    mirrored = Estimate(
        value=-estimate.value, low=-high, high=-low, standard_error=0.1, degrees_of_freedom=4, p_value=0.5, num_runs=5
    )
    assert verdict(mirrored, 0.02, sign=-1) == expected


def runs_of(rows: list[tuple]) -> pd.DataFrame:
    names = ["samples", "seed", "context", "xe", "tokens", "steps"]
    table = pd.DataFrame(rows, columns=names).assign(match="epochs", embedding="frozen")
    return table.assign(ppl=np.exp(table["xe"]))


def test_seeds_are_averaged_in_log_perplexity_and_are_no_further_points() -> None:
    runs = runs_of(
        [(10, 0, "learned", 5.0, 800, 4), (10, 1, "learned", 6.0, 800, 16), (20, 0, "learned", 4.0, 1600, 8)]
    )
    means = count_means(runs)
    assert means["ppl"].tolist() == pytest.approx([np.exp(5.5), np.exp(4)])
    assert means["steps"].tolist() == pytest.approx([8, 8]) and means["seeds"].tolist() == [2, 1]


def test_a_gain_is_paired_by_sample_count_and_seed() -> None:
    runs = runs_of(
        [(10, 0, "learned", 5.0, 1, 1), (10, 0, "none", 5.2, 1, 1), (10, 1, "learned", 9.0, 1, 1),
         (20, 0, "learned", 4.0, 1, 1), (20, 0, "none", 4.4, 1, 1)]
    )  # fmt: skip
    found = gain(runs, "none")
    assert found.value == pytest.approx(0.3) and found.num_runs == 2
    with pytest.raises(ValueError, match="0 pairs of runs with contexts learned and random"):
        gain(runs, "random")
