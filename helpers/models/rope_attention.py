"""The baselines beside TTT: causal attention with rotary positions, over all tokens before or over the last few.

Like TTT they read a sequence chunk by chunk. Their state is what attention needs of the past: keys and values.

B batch, T positions of a chunk, D width, H heads, E width of a head, S positions that are still seen.
"""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from helpers.models.rotary import rotate


class AttentionState(NamedTuple):
    keys_BHSE: torch.Tensor
    """Rotated."""
    values_BHSE: torch.Tensor
    position: int
    """Tokens read so far; of sliding attention more than it still sees."""


class RopeAttention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, arXiv 1706.03762, section 3.2) without biases."""

    def __init__(self, d_model: int, n_head: int, span: int | None = None):
        """`span`: how many tokens each token sees, itself among them. None: all before it."""
        super().__init__()
        self.n_head, self.span = n_head, span
        self.queries, self.keys, self.values, self.out = (nn.Linear(d_model, d_model, bias=False) for _ in range(4))

    def forward(self, x_BTD: torch.Tensor, state: AttentionState | None = None) -> tuple[torch.Tensor, AttentionState]:
        q_BHTE, k_BHTE, v_BHTE = (
            part(x_BTD).unflatten(-1, (self.n_head, -1)).transpose(1, 2)
            for part in (self.queries, self.keys, self.values)
        )
        first = state.position if state else 0
        position_T = torch.arange(first, first + x_BTD.shape[1], device=x_BTD.device)
        q_BHTE, k_BHTE = rotate(q_BHTE, position_T), rotate(k_BHTE, position_T)
        if state:
            k_BHTE, v_BHTE = torch.cat([state.keys_BHSE, k_BHTE], 2), torch.cat([state.values_BHSE, v_BHTE], 2)
        y_BHTE = self._attend(q_BHTE, k_BHTE, v_BHTE)
        kept = slice(None) if self.span is None else slice(max(0, k_BHTE.shape[2] - self.span + 1), None)
        state = AttentionState(k_BHTE[:, :, kept], v_BHTE[:, :, kept], first + x_BTD.shape[1])
        return self.out(y_BHTE.transpose(1, 2).flatten(2)), state

    def _attend(self, q_BHTE: torch.Tensor, k_BHSE: torch.Tensor, v_BHSE: torch.Tensor) -> torch.Tensor:
        """Queries are the last T of the S positions."""
        num_queries, num_keys = q_BHTE.shape[2], k_BHSE.shape[2]
        if num_queries == num_keys and (self.span is None or num_keys <= self.span):
            return F.scaled_dot_product_attention(q_BHTE, k_BHSE, v_BHSE, is_causal=True)
        ago_TS = torch.arange(num_keys - num_queries, num_keys, device=q_BHTE.device)[:, None] - torch.arange(
            num_keys, device=q_BHTE.device
        )
        seen_TS = (ago_TS >= 0) & (ago_TS < (self.span or num_keys))
        return F.scaled_dot_product_attention(q_BHTE, k_BHSE, v_BHSE, attn_mask=seen_TS)
