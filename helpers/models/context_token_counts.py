"""What a model of context and token layers costs, in closed form."""

from helpers.model_config import ContextTokenConfig
from helpers.models.counts import ParameterCounts


def layer_parameters(model: ContextTokenConfig) -> int:
    """A matrix from 2 d to d with its bias, and a LayerNorm: of a context layer as of a token layer."""
    return 2 * model.d_model**2 + 3 * model.d_model


def count_parameters(model: ContextTokenConfig, vocab_size: int) -> ParameterCounts:
    """An embedding with its LayerNorm, the layers, and a head of its own with a bias; no row is padding."""
    d, num_layers = model.d_model, _num_layers(model)
    non_embedding = 2 * d + num_layers * layer_parameters(model)
    total = non_embedding + vocab_size * d + vocab_size * (d + 1)
    return ParameterCounts(
        total=total,
        without_positions=total,
        non_embedding=non_embedding,
        matmul=num_layers * 2 * d**2 + vocab_size * d,
    )


def count_trained(model: ContextTokenConfig, vocab_size: int) -> int:
    """What is trained on next tokens: token layers and head, and the embedding where it is not frozen."""
    d = model.d_model
    embedding = (vocab_size + 2) * d if model.embedding == "trained" else 0
    return model.n_layer * layer_parameters(model) + vocab_size * (d + 1) + embedding


def flops_per_token(model: ContextTokenConfig, vocab_size: int, window_tokens: int) -> int:
    """Of training on next tokens: 6 a weight of token layers and head (2 forward, 4 backward). Contexts are computed
    once for all passes and are not counted, nor is the fixed-point phase."""
    return 6 * (model.n_layer * 2 * model.d_model**2 + vocab_size * model.d_model)


def _num_layers(model: ContextTokenConfig) -> int:
    return model.n_layer * (1 if model.context == "none" else 2)
