"""What a Pythia costs, in closed form."""

from helpers.model_config import PythiaConfig
from helpers.models.counts import ParameterCounts, decoder_flops_per_token, embedding_rows

FEED_FORWARD_MULTIPLE = 4
"""Width of the feed-forward layers over d."""
_LAYER_VECTORS = 13  # in units of d: two LayerNorms (4), and the biases of QKV (3), output projection (1) and MLP (5)


def count_parameters(model: PythiaConfig, vocab_size: int) -> ParameterCounts:
    """A head of its own beside the embedding, and none of positions: rotary embeddings have no parameters."""
    d, layers = model.shape.d_model, model.shape.n_layer
    layer_matmul = (4 + 2 * FEED_FORWARD_MULTIPLE) * d**2  # QKV and output projection, and the two of the MLP
    non_embedding = layers * (layer_matmul + _LAYER_VECTORS * d) + 2 * d
    embedding = embedding_rows(vocab_size) * d
    total = non_embedding + 2 * embedding
    return ParameterCounts(
        total=total,
        without_positions=total,
        non_embedding=non_embedding,
        matmul=layers * layer_matmul + embedding,
    )


def flops_per_token(model: PythiaConfig, vocab_size: int, window_tokens: int) -> int:
    """Of training."""
    return decoder_flops_per_token(model.shape, count_parameters(model, vocab_size).matmul, window_tokens)
