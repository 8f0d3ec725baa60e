"""The known answer, held against enumeration of all sequences, closed forms, and the chain rule of information."""

import itertools

import numpy as np
import pytest
from scipy import stats

from helpers.config import SyntheticConfig
from helpers.data.hidden_markov import (
    entropy_rate,
    hidden_markov,
    log_likelihood,
    markov_chain,
    mixture_log_loss,
    processes,
    processes_digest,
    sample,
    sample_papers,
    stationary,
)

SMALL = SyntheticConfig(num_components=3, num_states=2, num_symbols=3, seed=4)
SEQUENCES = np.array(list(itertools.product(range(3), repeat=5)))


def sequence_probability(tensor: np.ndarray, sequence: np.ndarray) -> float:
    """P(sequence) as the product of matrices pi T[x1] ... T[xn] 1."""
    row = stationary(tensor)
    for symbol in sequence:
        row = row @ tensor[symbol]
    return row.sum()


def test_filter_agrees_with_enumeration() -> None:
    for tensor in processes(SMALL):
        expected = [sequence_probability(tensor, sequence) for sequence in SEQUENCES]
        assert np.exp(log_likelihood(tensor[None], SEQUENCES)[0].sum(axis=1)) == pytest.approx(expected, rel=1e-12)
        assert sum(expected) == pytest.approx(1)


@pytest.mark.parametrize("prior", [[1, 1, 1], [0.5, 0.3, 0.2], [0, 1, 1]])
def test_mixture_loss_agrees_with_enumeration(prior: list[float]) -> None:
    weights = np.array(prior) / np.sum(prior)

    def mixture(sequence: np.ndarray) -> float:
        return sum(w * sequence_probability(t, sequence) for w, t in zip(weights, processes(SMALL), strict=True))

    expected = [[np.log(mixture(s[:n]) / mixture(s[: n + 1])) for n in range(5)] for s in SEQUENCES]
    loglik_KBT = log_likelihood(processes(SMALL), SEQUENCES)
    assert mixture_log_loss(loglik_KBT, np.array(prior)) == pytest.approx(np.array(expected), rel=1e-9)


def test_excess_over_knowing_the_component_is_its_mutual_information_with_the_window() -> None:
    """Summed over positions, in expectation over all sequences: I(C; X_1..n) = H(X) - H(X | C), at most ln K."""
    tensors = processes(SMALL)
    loglik_KBT = log_likelihood(tensors, SEQUENCES)
    p_KB = np.exp(loglik_KBT.sum(axis=2))
    p_B = p_KB.mean(axis=0)
    excess = p_B @ mixture_log_loss(loglik_KBT, np.ones(3)).sum(axis=1) - (p_KB * -np.log(p_KB)).sum(axis=1).mean()
    joint = p_KB / 3
    information = (joint * np.log(joint / np.outer(np.ones(3) / 3, p_B))).sum()
    assert excess == pytest.approx(information, rel=1e-9)
    assert 0 < excess < np.log(3)


def test_a_markov_chain_is_a_case() -> None:
    transition = np.array([[0.5, 0.4, 0.1], [0.1, 0.6, 0.3], [0.3, 0.3, 0.4]])
    pi = stationary(markov_chain(transition))
    assert pi @ transition == pytest.approx(pi)
    expected = [np.log(pi[s[0]]) + np.log(transition[s[:-1], s[1:]]).sum() for s in SEQUENCES]
    # The chain's tensor emits the symbol it moves to, so a stationary start is one move from the stationary law.
    (loglik_BT,) = log_likelihood(markov_chain(transition)[None], SEQUENCES)
    assert loglik_BT.sum(axis=1) == pytest.approx(expected, rel=1e-12)


def test_entropy_rate_of_a_markov_chain_is_the_closed_form() -> None:
    transition = np.array([[0.9, 0.1], [0.4, 0.6]])
    exact = -(stationary(markov_chain(transition))[:, None] * transition * np.log(transition)).sum()
    estimate, error = entropy_rate(markov_chain(transition))
    assert error < 0.005
    assert abs(estimate - exact) < 4 * error


def test_samples_follow_the_process() -> None:
    """Frequencies of all 3-symbol words against their probabilities."""
    tensor = processes(SMALL)[0]
    words = sample(tensor, 40_000, 3, np.random.default_rng(2))
    every = np.array(list(itertools.product(range(3), repeat=3)))
    expected = 40_000 * np.array([sequence_probability(tensor, word) for word in every])
    counts = np.bincount(words @ [9, 3, 1], minlength=27)
    assert stats.chisquare(counts, expected * counts.sum() / expected.sum()).pvalue > 1e-4


def test_papers_differ_by_split_and_component_and_repeat_by_seed() -> None:
    papers = {(s, c): sample_papers(SMALL, s, c) for s in ("train", "validation", "test") for c in (0, 1)}
    assert papers["train", 0].shape == (200, 1000)
    assert papers["test", 0].shape == (50, 1000)
    heads = {key: value[:50, :50].tobytes() for key, value in papers.items()}
    assert len(set(heads.values())) == 6
    assert np.array_equal(papers["test", 1], sample_papers(SMALL, "test", 1))


def test_digest_names_the_processes() -> None:
    assert processes_digest(SMALL) == processes_digest(SyntheticConfig(num_components=3, num_symbols=3, seed=4))
    assert processes_digest(SMALL) != processes_digest(SyntheticConfig(num_components=3, num_symbols=3, seed=5))


def test_a_process_with_two_closed_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="must be ergodic"):
        stationary(hidden_markov(np.eye(2), np.full((2, 3), 1 / 3)))
