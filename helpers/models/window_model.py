"""A language model as a function of windows.

B batch, T positions, D width, N = B T tokens.
"""

import torch
from torch import nn

from helpers.data.window_dataset import NO_LOSS
from helpers.models.head import cross_entropy, summed_cross_entropy
from helpers.models.language_model import LanguageModel


class WindowModel(nn.Module):
    """A causal language model as a function of windows: BOS and the first T - 1 tokens in, the loss of all T out.

    No attention mask and no padding: a window costs exactly its T positions, and the attention stays on its fast
    causal path. The forward is the whole computation, so that autocast sees it.
    """

    def __init__(self, model: LanguageModel, bos_id: int):
        super().__init__()
        self.model = model
        self.bos_id = bos_id

    def hidden(self, tokens_BT: torch.Tensor) -> torch.Tensor:
        """Last hidden states [B, T, D], position t having seen BOS and the tokens before t."""
        bos_B1 = tokens_BT.new_full((len(tokens_BT), 1), self.bos_id)
        inputs_BT = torch.cat([bos_B1, tokens_BT[:, :-1]], dim=1)
        inputs_BT = inputs_BT.masked_fill(inputs_BT == NO_LOSS, self.bos_id)  # behind a short window's end: not scored
        return self.model.hidden(inputs_BT)

    def forward(self, tokens_BT: torch.Tensor) -> torch.Tensor:
        """Sum of the cross entropy in nats over the tokens that are not NO_LOSS (a scalar with gradient)."""
        hidden_ND = self.hidden(tokens_BT).flatten(0, 1)
        return summed_cross_entropy(hidden_ND, self.model.head_VD, tokens_BT.flatten())

    @torch.no_grad()
    def cross_entropy(self, tokens_BT: torch.Tensor) -> torch.Tensor:
        """Cross entropy [B, T] in nats of every token, in float32; 0 at NO_LOSS."""
        hidden_ND = self.hidden(tokens_BT).flatten(0, 1)
        return cross_entropy(hidden_ND, self.model.head_VD, tokens_BT.flatten()).view(tokens_BT.shape)
