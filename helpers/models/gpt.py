"""The decoder of the activation study: pre-norm layers whose feed-forward half is GELU or SwiGLU.

As GPT-2 (Radford et al. 2019): learned positions, LayerNorm before each half of a layer and at the end, one matrix for
embedding and head, and the initialisation N(0, 0.02), smaller by sqrt(2 L) in the 2 L projections that add to the
residual stream. Unlike GPT-2, no linear map has a bias: SwiGLU has none as it is published, and so the two activations
differ in nothing else.

B batch, T positions, D width, H heads, E width of a head, V vocabulary rows.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from helpers.model_config import GptConfig
from helpers.models.counts import embedding_rows
from helpers.models.gpt_counts import feed_forward_width

_INIT_STD = 0.02


class GPT(nn.Module):
    """A `LanguageModel`; its weights are drawn from torch's generator."""

    def __init__(self, model: GptConfig, vocab_size: int):
        super().__init__()
        shape = model.shape
        self.token_embedding = nn.Embedding(embedding_rows(vocab_size), shape.d_model)
        self.position_embedding = nn.Embedding(model.max_context_tokens, shape.d_model)
        self.dropout = nn.Dropout(model.dropout)
        self.layers = nn.ModuleList(Layer(model) for _ in range(shape.n_layer))
        self.norm = nn.LayerNorm(shape.d_model)
        self._initialise()

    @property
    def head_VD(self) -> torch.Tensor:
        return self.token_embedding.weight

    def hidden(self, ids_BT: torch.Tensor) -> torch.Tensor:
        positions_TD = self.position_embedding.weight[: ids_BT.shape[1]]
        x_BTD = self.dropout(self.token_embedding(ids_BT) + positions_TD)
        for layer in self.layers:
            x_BTD = layer(x_BTD)
        return self.norm(x_BTD)

    def undecayed_matrices(self) -> list[nn.Parameter]:
        return [self.token_embedding.weight, self.position_embedding.weight]

    @staticmethod
    def name_in_files(name: str) -> str:
        return name

    def _initialise(self) -> None:
        """LayerNorms begin as torch makes them, at weight 1 and bias 0."""
        residual_std = _INIT_STD / math.sqrt(2 * len(self.layers))
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                adds_to_residual = name.endswith(("attention.out.weight", "feed_forward.down.weight"))
                nn.init.normal_(parameter, std=residual_std if adds_to_residual else _INIT_STD)


class Layer(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, model: GptConfig):
        super().__init__()
        d_model = model.shape.d_model
        feed_forward = {"gelu": GeluFeedForward, "swiglu": SwigluFeedForward}[model.activation]
        self.attention_norm = nn.LayerNorm(d_model)
        self.attention = Attention(d_model, model.shape.n_head, model.dropout)
        self.feed_forward_norm = nn.LayerNorm(d_model)
        self.feed_forward = feed_forward(d_model, feed_forward_width(model))
        self.dropout = nn.Dropout(model.dropout)

    def forward(self, x_BTD: torch.Tensor) -> torch.Tensor:
        x_BTD = x_BTD + self.dropout(self.attention(self.attention_norm(x_BTD)))
        return x_BTD + self.dropout(self.feed_forward(self.feed_forward_norm(x_BTD)))


class Attention(nn.Module):
    """Causal multi-head attention (Vaswani et al. 2017, arXiv 1706.03762, section 3.2)."""

    def __init__(self, d_model: int, n_head: int, dropout: float):
        super().__init__()
        self.n_head, self.dropout = n_head, dropout
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x_BTD: torch.Tensor) -> torch.Tensor:
        qkv_BT3HE = self.qkv(x_BTD).unflatten(-1, (3, self.n_head, -1))
        q_BHTE, k_BHTE, v_BHTE = qkv_BT3HE.permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        mixed_BHTE = F.scaled_dot_product_attention(q_BHTE, k_BHTE, v_BHTE, dropout_p=dropout, is_causal=True)
        return self.out(mixed_BHTE.transpose(1, 2).flatten(2))


class GeluFeedForward(nn.Module):
    """down(gelu(up(x))), with the exact GELU (Hendrycks & Gimpel 2016, arXiv 1606.08415)."""

    def __init__(self, d_model: int, d_ff: int):
        super().__init__()
        self.up = nn.Linear(d_model, d_ff, bias=False)
        self.down = nn.Linear(d_ff, d_model, bias=False)

    def forward(self, x_BTD: torch.Tensor) -> torch.Tensor:
        return self.down(F.gelu(self.up(x_BTD)))


class SwigluFeedForward(nn.Module):
    """down(silu(gate(x)) * up(x)) (Shazeer 2020, arXiv 2002.05202, equation 6)."""

    def __init__(self, d_model: int, d_ff: int):
        super().__init__()
        self.gate = nn.Linear(d_model, d_ff, bias=False)
        self.up = nn.Linear(d_model, d_ff, bias=False)
        self.down = nn.Linear(d_ff, d_model, bias=False)

    def forward(self, x_BTD: torch.Tensor) -> torch.Tensor:
        return self.down(F.silu(self.gate(x_BTD)) * self.up(x_BTD))
