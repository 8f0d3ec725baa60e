"""What every family counts alike: parameters under four conventions, rows of an embedding, and FLOPs of a decoder.

Closed forms, so that a plan needs no model.
"""

from dataclasses import dataclass

from helpers.model_config import Shape

_ROWS_MULTIPLE = 128


@dataclass(frozen=True, kw_only=True)
class ParameterCounts:
    """One model under four conventions of counting; a matrix that is both embedding and head is one matrix."""

    total: int
    without_positions: int
    """Without a learned embedding of positions."""
    non_embedding: int
    """Without the embeddings of tokens and positions, and without the head."""
    matmul: int
    """Weights that multiply activations: the head and all matrices but those that are only looked up in."""


def embedding_rows(vocab_size: int) -> int:
    """Rows of embedding and head of the decoders: the next multiple of 128, which tensor cores like.

    Pythia's 50,277 tokens have its published 50,304 rows, and so have GPT-2's 50,257. No text holds a row beyond the
    vocabulary: training only lowers its logit.
    """
    return -(-vocab_size // _ROWS_MULTIPLE) * _ROWS_MULTIPLE


def decoder_flops_per_token(shape: Shape, matmul: int, window_tokens: int) -> int:
    """Training FLOPs a token: 6 a matmul weight (2 forward, 4 backward), and 12 L d T for attention's two products
    over T positions (Chowdhery et al. 2022, arXiv 2204.02311, appendix B; the causal half is counted in full)."""
    return 6 * matmul + 12 * shape.n_layer * shape.d_model * window_tokens
