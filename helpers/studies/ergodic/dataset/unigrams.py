"""The unigram distributions of components, and how far apart they are: entropy and Jensen-Shannon divergence in nats.

The Jensen-Shannon divergence of several distributions with equal weights is the information that one token, without
any context, carries about which of them it was drawn from (Lin 1991, IEEE Trans. Inf. Theory 37:145). So it is what a
learner who knows the distributions, and not the component, gains from the first token of a window.

Estimates from finite text are too large: rare tokens fall by chance into one component and not into another. The
same papers under shuffled labels say by how much.

K components, N papers, V vocabulary.
"""

import numpy as np
from scipy.special import entr

from helpers.data.flat_tokens import FlatTokens

_PART_TOKENS = 2**22


def count_tokens(flat: FlatTokens, label_N: np.ndarray, num_labels: int, vocab_size: int) -> np.ndarray:
    """How often each token occurs in the papers of each label, int64 [K, V].

    Reads the tokens part by part: memory does not grow with them (about 70 MB with the counts of 11 components).
    """
    counts = np.zeros(num_labels * vocab_size, np.int64)
    for start in range(0, len(flat.tokens), _PART_TOKENS):
        tokens = flat.tokens[start : start + _PART_TOKENS].astype(np.int64)
        in_part = np.diff(np.clip(flat.offsets, start, start + len(tokens)))  # tokens of each paper that lie in it
        tokens += np.repeat(label_N.astype(np.int64) * vocab_size, in_part)
        counts += np.bincount(tokens, minlength=len(counts))
    return counts.reshape(num_labels, vocab_size)


def distributions(counts_KV: np.ndarray) -> np.ndarray:
    """Counts as probabilities, float64 [K, V]; ValueError for a component without a token."""
    totals_K1 = counts_KV.sum(axis=1, keepdims=True)
    if not totals_K1.all():
        raise ValueError(f"component {int(np.argmin(totals_K1))} has no token, and so no distribution; leave it out")
    return counts_KV / totals_K1


def entropy(p_V: np.ndarray) -> np.ndarray:
    """-sum p ln p over the last axis, in nats."""
    return entr(p_V).sum(axis=-1)


def jensen_shannon(p_KV: np.ndarray) -> float:
    """The divergence of K distributions with equal weights, in nats: 0 where all are equal, at most ln K."""
    return max(0.0, float(entropy(p_KV.mean(axis=0)) - entropy(p_KV).mean()))


def pairwise_jensen_shannon(p_KV: np.ndarray) -> np.ndarray:
    """The divergence of every pair, a symmetric matrix [K, K] in nats; at most ln 2."""
    matrix = np.zeros((len(p_KV), len(p_KV)))
    for i, j in zip(*np.triu_indices(len(p_KV), k=1), strict=True):
        matrix[i, j] = matrix[j, i] = jensen_shannon(p_KV[[i, j]])
    return matrix
