"""What a model of the length study costs, in closed form, with TTT-Linear or with attention as its mixer."""

from helpers.model_config import TttConfig
from helpers.models.counts import ParameterCounts


def count_parameters(model: TttConfig, vocab_size: int) -> ParameterCounts:
    """One matrix of `vocab_size` rows for embedding and head; a layer has two RMSNorms and no biases but TTT's own.

    Both attentions have as many. TTT-Linear has more by an inner model, learning rates, step scales and two norms: of a
    layer 0.9 % at ttt-125m, 6 % at the tiny sizes.
    """
    shape = model.shape
    d, heads, layers = shape.d_model, shape.n_head, shape.n_layer
    matrices, others = 4 * d**2 + 3 * d * shape.d_ff, 2 * d
    if model.mixer == "ttt":
        inner_model, rates, inner_norm = d * (d // heads) + d, heads * d + heads, 2 * d
        others += inner_model + rates + inner_norm + model.mini_batch + 2 * d
    non_embedding = layers * (matrices + others) + d
    embedding = vocab_size * d
    return ParameterCounts(
        total=non_embedding + embedding,
        without_positions=non_embedding + embedding,
        non_embedding=non_embedding,
        matmul=layers * matrices + embedding,
    )


def flops_per_token(model: TttConfig, vocab_size: int, window_tokens: int) -> int:
    """Of training: 6 a matmul weight, and three times what the mixer's own products take forward.

    TTT-Linear: a token's key, its gradient and its query each meet the inner weights (6 D E), and queries meet keys and
    gradients within the mini-batch (4 D M). Attention: 4 D for each position that is seen, counted in full.
    """
    shape = model.shape
    if model.mixer == "ttt":
        mixing = 6 * shape.d_model * (shape.d_model // shape.n_head) + 4 * shape.d_model * model.mini_batch
    else:
        seen = window_tokens if model.mixer == "full" else min(window_tokens, model.span)
        mixing = 4 * shape.d_model * seen
    return 6 * count_parameters(model, vocab_size).matmul + 3 * shape.n_layer * mixing
