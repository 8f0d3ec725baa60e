"""Evaluation: windows that pair runs, standard errors against simulation and statsmodels, the Bayes values."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GPTNeoXForCausalLM

from helpers.config import RunConfig
from helpers.data import hidden_markov
from helpers.data.components import select
from helpers.data.fetch_arxiv import ensure_cache
from helpers.data.flat_tokens import flat_tokens
from helpers.data.token_cache import TokenCache
from helpers.data.window_dataset import NO_LOSS, read_windows
from helpers.evaluation.bayes import BayesReference
from helpers.evaluation.eval_xe import clustered_standard_error, cross_entropy, evaluate, summarise
from helpers.evaluation.windows import evaluation_windows
from helpers.models.language_model import build_model, weights_of
from helpers.models.neox import as_transformers
from helpers.models.window_model import WindowModel
from helpers.runs.result_file import Result, read_result, write_result
from helpers.settings import apply_overrides
from helpers.storage import Storage
from helpers.training.evaluate_again import evaluate_again
from helpers.training.train_single_k import train_single_k

CONFIG = apply_overrides(
    RunConfig(study="ergodic", k=3, seed=2),
    ["model.size=tiny", "model.dropout=0.1", "eval.windows_per_component=32", "data.synthetic.papers_per_component=40",
     "data.synthetic.num_components=4", "data.synthetic.paper_tokens=300", "execution.trackers="],
)  # fmt: skip


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    return Storage.at(tmp_path_factory.mktemp("storage"))


@pytest.fixture(scope="module")
def cache(storage: Storage) -> TokenCache:
    return ensure_cache(CONFIG.data, storage)


def test_xe_is_that_of_transformers_on_padded_sequences(storage: Storage, cache: TokenCache) -> None:
    """GPTNeoXForCausalLM(labels=...) on BOS + 100 + pad to 128, token 0 not averaged, window by window."""
    model = build_model(CONFIG.model, cache.vocab_size, cache.bos_id, seed=0).eval()
    selection = select(CONFIG, cache)
    measured = evaluate(CONFIG, storage, cache, selection, model.state_dict(), 0, lambda event: None)
    summary = measured.summary
    theirs = as_transformers(CONFIG.model, cache.vocab_size, cache.bos_id, weights_of(model))
    expected = [mean_loss(theirs, storage, cache, name) for name in selection.components]
    assert [row["xe"] for row in measured.rows] == pytest.approx(expected, abs=1e-5)
    assert summary["xe"] == pytest.approx(np.mean(expected), abs=1e-5)
    assert summary["ppl"] == pytest.approx(np.exp(np.mean(expected)), rel=1e-5)


def mean_loss(model: GPTNeoXForCausalLM, storage: Storage, cache: TokenCache, component: str) -> float:
    tokens = read_windows(
        flat_tokens(cache, "test", storage), evaluation_windows(CONFIG.data, CONFIG.eval, cache, component), 100
    )
    inputs = torch.zeros(len(tokens), 128, dtype=torch.long)
    inputs[:, 0], inputs[:, 1:101] = cache.bos_id, torch.from_numpy(tokens)
    labels = torch.full_like(inputs, NO_LOSS)
    labels[:, 2:101] = inputs[:, 2:101]
    mask = (torch.arange(128) <= 100).long().expand_as(inputs)
    with torch.no_grad():
        return model(input_ids=inputs, attention_mask=mask, labels=labels).loss.item()


def test_windows_are_the_same_for_every_k_seed_and_order(cache: TokenCache) -> None:
    one = evaluation_windows(CONFIG.data, CONFIG.eval, cache, "hmm2")
    other = apply_overrides(dataclasses.replace(CONFIG, k=1, seed=9), ["data.order=listed", "train.steps=5000"])
    two = evaluation_windows(other.data, other.eval, cache, "hmm2")
    assert all(np.array_equal(getattr(one, name), getattr(two, name)) for name in ("paper", "start"))
    assert not np.array_equal(one.paper, evaluation_windows(CONFIG.data, CONFIG.eval, cache, "hmm1").paper)


def test_windows_come_from_the_test_papers_of_their_component(cache: TokenCache) -> None:
    index = cache.index("test")
    windows = evaluation_windows(CONFIG.data, CONFIG.eval, cache, "hmm3")
    assert set(index.component[windows.paper]) == {cache.components.index("hmm3")}
    assert (windows.start + 100 <= index.num_tokens[windows.paper]).all()


def test_standard_error_is_the_spread_of_the_mean_when_papers_differ() -> None:
    """40 papers of 5 windows each, a paper effect as large as a window's: the mean's variance is 1/40 + 1/200."""
    rng = np.random.default_rng(0)
    paper = np.repeat(np.arange(40), 5)
    draws = [rng.normal(size=200) + rng.normal(size=40)[paper] for _ in range(2000)]
    errors = [clustered_standard_error(values, paper) for values in draws]
    assert np.mean(np.square(errors)) == pytest.approx(1 / 40 + 1 / 200, rel=0.03)


def test_standard_error_of_unclustered_values_is_the_textbook_one() -> None:
    values = np.random.default_rng(1).normal(size=50)
    assert clustered_standard_error(values, np.arange(50)) == pytest.approx(values.std(ddof=1) / np.sqrt(50))
    assert clustered_standard_error(values, np.zeros(50)) is None


def test_token_0_is_stored_but_not_averaged() -> None:
    loss = np.ones((4, 100))
    loss[:, 0] = 50
    line = summarise(loss, np.arange(4), np.array(["a", "b", "c", "d"]))
    assert (line["xe"], line["xe_by_position"][:2]) == (1.0, [50.0, 1.0])


def test_papers_are_the_means_of_their_windows() -> None:
    loss = np.arange(500.0).reshape(5, 100)
    by_paper = summarise(loss, np.array([3, 0, 3, 3, 2]), np.array(["a", "b", "c", "d"]))["by_paper"]
    means = loss[:, 1:].mean(axis=1)
    assert by_paper["paper_id"] == ["a", "c", "d"]
    assert by_paper["windows"] == [1, 1, 3]
    assert by_paper["xe"] == pytest.approx([means[1], means[4], means[[0, 2, 3]].mean()])


def test_bayes_values_bound_every_model_and_their_difference_is_the_identification(
    storage: Storage, cache: TokenCache
) -> None:
    selection = select(CONFIG, cache)
    reference = BayesReference(CONFIG, cache, selection)
    assert np.count_nonzero(reference.prior_K) == 3
    assert reference.prior_K[reference.prior_K > 0] == pytest.approx(1 / 3)
    flat = flat_tokens(cache, "test", storage)
    values = []
    for name in selection.components:
        windows = evaluation_windows(CONFIG.data, CONFIG.eval, cache, name)
        values.append(reference.values(read_windows(flat, windows, 100), windows.paper))
    area = sum(np.sum(v["bayes_xe_by_position"]) - np.sum(v["bayes_known_xe_by_position"]) for v in values) / 3
    assert 0 < area <= np.log(3) + 1e-9
    assert all(v["bayes_xe"] >= v["bayes_known_xe"] - 0.02 for v in values)


def test_bayes_prior_of_shuffled_labels_is_what_the_pools_hold(cache: TokenCache) -> None:
    config = apply_overrides(CONFIG, ["data.shuffle_labels=true"])
    selection = select(config, cache)
    true = cache.index("train").component
    papers = np.concatenate([pool.paper for pool in selection.pools])
    assert BayesReference(config, cache, selection).prior_K == pytest.approx(np.bincount(true[papers]) / len(papers))


def test_foreign_processes_are_refused(cache: TokenCache) -> None:
    manifest = cache.manifest | {"processes_sha256": "0" * 64}
    with pytest.raises(ValueError, match="come from other processes"):
        BayesReference(CONFIG, dataclasses.replace(cache, manifest=manifest), select(CONFIG, cache))


def test_a_perfect_model_has_the_bayes_loss(storage: Storage, cache: TokenCache, monkeypatch) -> None:
    """With the exact predictor in place of a network, XE equals the Bayes value to rounding."""
    processes = hidden_markov.processes(CONFIG.data.synthetic)
    selection = select(CONFIG, cache)
    active = [cache.components.index(name) for name in selection.components]

    def exact(model: WindowModel, tokens_BT: np.ndarray) -> np.ndarray:
        loglik = hidden_markov.log_likelihood(processes[active], tokens_BT)
        return hidden_markov.mixture_log_loss(loglik, np.ones(3))

    monkeypatch.setattr("helpers.evaluation.eval_xe.cross_entropy", exact)
    weights = build_model(CONFIG.model, cache.vocab_size, cache.bos_id, seed=0).state_dict()
    summary = evaluate(CONFIG, storage, cache, selection, weights, 0, lambda event: None).summary
    assert summary["xe"] == pytest.approx(summary["bayes_xe"], abs=1e-9)


def test_evaluation_does_not_depend_on_how_windows_are_batched(cache: TokenCache) -> None:
    model = WindowModel(build_model(CONFIG.model, cache.vocab_size, cache.bos_id, seed=0), cache.bos_id).eval()
    tokens = np.random.default_rng(0).integers(0, 32, (130, 100))
    whole = cross_entropy(model, tokens)
    parts = np.concatenate([cross_entropy(model, tokens[:7]), cross_entropy(model, tokens[7:])])
    assert whole == pytest.approx(parts, abs=1e-5)


def test_every_retained_snapshot_can_be_evaluated_later(tmp_path: Path) -> None:
    storage = Storage.at(tmp_path)
    config = apply_overrides(
        CONFIG,
        ["train.steps=6", "train.batch_size=4", "train.warmup_steps=1", "execution.snapshot_every_steps=2"],
    )
    path = train_single_k(config, storage, ())
    before = read_result(path)
    for step in (2, 4, 2):
        evaluate_again(config, storage, step, ())
    after = read_result(path)
    assert [row["step"] for row in after.summaries] == [2, 4, 6]
    assert [row["step"] for row in after.rows_of("xe")] == [2] * 3 + [4] * 3 + [6] * 3
    assert after.summaries[-1] == before.summaries[-1]
    with pytest.raises(ValueError, match="retained steps: 2, 4, 6"):
        evaluate_again(config, storage, 5)
    with pytest.raises(ValueError, match="has no result"):
        evaluate_again(dataclasses.replace(config, seed=7), storage)


def test_a_cut_or_altered_result_is_recognised(tmp_path: Path) -> None:
    run = {"kind": "run", "schema": 1, "run_id": "x", "study": "ergodic", "config": {}, "provenance": {}}
    line = {"kind": "summary", "step": 3, "xe": 1.0}
    path = write_result(tmp_path / "x.jsonl", Result(run=run, rows=[], summaries=[line]))
    assert read_result(path) == Result(run=run, rows=[], summaries=[line])
    whole = path.read_text()
    for damaged in (
        whole[:-20],
        whole.replace('"x"', '"y"'),
        whole.splitlines()[0],
        "",
        whole.replace("schema", "scheme"),
    ):
        path.write_text(damaged)
        with pytest.raises(ValueError, match=r"x\.jsonl"):
            read_result(path)
