"""What a decoder of the activation study costs, in closed form."""

from helpers.model_config import GptConfig
from helpers.models.counts import ParameterCounts, decoder_flops_per_token, embedding_rows

_WIDTH_MULTIPLES = (64, 32, 16, 8, 4, 2, 1)  # tensor cores like large ones
_WIDTH_TOLERANCE = 0.005  # of the feed-forward parameters
_NUM_MATRICES = {"gelu": 2, "swiglu": 3}


def feed_forward_width(model: GptConfig) -> int:
    """4 d for GELU; near 8 d / 3 for SwiGLU, whose three matrices then hold what GELU's two do (Shazeer 2020, arXiv
    2002.05202, section 2): the multiple of the largest power of two, up to 64, that holds it within 0.5 %."""
    d = model.shape.d_model
    if model.activation == "gelu":
        return 4 * d
    widths = (multiple * round(8 * d / 3 / multiple) for multiple in _WIDTH_MULTIPLES)
    return next(width for width in widths if abs(3 * width - 8 * d) <= _WIDTH_TOLERANCE * 8 * d)


def count_parameters(model: GptConfig, vocab_size: int) -> ParameterCounts:
    """One matrix for embedding and head, and a row for each position; a layer has two LayerNorms and no biases."""
    d, layers = model.shape.d_model, model.shape.n_layer
    layer_matmul = 4 * d**2 + _NUM_MATRICES[model.activation] * d * feed_forward_width(model)
    non_embedding = layers * (layer_matmul + 4 * d) + 2 * d
    embedding = embedding_rows(vocab_size) * d
    without_positions = non_embedding + embedding
    return ParameterCounts(
        total=without_positions + model.max_context_tokens * d,
        without_positions=without_positions,
        non_embedding=non_embedding,
        matmul=layers * layer_matmul + embedding,
    )


def flops_per_token(model: GptConfig, vocab_size: int, window_tokens: int) -> int:
    """Of training."""
    return decoder_flops_per_token(model.shape, count_parameters(model, vocab_size).matmul, window_tokens)
