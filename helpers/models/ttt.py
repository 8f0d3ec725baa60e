"""TTT-Linear (Sun et al., arXiv 2407.04620): a layer whose hidden state is a linear model, trained while it reads.

For each token the layer asks its inner model f(u; W, b) = u + norm(u W + b) to turn the token's key into its value,
takes one step of gradient descent on |f(key) - value|^2 / 2, and answers with f(query). It may be used alone:

    layer = TTTLinear(d_model=64, n_head=4)
    y_BTD, state = layer(x_BTD)                  # a sequence from its start
    more_BTD, state = layer(further_BTD, state)  # and on, as if both had come in one call

A *sequence* is a row of the batch: its state begins at the learned W0 and b0 and sees tokens in their order. A *chunk*
is the part of a sequence that one call gets; it may have any length from 0 up, and where a sequence is cut into chunks
changes no output and no gradient. A *mini-batch* is every `mini_batch` tokens, counted from the start of the sequence,
across chunks: its gradients are all taken at the weights before it, which is what makes it parallel. The state is
reset, for all rows of the batch, when it is not handed over (`state=None`), and never otherwise.

B batch, T positions, D width, H heads, E width of a head, I = E + 1 (the bias is the last row of the weights), M tokens
of a mini-batch, N mini-batches, G = B x H, P tokens of a mini-batch that is not full yet.
"""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from helpers.models.rotary import rotate
from helpers.models.ttt_scan import EPSILON, scan

SIGNS = {"descent": 1.0, "none": 0.0, "ascent": -1.0}
"""The inner step: against the gradient, none at all, or along it (which does as well, says arXiv 2602.21204)."""


class TTTState(NamedTuple):
    """What a sequence has taught: weights, and the tokens of a mini-batch that is not full yet.

    Those tokens have answered already, but their gradients enter the weights when the mini-batch is full.
    """

    weights_BHIE: torch.Tensor
    keys_BHPE: torch.Tensor
    """Rotated."""
    values_BHPE: torch.Tensor
    rates_BHP: torch.Tensor
    """Learning rates, with the sign of the inner step."""

    @classmethod
    def at(cls, weights_BHIE: torch.Tensor) -> "TTTState":
        """At the start of a mini-batch."""
        empty_BHPE = weights_BHIE[:, :, :0]
        return cls(weights_BHIE, empty_BHPE, empty_BHPE, weights_BHIE[:, :, :0, 0])


class TTTLinear(nn.Module):
    """A drop-in for causal self-attention: [B, T, D] and a state to [B, T, D] and a state, at a cost linear in T.

    The inner loop runs in float32 at least, also under autocast. Differentiable once.
    """

    def __init__(self, d_model: int, n_head: int, mini_batch: int = 16, inner: str = "descent", base_rate: float = 1.0):
        super().__init__()
        if d_model % n_head or (d_model // n_head) % 2:
            raise ValueError(f"d_model = {d_model} is not possible with {n_head} heads: a head needs an even width")
        self.n_head, self.mini_batch, width = n_head, mini_batch, d_model // n_head
        self.rate = SIGNS[inner] * base_rate / width
        self.queries, self.keys, self.values, self.out = (nn.Linear(d_model, d_model, bias=False) for _ in range(4))
        self.rate_weight_HD = nn.Parameter(torch.empty(n_head, d_model))
        self.rate_bias_H = nn.Parameter(torch.zeros(n_head))
        self.scale_M = nn.Parameter(torch.zeros(mini_batch))
        """delta of the step scale 1 / (i + 1) + delta of token i of a mini-batch."""
        self.start_weight_HEE = nn.Parameter(torch.empty(n_head, width, width))
        self.start_bias_H1E = nn.Parameter(torch.zeros(n_head, 1, width))
        self.gain_HE = nn.Parameter(torch.ones(n_head, width))
        self.shift_HE = nn.Parameter(torch.zeros(n_head, width))
        self.norm = nn.LayerNorm(d_model, eps=EPSILON)
        for matrix in (self.rate_weight_HD, self.start_weight_HEE):
            nn.init.normal_(matrix, std=0.02)

    def start(self, batch_size: int) -> torch.Tensor:
        """W0 and b0 of every row of a batch [B, H, I, E], with gradient."""
        weights_HIE = torch.cat([self.start_weight_HEE, self.start_bias_H1E], dim=1)
        return weights_HIE.expand(batch_size, -1, -1, -1)

    def forward(self, x_BTD: torch.Tensor, state: TTTState | None = None) -> tuple[torch.Tensor, TTTState]:
        q_BHTE, k_BHTE, v_BHTE = (
            part(x_BTD).unflatten(-1, (self.n_head, -1)).transpose(1, 2)
            for part in (self.queries, self.keys, self.values)
        )
        with torch.autocast(x_BTD.device.type, enabled=False):
            x_BTD = _exact(x_BTD)
            rates_BHT = F.linear(x_BTD, self.rate_weight_HD, self.rate_bias_H).sigmoid().transpose(1, 2) * self.rate
            state = TTTState.at(self.start(len(x_BTD)).to(x_BTD.dtype)) if state is None else state
            y_BHTE, state = self._read(_exact(q_BHTE), _exact(k_BHTE), _exact(v_BHTE), rates_BHT, state)
            y_BTD = self.norm(y_BHTE.transpose(1, 2).flatten(2))
        return self.out(y_BTD), state

    def _read(self, q_BHTE, k_BHTE, v_BHTE, rates_BHT, state: TTTState) -> tuple[torch.Tensor, TTTState]:
        """The answers to the queries, and the state behind them."""
        waiting, num_tokens, size = state.keys_BHPE.shape[2], q_BHTE.shape[2], self.mini_batch
        position_T = torch.arange(waiting, waiting + num_tokens, device=q_BHTE.device) % size
        q_BHTE, k_BHTE = rotate(q_BHTE, position_T), rotate(k_BHTE, position_T)
        # A mini-batch that earlier chunks began is taken up again from its first token, and the last one is filled up
        # with tokens of learning rate 0. The answers to both are dropped.
        fill = -(waiting + num_tokens) % size
        keys, values = torch.cat([state.keys_BHPE, k_BHTE], 2), torch.cat([state.values_BHPE, v_BHTE], 2)
        rates = torch.cat([state.rates_BHP, rates_BHT], 2)
        y_BHTE, anchors_NBHIE = self._mini_batches(
            F.pad(q_BHTE, (0, 0, waiting, fill)), F.pad(keys, (0, 0, 0, fill)), F.pad(values, (0, 0, 0, fill)),
            F.pad(rates, (0, fill)), state.weights_BHIE,
        )  # fmt: skip
        full = (waiting + num_tokens) // size
        rest = full * size
        state = TTTState(anchors_NBHIE[full], keys[:, :, rest:], values[:, :, rest:], rates[:, :, rest:])
        return y_BHTE[:, :, waiting : waiting + num_tokens], state

    def _mini_batches(self, q_BHTE, k_BHTE, v_BHTE, rates_BHT, weights_BHIE) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Whole mini-batches in the dual form (section 2.5 of the paper): the answers, and the weights before each
        mini-batch and behind the last. Only `scan` goes from one to the next."""
        groups = (len(q_BHTE), self.n_head)
        gain_H1E, shift_H1E = self.gain_HE[:, None], self.shift_HE[:, None]
        number_M = torch.arange(1, self.mini_batch + 1, device=q_BHTE.device, dtype=q_BHTE.dtype)
        scale_M = (1 / number_M + self.scale_M).clamp(min=0)
        offset_BHTE = gain_H1E * (shift_H1E - (v_BHTE - k_BHTE))
        keys_NGMI, queries_NGMI = self._split(_with_one(k_BHTE)), self._split(_with_one(q_BHTE))
        rates_NG1M = self._split(rates_BHT[..., None]).mT
        before_NGIE, last_GIE, gradients_NGME = scan(
            keys_NGMI, keys_NGMI * (scale_M[-1] * rates_NG1M.mT), self._split(offset_BHTE),
            gain_H1E.square().repeat(groups[0], 1, 1), weights_BHIE.flatten(0, 1),
        )  # fmt: skip
        # Token i has the weights of its mini-batch's start less the steps of tokens 0 .. i, its own among them:
        # q W_i = q W - sum_{j <= i} scale_i rate_j (q . k_j) g_j, where the ones of `_with_one` give the bias its part.
        share_NGMM = (queries_NGMI @ keys_NGMI.mT) * (scale_M[:, None] * rates_NG1M).tril()
        z_NGME = queries_NGMI @ before_NGIE - share_NGMM @ gradients_NGME
        z_BHTE = z_NGME.unflatten(1, groups).permute(1, 2, 0, 3, 4).flatten(2, 3)
        y_BHTE = q_BHTE + gain_H1E * F.layer_norm(z_BHTE, z_BHTE.shape[-1:], eps=EPSILON) + shift_H1E
        return y_BHTE, [weights.unflatten(0, groups) for weights in (*before_NGIE, last_GIE)]

    def _split(self, x_BHTE: torch.Tensor) -> torch.Tensor:
        """[B, H, N M, any] as [N, B H, M, any]."""
        return x_BHTE.unflatten(2, (-1, self.mini_batch)).permute(2, 0, 1, 3, 4).flatten(1, 2).contiguous()


def _exact(x: torch.Tensor) -> torch.Tensor:
    """In float32, or in float64 where it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _with_one(x_BHTE: torch.Tensor) -> torch.Tensor:
    return F.pad(x_BHTE, (0, 1), value=1.0)
