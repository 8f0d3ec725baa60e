"""The families of models: what each costs and what builds it, by the kind of its settings.

Nothing here imports torch until a model is built: a plan asks for costs alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from helpers.model_config import ContextTokenConfig, GptConfig, ModelConfig, PythiaConfig, TttConfig
from helpers.models import context_token_counts, gpt_counts, pythia_counts, ttt_counts
from helpers.models.counts import ParameterCounts

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Family:
    """The closed forms of a family's costs, and its builder. `model` is a section of the family's own kind."""

    count_parameters: Callable[[Any, int], ParameterCounts]
    """(model, vocab_size)"""
    flops_per_token: Callable[[Any, int, int], int]
    """(model, vocab_size, window_tokens) -> FLOPs of training."""
    build: Callable[[Any, int, int], "nn.Module"]
    """(model, vocab_size, bos_id) -> the model, its weights drawn from torch's generator."""


def _build_pythia(model: PythiaConfig, vocab_size: int, bos_id: int) -> "nn.Module":
    from helpers.models.pythia import Pythia

    return Pythia(model, vocab_size)


def _build_gpt(model: GptConfig, vocab_size: int, bos_id: int) -> "nn.Module":
    from helpers.models.gpt import GPT

    return GPT(model, vocab_size)


def _build_stream_model(model: TttConfig, vocab_size: int, bos_id: int) -> "nn.Module":
    from helpers.models.stream_model import StreamModel

    return StreamModel(model, vocab_size)


def _build_context_token(model: ContextTokenConfig, vocab_size: int, bos_id: int) -> "nn.Module":
    from helpers.models.context_token import ContextToken

    return ContextToken(model, vocab_size)


FAMILIES: dict[type, Family] = {
    PythiaConfig: Family(
        count_parameters=pythia_counts.count_parameters,
        flops_per_token=pythia_counts.flops_per_token,
        build=_build_pythia,
    ),
    GptConfig: Family(
        count_parameters=gpt_counts.count_parameters, flops_per_token=gpt_counts.flops_per_token, build=_build_gpt
    ),
    TttConfig: Family(
        count_parameters=ttt_counts.count_parameters,
        flops_per_token=ttt_counts.flops_per_token,
        build=_build_stream_model,
    ),
    ContextTokenConfig: Family(
        count_parameters=context_token_counts.count_parameters,
        flops_per_token=context_token_counts.flops_per_token,
        build=_build_context_token,
    ),
}


def count_parameters(model: ModelConfig, vocab_size: int) -> ParameterCounts:
    return FAMILIES[type(model)].count_parameters(model, vocab_size)


def count_non_embedding(model: ModelConfig) -> int:
    """Parameters that are no embedding and no head, whatever the vocabulary."""
    return count_parameters(model, vocab_size=1).non_embedding


def flops_per_token(model: ModelConfig, vocab_size: int, window_tokens: int) -> int:
    """FLOPs of training, a token."""
    return FAMILIES[type(model)].flops_per_token(model, vocab_size, window_tokens)
