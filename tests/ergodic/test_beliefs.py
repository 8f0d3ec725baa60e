"""What is read of the posterior: against Bayes' rule by hand, least squares of numpy, and streams that hold it."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from helpers.data import hidden_markov
from helpers.data.fetch_arxiv import ensure_cache
from helpers.evaluation.eval_xe import load_model
from helpers.model_config import PythiaConfig
from helpers.models.language_model import build_model, weights_of
from helpers.runs.result_file import read_result
from helpers.storage import Storage
from helpers.studies import find_study
from helpers.studies.ergodic.beliefs import measure
from helpers.studies.ergodic.beliefs.figure import beliefs_figure
from helpers.studies.ergodic.beliefs.report import beliefs_blocks, sentences
from helpers.studies.ergodic.beliefs.ridge import PENALTY, explained, fit_ridge
from helpers.studies.ergodic.beliefs.table import beliefs
from helpers.studies.ergodic.results import load_results
from helpers.training.train_single_k import train_single_k
from tests.small_run import CONFIG


def coins(*heads: float) -> np.ndarray:
    """Memoryless processes of two symbols, of which symbol 0 has these probabilities."""
    return np.stack([hidden_markov.hidden_markov(np.eye(1), np.array([[p, 1 - p]])) for p in heads])


def test_the_posterior_is_bayes_rule() -> None:
    windows_BT = np.array([[0, 0, 1, 0], [1, 1, 1, 1]])
    loglik_KBT = hidden_markov.log_likelihood(coins(0.9, 0.2), windows_BT)
    posterior_KBT = hidden_markov.posterior(loglik_KBT, np.array([3.0, 1.0]))
    for window, symbols in enumerate(windows_BT):
        joint = np.array([0.75, 0.25])
        for position, symbol in enumerate(symbols):
            assert posterior_KBT[:, window, position] == pytest.approx(joint / joint.sum(), abs=1e-12)
            joint = joint * np.array([[0.9, 0.1], [0.2, 0.8]])[:, symbol]


def test_what_a_process_cannot_emit_has_no_belief_left() -> None:
    loglik_KBT = hidden_markov.log_likelihood(coins(1.0, 0.5), np.array([[1, 0, 0]]))
    posterior_KBT = hidden_markov.posterior(loglik_KBT, np.ones(2))
    assert posterior_KBT[:, 0].T.tolist() == [[0.5, 0.5], [0.0, 1.0], [0.0, 1.0]]


def test_ridge_is_least_squares_with_its_penalty_as_further_rows() -> None:
    rng = np.random.default_rng(0)
    features_ND, targets_NK = rng.normal(2, 3, (60, 4)), rng.normal(1, 1, (60, 2))
    centred_ND = features_ND - features_ND.mean(axis=0)
    penalty = np.sqrt(PENALTY * (centred_ND**2).sum() / 4) * np.eye(4)
    rows, wanted = np.vstack([centred_ND, penalty]), np.vstack([targets_NK - targets_NK.mean(axis=0), np.zeros((4, 2))])
    fitted = fit_ridge(features_ND, targets_NK)
    assert fitted.weights_DK == pytest.approx(np.linalg.lstsq(rows, wanted, rcond=None)[0], abs=1e-10)
    assert fitted(features_ND).mean(axis=0) == pytest.approx(targets_NK.mean(axis=0), abs=1e-12)
    copies = fit_ridge(np.repeat(features_ND, 2, axis=1), targets_NK)
    assert np.isfinite(copies.weights_DK).all()


def test_explained_is_one_for_the_targets_and_zero_for_their_mean() -> None:
    targets_NK = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert explained(targets_NK, targets_NK) == 1
    assert explained(targets_NK, np.full((4, 2), 0.5)) == 0
    assert explained(targets_NK, 1 - targets_NK) == -3


def test_a_stream_that_holds_the_posterior_is_read_whole_and_that_of_other_windows_is_not() -> None:
    rng = np.random.default_rng(1)
    posterior_BTK = rng.dirichlet(np.ones(3), size=(80, 10))
    mix_KD = rng.normal(size=(3, 6))
    windows = measure.Windows(np.zeros((80, 10)), posterior_BTK)
    stream_BTD = posterior_BTK @ mix_KD + 5
    assert measure._read([stream_BTD] * 2, (windows, windows)) == pytest.approx(1, abs=1e-5)
    other = measure._of_other_windows(windows, seed=0)
    assert abs(measure._read([stream_BTD] * 2, (other, other))) < 0.1


def test_behind_the_last_norm_the_residual_stream_is_the_hidden_state(storage) -> None:
    config = dataclasses.replace(CONFIG, model=PythiaConfig(size="tiny", dropout=0.0))
    cache = ensure_cache(config.data, storage)
    weights = weights_of(build_model(config.model, cache.vocab_size, cache.bos_id, 3))
    model = load_model(config, cache, weights)
    tokens_BT = np.random.default_rng(0).integers(0, cache.vocab_size, (70, 12))
    stream_LBTD = measure.residual_stream(model, tokens_BT)
    assert stream_LBTD.shape == (2, 70, 12, 32)

    with torch.no_grad():
        normed = model.model.final_norm(torch.from_numpy(stream_LBTD[-1]).float())
        hidden = model.hidden(torch.from_numpy(tokens_BT))
    assert normed.numpy() == pytest.approx(hidden.numpy(), abs=1e-5)
    assert np.abs(stream_LBTD[0] - stream_LBTD[1]).max() > 1e-3


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run with two components and one with a single one."""
    storage = Storage.at(tmp_path_factory.mktemp("trained"))
    for k in (1, 2):
        train_single_k(dataclasses.replace(CONFIG, k=k), storage, (), find_study("ergodic").recipe())
    return storage


def test_a_run_holds_a_row_a_layer_and_one_on_one_component_none(trained) -> None:
    alone, mixed = (read_result(path) for path in sorted(trained.results().glob("*.jsonl")))
    assert alone.rows_of("belief") == []
    rows = mixed.rows_of("belief")
    assert [row["layer"] for row in rows] == [1, 2]
    assert all(row[name] <= 1 for row in rows for name in ("r2", "r2_untrained", "r2_shuffled"))


def test_the_table_has_means_and_intervals_over_runs(trained) -> None:
    results = load_results(trained)
    (condition,) = results.conditions
    table = beliefs(results, condition)
    assert table["num_runs"].tolist() == [1, 1] and table["gain_low"].tolist() == [-np.inf] * 2
    measured = results.further["belief"]
    more = pd.concat([measured.assign(r2=0.9 + 0.01 * n, r2_untrained=0.4, r2_shuffled=0.0) for n in range(3)])
    simulated = dataclasses.replace(results, further=results.further | {"belief": more})
    table = beliefs(simulated, condition)
    # Student's t with two degrees of freedom: 4.3027 x 0.01 / sqrt 3.
    assert table["gain"].to_numpy() == pytest.approx([0.51, 0.51])
    assert table["gain_high"].to_numpy() == pytest.approx([0.51 + 0.02484] * 2, abs=1e-5)
    assert set(table["verdict"]) == {"supported"}
    assert sentences(table) == [
        "K = 2: after the last layer R² is 0.910 trained, 0.400 untrained, 0.000 shuffled; training adds +0.510 "
        "(95 % interval +0.485 to +0.535, 3 runs): supported."
    ]
    assert len(beliefs_figure(table, "a condition").axes) == 2


def test_without_a_measurement_there_is_a_sentence_and_no_picture(tmp_path) -> None:
    blocks = beliefs_blocks(pd.DataFrame(), tmp_path / "none.png")
    assert len(blocks) == 2 and "Not measured" in blocks[1].text
