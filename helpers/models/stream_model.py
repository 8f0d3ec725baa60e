"""The language model of the length study: pre-norm blocks whose mixer is TTT-Linear, or attention of the same size.

    x = x + mixer(norm(x)),    x = x + feed_forward(norm(x))

with RMSNorm, SwiGLU, one matrix for embedding and head, and no positions but those of the mixers. It reads a sequence
in chunks (`read`): the states of its layers are all that one chunk hands to the next.

B batch, T positions, D width, V vocabulary rows.
"""

from collections.abc import Sequence

import torch
from torch import nn

from helpers.model_config import TttConfig
from helpers.models.gpt import SwigluFeedForward
from helpers.models.rope_attention import AttentionState, RopeAttention
from helpers.models.ttt import TTTLinear, TTTState

State = TTTState | AttentionState
_EPSILON, _INIT_STD = 1e-6, 0.02


class StreamModel(nn.Module):
    """A `LanguageModel` that can be read in chunks; its weights are drawn from torch's generator.

    The embedding has a row for each token id and no more, as the published models have.
    """

    def __init__(self, model: TttConfig, vocab_size: int):
        super().__init__()
        shape = model.shape
        self.token_embedding = nn.Embedding(vocab_size, shape.d_model)
        self.layers = nn.ModuleList(Block(model) for _ in range(shape.n_layer))
        self.norm = RMSNorm(shape.d_model)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=_INIT_STD)

    @property
    def head_VD(self) -> torch.Tensor:
        return self.token_embedding.weight

    def hidden(self, ids_BT: torch.Tensor) -> torch.Tensor:
        return self.read(ids_BT)[0]

    def read(
        self, ids_BT: torch.Tensor, states: Sequence[State] | None = None
    ) -> tuple[torch.Tensor, tuple[State, ...]]:
        """Hidden states [B, T, D] of a chunk, and the state of each layer behind it; `states` None: a new sequence."""
        x_BTD, after = self.token_embedding(ids_BT), []
        for number, layer in enumerate(self.layers):
            x_BTD, state = layer(x_BTD, states[number] if states else None)
            after.append(state)
        return self.norm(x_BTD), tuple(after)

    @staticmethod
    def name_in_files(name: str) -> str:
        return name

    def undecayed_matrices(self) -> list[nn.Parameter]:
        """What is a vector for each head, and so stored as a matrix."""
        mixers = [module for module in self.modules() if isinstance(module, TTTLinear)]
        return [vector for mixer in mixers for vector in (mixer.start_bias_H1E, mixer.gain_HE, mixer.shift_HE)]


class Block(nn.Module):
    def __init__(self, model: TttConfig):
        super().__init__()
        shape = model.shape
        self.mixer_norm = RMSNorm(shape.d_model)
        if model.mixer == "ttt":
            self.mixer = TTTLinear(shape.d_model, shape.n_head, model.mini_batch, model.inner)
        else:
            self.mixer = RopeAttention(shape.d_model, shape.n_head, None if model.mixer == "full" else model.span)
        self.feed_forward_norm = RMSNorm(shape.d_model)
        self.feed_forward = SwigluFeedForward(shape.d_model, shape.d_ff)

    def forward(self, x_BTD: torch.Tensor, state: State | None) -> tuple[torch.Tensor, State]:
        mixed_BTD, state = self.mixer(self.mixer_norm(x_BTD), state)
        x_BTD = x_BTD + mixed_BTD
        return x_BTD + self.feed_forward(self.feed_forward_norm(x_BTD)), state


class RMSNorm(nn.Module):
    """x / rms(x), times a gain (Zhang & Sennrich 2019, arXiv 1910.07467), in float32 at least, also under autocast."""

    def __init__(self, d_model: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))

    def forward(self, x_BTD: torch.Tensor) -> torch.Tensor:
        exact_BTD = x_BTD.to(torch.promote_types(x_BTD.dtype, torch.float32))
        scale_BT1 = (exact_BTD.square().mean(-1, keepdim=True) + _EPSILON).rsqrt()
        return (exact_BTD * scale_BT1 * self.weight).to(x_BTD.dtype)
