"""Effective rank against numpy's singular values, and against spectra whose rank is known."""

import numpy as np
import pytest

from helpers.studies.samples.rank import effective_rank, rank_estimate


def by_svd(rows_ND: np.ndarray) -> float:
    """Roy & Vetterli (2007), definition 1, as it is written."""
    singular = np.linalg.svd(rows_ND, compute_uv=False)
    share = singular / singular.sum()
    return float(np.exp(-np.sum(share * np.log(share + 1e-300))))


@pytest.mark.parametrize("shape", [(300, 24), (60, 90)])
def test_it_is_that_of_the_singular_values(shape: tuple[int, int]) -> None:
    rows_ND = np.random.default_rng(0).normal(size=shape) * np.geomspace(1, 0.01, shape[1]) + 0.3
    plain = rank_estimate(rows_ND, centred=False)
    assert plain.value == pytest.approx(by_svd(rows_ND), rel=1e-6)
    centred = rank_estimate(rows_ND, centred=True)
    assert centred.value == pytest.approx(by_svd(rows_ND - rows_ND.mean(0)), rel=1e-5)
    assert plain.low < plain.value < plain.high


def test_equal_singular_values_have_the_full_rank_and_one_has_rank_one() -> None:
    assert effective_rank(np.ones(7)) == pytest.approx(7)
    assert effective_rank(np.array([3.0, 0, 0])) == pytest.approx(1)


def test_the_interval_covers_what_many_tokens_say() -> None:
    """Its middle is low by a bias that shrinks with tokens; its length is what other tokens would change."""
    rng = np.random.default_rng(1)
    scales = np.geomspace(1, 0.05, 12)
    estimates = [rank_estimate(rng.normal(size=(800, 12)) * scales, centred=False) for _ in range(60)]
    middle = np.mean([estimate.value for estimate in estimates])
    covered = np.mean([estimate.low < middle < estimate.high for estimate in estimates])
    assert covered >= 0.85


def test_too_few_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="39 contexts give no effective rank"):
        rank_estimate(np.ones((39, 4)), centred=True)
