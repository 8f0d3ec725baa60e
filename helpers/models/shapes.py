"""The shape of every size, and what a model of it costs: closed forms, so that a plan needs no model.

Pythia's shapes are those of the Hub's config.json files and EleutherAI/pythia's models/*.yml (Biderman et al. 2023,
arXiv 2304.01373); `tiny` is ours, for CPU presets. The gpt shapes are the activation study's: a name is the number of
parameters that are no embedding, which both activations have within 5 %.
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
    "gpt-10k": Shape(d_model=28, n_layer=1, n_head=2),
    "gpt-30k": Shape(d_model=36, n_layer=2, n_head=2),
    "gpt-100k": Shape(d_model=64, n_layer=2, n_head=2),
    "gpt-300k": Shape(d_model=80, n_layer=4, n_head=4),
    "gpt-1m": Shape(d_model=128, n_layer=5, n_head=4),
    "gpt-3m": Shape(d_model=224, n_layer=5, n_head=7),
    "gpt-10m": Shape(d_model=320, n_layer=8, n_head=5),
    "gpt-17m": Shape(d_model=448, n_layer=7, n_head=7),
    "gpt-30m": Shape(d_model=512, n_layer=10, n_head=8),
    "gpt-85m": Shape(d_model=768, n_layer=12, n_head=12),
}
_ROWS_MULTIPLE = 128
_WIDTH_MULTIPLES = (64, 32, 16, 8, 4, 2, 1)  # tensor cores like large ones
_WIDTH_TOLERANCE = 0.005  # of the feed-forward parameters


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
    """Rows of embedding and head in both families: the next multiple of 128, which tensor cores like.

    Pythia's 50,277 tokens have its published 50,304 rows, and so have GPT-2's 50,257. No text holds a row beyond the
    vocabulary: training only lowers its logit.
    """
    return -(-vocab_size // _ROWS_MULTIPLE) * _ROWS_MULTIPLE


def feed_forward_width(model: ModelConfig) -> int:
    """4 d for GELU; near 8 d / 3 for SwiGLU, whose three matrices then hold what GELU's two do (Shazeer 2020, arXiv
    2002.05202, section 2): the multiple of the largest power of two, up to 64, that holds it within 0.5 %."""
    d = SHAPES[model.size].d_model
    if model.activation == "gelu":
        return 4 * d
    widths = (multiple * round(8 * d / 3 / multiple) for multiple in _WIDTH_MULTIPLES)
    return next(width for width in widths if abs(3 * width - 8 * d) <= _WIDTH_TOLERANCE * 8 * d)


def count_non_embedding(model: ModelConfig) -> int:
    """Parameters of all layers and the last LayerNorm, whatever the vocabulary.

    Beside its matrices a layer has two LayerNorms (4 d), and in a Pythia the biases of QKV (3 d), of the output
    projection (d) and of the MLP (5 d).
    """
    shape = SHAPES[model.size]
    vectors = {"pythia": 13, "gpt": 4}[model.family] * shape.d_model
    return shape.n_layer * (_layer_matmul(model) + vectors) + 2 * shape.d_model


def count_parameters(model: ModelConfig, vocab_size: int) -> ParameterCounts:
    """In closed form. A Pythia has a head of its own and no embedding of positions; a gpt has one matrix for
    embedding and head, and a row for each position."""
    shape, non_embedding = SHAPES[model.size], count_non_embedding(model)
    embedding = embedding_rows(vocab_size) * shape.d_model
    num_embeddings, num_positions = {"pythia": (2, 0), "gpt": (1, model.max_context_tokens)}[model.family]
    without_positions = non_embedding + num_embeddings * embedding
    return ParameterCounts(
        total=without_positions + num_positions * shape.d_model,
        without_positions=without_positions,
        non_embedding=non_embedding,
        matmul=shape.n_layer * _layer_matmul(model) + embedding,
    )


def flops_per_token(model: ModelConfig, vocab_size: int, window_tokens: int) -> int:
    """Training FLOPs a token: 6 a matmul weight (2 forward, 4 backward), and 12 L d T for attention's two products
    over T positions (Chowdhery et al. 2022, arXiv 2204.02311, appendix B; the causal half is counted in full)."""
    shape = SHAPES[model.size]
    return 6 * count_parameters(model, vocab_size).matmul + 12 * shape.n_layer * shape.d_model * window_tokens


def _layer_matmul(model: ModelConfig) -> int:
    """Weights in the matrices of a layer: QKV and output projection (4 d^2), and the feed-forward layer's."""
    d = SHAPES[model.size].d_model
    num_matrices = {"gelu": 2, "swiglu": 3}[model.activation]
    return 4 * d**2 + num_matrices * d * feed_forward_width(model)
