"""The published Pythia shapes, and what a model of each costs: closed forms, so that a plan needs no model.

Shapes are those of the Hub's config.json files and EleutherAI/pythia's models/*.yml (Biderman et al. 2023, arXiv
2304.01373). `tiny` is ours, for CPU presets.
"""

from dataclasses import dataclass

from helpers.config import ModelConfig


@dataclass(frozen=True, kw_only=True)
class Shape:
    d_model: int
    n_layer: int
    n_head: int


SHAPES = {
    "tiny": Shape(d_model=32, n_layer=2, n_head=2),
    "14m": Shape(d_model=128, n_layer=6, n_head=4),
    "31m": Shape(d_model=256, n_layer=6, n_head=8),
    "70m": Shape(d_model=512, n_layer=6, n_head=8),
    "160m": Shape(d_model=768, n_layer=12, n_head=12),
    "410m": Shape(d_model=1024, n_layer=24, n_head=16),
}
_ROWS_MULTIPLE = 128


@dataclass(frozen=True, kw_only=True)
class ParameterCounts:
    total: int
    non_embedding: int
    """Without the input and the output embedding."""
    matmul: int
    """Weights that multiply activations: all matrices but the input embedding."""


def embedding_rows(vocab_size: int) -> int:
    """Rows of both embeddings: the next multiple of 128, so Pythia's 50,277 tokens have its published 50,304 rows."""
    return -(-vocab_size // _ROWS_MULTIPLE) * _ROWS_MULTIPLE


def count_parameters(model: ModelConfig, vocab_size: int) -> ParameterCounts:
    """In closed form: L (12 d^2 + 13 d) + 2 d without embeddings (weights and biases of two LayerNorms, QKV, output
    projection and a 4d MLP in each layer, and the last LayerNorm), and rows x d for each embedding."""
    shape = SHAPES[model.size]
    d, layers, embedding = shape.d_model, shape.n_layer, embedding_rows(vocab_size) * shape.d_model
    non_embedding = layers * (12 * d**2 + 13 * d) + 2 * d
    return ParameterCounts(
        total=non_embedding + 2 * embedding,
        non_embedding=non_embedding,
        matmul=12 * layers * d**2 + embedding,
    )


def flops_per_token(model: ModelConfig, vocab_size: int, window_tokens: int) -> int:
    """Training FLOPs a token: 6 a matmul weight (2 forward, 4 backward), and 12 L d T for attention's two products
    over T positions (Chowdhery et al. 2022, arXiv 2204.02311, appendix B; the causal half is counted in full)."""
    shape = SHAPES[model.size]
    return 6 * count_parameters(model, vocab_size).matmul + 12 * shape.n_layer * shape.d_model * window_tokens
