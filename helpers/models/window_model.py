"""The head and its cross entropy, a chunk of tokens at a time: logits of a whole batch never exist at once.

A batch of 256 windows has 25,600 tokens; their logits over 50,304 rows take 5 GB in float32, and as much again for
their gradient. Here a chunk's logits live only until its loss and gradients are known, both made in the forward pass.

N tokens, D width, V vocabulary rows.
"""

import torch
from torch import nn

from helpers.data.window_dataset import NO_LOSS
from helpers.models.language_model import LanguageModel

CHUNK_LOGITS = {"cpu": 2**21, "cuda": 2**26}
"""8 MB of a CPU's caches, or 256 MB of a GPU's memory: there a chunk of 1,334 tokens at Pythia's vocabulary."""


class WindowModel(nn.Module):
    """A causal language model as a function of windows: BOS and the first T - 1 tokens in, the loss of all T out.

    No attention mask and no padding: a window costs exactly its T positions, and the attention stays on its fast
    causal path. The forward is the whole computation, so that Accelerate's autocast and gradient reduction see it.
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
        hidden_ND, targets_N = self.hidden(tokens_BT).flatten(0, 1), tokens_BT.flatten()
        head_VD = self.model.head_VD
        losses = [
            _losses(_log_softmax(hidden_ND[chunk], head_VD), targets_N[chunk]) for chunk in _chunks(hidden_ND, head_VD)
        ]
        return torch.cat(losses).view(tokens_BT.shape)


def summed_cross_entropy(hidden_ND: torch.Tensor, weight_VD: torch.Tensor, targets_N: torch.Tensor) -> torch.Tensor:
    """sum_n -ln softmax(hidden_n . weight^T)[target_n] in nats, differentiable once in `hidden_ND` and `weight_VD`."""
    device = hidden_ND.device.type
    if torch.is_autocast_enabled(device):  # autocast does not reach into a custom Function
        hidden_ND = hidden_ND.to(torch.get_autocast_dtype(device))
    return _SummedCrossEntropy.apply(hidden_ND, weight_VD, targets_N)


class _SummedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden_ND, weight_VD, targets_N):
        weight_low_VD = weight_VD.to(hidden_ND.dtype)
        losses = []
        grad_hidden_ND = torch.empty_like(hidden_ND)
        grad_weight_VD = torch.zeros_like(weight_VD)
        scored_N1 = (targets_N != NO_LOSS)[:, None]
        for chunk in _chunks(hidden_ND, weight_VD):
            log_p_NV = _log_softmax(hidden_ND[chunk], weight_low_VD)
            losses.append(_losses(log_p_NV, targets_N[chunk]))
            # The loss's gradient in the logits is softmax - onehot, here in place; its unscored rows drop out below.
            target_N1 = targets_N[chunk].clamp(min=0)[:, None]
            grad_NV = log_p_NV.exp_().scatter_add_(1, target_N1, log_p_NV.new_full(target_N1.shape, -1))
            grad_NV = grad_NV.to(hidden_ND.dtype)
            grad_hidden_ND[chunk] = (grad_NV @ weight_low_VD).mul_(scored_N1[chunk])
            _add_product(grad_weight_VD, grad_NV.T, hidden_ND[chunk] * scored_N1[chunk])
        ctx.save_for_backward(grad_hidden_ND, grad_weight_VD)
        return torch.cat(losses).sum()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_total):
        grad_hidden_ND, grad_weight_VD = ctx.saved_tensors
        # A loss scale multiplies here, where values are of order 1 and nothing has underflowed.
        return grad_hidden_ND * grad_total.to(grad_hidden_ND.dtype), grad_weight_VD * grad_total, None


def _chunks(hidden_ND: torch.Tensor, weight_VD: torch.Tensor) -> list[slice]:
    """Slices of the tokens, each with at most CHUNK_LOGITS logits."""
    size = max(1, CHUNK_LOGITS[hidden_ND.device.type] // len(weight_VD))
    return [slice(first, first + size) for first in range(0, len(hidden_ND), size)]


def _log_softmax(hidden_ND: torch.Tensor, weight_VD: torch.Tensor) -> torch.Tensor:
    """ln p [N, V] of one chunk, in float32 (float64 if the hidden states are)."""
    logits_NV = hidden_ND @ weight_VD.to(hidden_ND.dtype).T
    return logits_NV.log_softmax(dim=1, dtype=torch.promote_types(hidden_ND.dtype, torch.float32))


def _losses(log_p_NV: torch.Tensor, targets_N: torch.Tensor) -> torch.Tensor:
    """-ln p of the targets [N], 0 at NO_LOSS."""
    loss_N = -log_p_NV.gather(1, targets_N.clamp(min=0)[:, None])[:, 0]
    return loss_N.masked_fill(targets_N == NO_LOSS, 0)


def _add_product(total: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    """total += left @ right, without a product in between where the types allow it."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right
