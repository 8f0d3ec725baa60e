"""Pythia: GPT-NeoX models with the published shapes (Biderman et al. 2023, arXiv 2304.01373), randomly initialised.

A layer's two halves read the same residual stream side by side, and a quarter of each head's features turn with the
position. What differs from the published configurations is the maximum context (128 instead of 2,048: rotary embeddings
have no parameters, so the totals stay) and dropout. Outputs, gradients and initial weights are those of transformers'
GPTNeoXForCausalLM (`neox.py`, which tests hold it against); written here, because importing that library takes longer
than a short run, and because it copies queries and keys to turn them.

B batch, T positions, D width, H heads, E width of a head, F turned pairs a head, V vocabulary rows.
"""

import re

import torch
from torch import nn
from torch.nn import functional as F

from helpers.model_config import PythiaConfig
from helpers.models.counts import embedding_rows
from helpers.models.pythia_counts import FEED_FORWARD_MULTIPLE

ROTARY_SHARE = 0.25
"""Of each head's features."""
ROTARY_BASE = 10_000
INIT_STD = 0.02

_NAMES = (
    (r"^(?:embed_out|lm_head)\.", "head."),  # transformers 5.0 and later versions
    (r"^gpt_neox\.embed_in\.", "embedding."),
    (r"^gpt_neox\.final_layer_norm\.", "final_norm."),
    (r"^gpt_neox\.layers\.", "layers."),
    (r"\.input_layernorm\.", ".attention_norm."),
    (r"\.post_attention_layernorm\.", ".mlp_norm."),
    (r"\.attention\.query_key_value\.", ".attention.qkv."),
    (r"\.attention\.dense\.", ".attention.out."),
    (r"\.mlp\.dense_h_to_4h\.", ".mlp.up."),
    (r"\.mlp\.dense_4h_to_h\.", ".mlp.down."),
)
"""Names of transformers' tensors, which files of earlier versions have, and ours in their place."""


class Pythia(nn.Module):
    """A `LanguageModel`; its weights are drawn from torch's generator, in the order in which transformers draws."""

    def __init__(self, model: PythiaConfig, vocab_size: int):
        super().__init__()
        shape, rows = model.shape, embedding_rows(vocab_size)
        self.embedding = nn.Embedding(rows, shape.d_model)
        self.dropout = nn.Dropout(model.dropout)
        self.layers = nn.ModuleList(Layer(model) for _ in range(shape.n_layer))
        self.final_norm = nn.LayerNorm(shape.d_model)
        self.apply(_initialise)
        self.head = nn.Linear(shape.d_model, rows, bias=False)
        _initialise(self.head)
        self.register_buffer("turn_TF", _turns(model), persistent=False)

    @property
    def head_VD(self) -> torch.Tensor:
        return self.head.weight

    def hidden(self, ids_BT: torch.Tensor) -> torch.Tensor:
        turn_TF = self.turn_TF[: ids_BT.shape[1]]
        x_BTD = self.dropout(self.embedding(ids_BT))
        for layer in self.layers:
            x_BTD = layer(x_BTD, turn_TF)
        return self.final_norm(x_BTD)

    def undecayed_matrices(self) -> list[nn.Parameter]:
        return []

    @staticmethod
    def name_in_files(name: str) -> str:
        for pattern, own in _NAMES:
            name = re.sub(pattern, own, name)
        return name


class Layer(nn.Module):
    """x + attention(norm(x)) + mlp(norm'(x)): both halves read the same x (Wang & Komatsuzaki 2021, GPT-J)."""

    def __init__(self, model: PythiaConfig):
        super().__init__()
        d_model = model.shape.d_model
        self.attention_norm = nn.LayerNorm(d_model)
        self.mlp_norm = nn.LayerNorm(d_model)
        self.attention = Attention(d_model, model.shape.n_head, model.dropout)
        self.mlp = FeedForward(d_model)
        self.dropout = nn.Dropout(model.dropout)

    def forward(self, x_BTD: torch.Tensor, turn_TF: torch.Tensor) -> torch.Tensor:
        attended_BTD = self.dropout(self.attention(self.attention_norm(x_BTD), turn_TF))
        return self.dropout(self.mlp(self.mlp_norm(x_BTD))) + attended_BTD + x_BTD


class Attention(nn.Module):
    """Causal multi-head attention (Vaswani et al. 2017, arXiv 1706.03762, section 3.2); query, key and value of a head
    lie side by side in the rows of `qkv`."""

    def __init__(self, d_model: int, n_head: int, dropout: float):
        super().__init__()
        self.n_head, self.dropout = n_head, dropout
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.out = nn.Linear(d_model, d_model)
        self.register_buffer("pairs_C", _pairs_side_by_side(d_model, n_head), persistent=False)

    def forward(self, x_BTD: torch.Tensor, turn_TF: torch.Tensor) -> torch.Tensor:
        # Queries and keys in another order of their features have the same products.
        weight_CD, bias_C = self.qkv.weight.index_select(0, self.pairs_C), self.qkv.bias.index_select(0, self.pairs_C)
        qkv_BTC = _TurnInPlace.apply(F.linear(x_BTD, weight_CD, bias_C), self.n_head, turn_TF)
        q_BHTE, k_BHTE, v_BHTE = qkv_BTC.unflatten(-1, (self.n_head, 3, -1)).permute(3, 0, 2, 1, 4)
        dropout = self.dropout if self.training else 0.0
        mixed_BHTE = F.scaled_dot_product_attention(q_BHTE, k_BHTE, v_BHTE, dropout_p=dropout, is_causal=True)
        return self.out(mixed_BHTE.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """down(gelu(up(x))), with the exact GELU (Hendrycks & Gimpel 2016, arXiv 1606.08415)."""

    def __init__(self, d_model: int):
        super().__init__()
        self.up = nn.Linear(d_model, FEED_FORWARD_MULTIPLE * d_model)
        self.down = nn.Linear(FEED_FORWARD_MULTIPLE * d_model, d_model)

    def forward(self, x_BTD: torch.Tensor) -> torch.Tensor:
        return self.down(F.gelu(self.up(x_BTD)))


class _TurnInPlace(torch.autograd.Function):
    """Rotary positions (Su et al. 2021, arXiv 2104.09864, equation 34) in a projection to queries, keys and values,
    where they lie: the first 2 F features of a query or key are F pairs that turn by an angle each, the others stay."""

    @staticmethod
    def forward(ctx, qkv_BTC, n_head, turn_TF):
        ctx.n_head = n_head
        ctx.save_for_backward(turn_TF)
        ctx.mark_dirty(qkv_BTC)
        _turn(qkv_BTC, n_head, turn_TF)
        return qkv_BTC

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_BTC):
        (turn_TF,) = ctx.saved_tensors
        grad_BTC = grad_BTC.clone(memory_format=torch.contiguous_format)
        _turn(grad_BTC, ctx.n_head, turn_TF.conj())  # the transpose of a rotation is the rotation back
        return grad_BTC, None, None


def _turn(qkv_BTC: torch.Tensor, n_head: int, turn_TF: torch.Tensor) -> None:
    """A pair is a complex number, times e^(i angle): one multiplication in memory, in float32 at least."""
    turned = 2 * turn_TF.shape[1]
    pairs_BTHUF2 = qkv_BTC.unflatten(-1, (n_head, 3, -1))[..., :2, :turned].unflatten(-1, (-1, 2))  # U: query, key
    exact = pairs_BTHUF2.to(torch.promote_types(qkv_BTC.dtype, torch.float32))
    torch.view_as_complex(exact).mul_(turn_TF[:, None, None])
    if exact is not pairs_BTHUF2:
        pairs_BTHUF2.copy_(exact)


def _turns(model: PythiaConfig) -> torch.Tensor:
    """e^(i angle) [T, F], the angle being position x BASE^(-f / F), for every position of the context."""
    turned = _num_turned(model.shape.d_model, model.shape.n_head)
    frequency_F = 1 / ROTARY_BASE ** (torch.arange(0, turned, 2, dtype=torch.float32) / turned)
    angle_TF = torch.arange(model.max_context_tokens, dtype=torch.float32)[:, None] * frequency_F
    return torch.complex(angle_TF.cos(), angle_TF.sin())


def _pairs_side_by_side(d_model: int, n_head: int) -> torch.Tensor:
    """The rows of a projection to queries, keys and values, so that what turns together is neighbours: as published,
    feature f of a head turns with feature F + f."""
    turned = _num_turned(d_model, n_head)
    row_HUE = torch.arange(3 * d_model).view(n_head, 3, -1).clone()
    row_HUE[:, :2, :turned] = row_HUE[:, :2, :turned].unflatten(-1, (2, -1)).mT.flatten(-2)
    return row_HUE.flatten()


def _num_turned(d_model: int, n_head: int) -> int:
    """Features of a head that turn: 2 F."""
    return int(d_model // n_head * ROTARY_SHARE)


def _initialise(module: nn.Module) -> None:
    """Matrices from N(0, 0.02), biases 0; a LayerNorm begins as torch makes it, at weight 1 and bias 0."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=INIT_STD)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
