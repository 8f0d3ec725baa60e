"""The head and its cross entropy, a chunk of tokens at a time: logits of a whole batch never exist at once.

A batch of 256 windows has 25,600 tokens; their logits over 50,304 rows take 5 GB in float32, and as much again for
their gradient. Here one buffer holds a chunk's logits, then in their place its softmax, until loss and gradients are
known, which are all made in the forward pass.

N tokens, D width, V vocabulary rows.
"""

from collections.abc import Iterator

import torch

from helpers.data.window_dataset import NO_LOSS

CHUNK_LOGITS = {"cpu": 2**21, "cuda": 2**26}
"""8 MB of a CPU's caches, or 256 MB of a GPU's memory: there a chunk of 1,334 tokens at Pythia's vocabulary."""
_WIDTHS = 1 / 2
"""A chunk has at least so many tokens a feature of the hidden states. Each chunk reads the head's matrix, which no
cache holds, and at fewer tokens that takes longer than its product."""


def chunk_tokens(head_VD: torch.Tensor) -> int:
    """How many tokens' logits are made at once: at Pythia's vocabulary 64 of 14M's and 256 of 70M's on a CPU."""
    rows, width = head_VD.shape
    return max(1, CHUNK_LOGITS[head_VD.device.type] // rows, int(_WIDTHS * width))


def summed_cross_entropy(hidden_ND: torch.Tensor, head_VD: torch.Tensor, targets_N: torch.Tensor) -> torch.Tensor:
    """sum_n -ln softmax(hidden_n . head^T)[target_n] in nats, over targets that are not NO_LOSS.

    Differentiable once in `hidden_ND` and `head_VD`, whose gradients may be taken once: RuntimeError the second time.
    """
    device = hidden_ND.device.type
    if torch.is_autocast_enabled(device):  # autocast does not reach into a custom Function
        hidden_ND = hidden_ND.to(torch.get_autocast_dtype(device))
    return _SummedCrossEntropy.apply(hidden_ND, head_VD, targets_N)


@torch.no_grad()
def cross_entropy(hidden_ND: torch.Tensor, head_VD: torch.Tensor, targets_N: torch.Tensor) -> torch.Tensor:
    """-ln softmax(hidden_n . head^T)[target_n] [N] in nats, in float32 (float64 if the hidden states are); 0 at
    NO_LOSS."""
    head_VD = head_VD.to(hidden_ND.dtype)
    target_N1 = targets_N.clamp(min=0)[:, None]
    losses = []
    for chunk, logits_NV in _logits(hidden_ND, head_VD):
        target_logit_N = logits_NV.gather(1, target_N1[chunk])[:, 0]
        losses.append(_softmax_in_place(logits_NV) - target_logit_N)
    return torch.cat(losses).masked_fill(targets_N == NO_LOSS, 0)


class _SummedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden_ND, head_VD, targets_N):
        low_VD = head_VD.to(hidden_ND.dtype)
        grad_hidden_ND, grad_head_VD = torch.empty_like(hidden_ND), None
        is_scored_N1 = (targets_N != NO_LOSS)[:, None]
        target_N1 = targets_N.clamp(min=0)[:, None]
        loss = torch.zeros((), dtype=_exact(hidden_ND.dtype), device=hidden_ND.device)
        for chunk, logits_NV in _logits(hidden_ND, low_VD):
            target_logit_N = logits_NV.gather(1, target_N1[chunk])[:, 0]
            loss_N = _softmax_in_place(logits_NV) - target_logit_N
            loss += (loss_N * is_scored_N1[chunk, 0]).sum()
            # The loss's gradient in the logits is softmax - onehot; rows that are not scored drop out below.
            grad_NV = logits_NV.scatter_add_(1, target_N1[chunk], logits_NV.new_full(loss_N.shape, -1)[:, None])
            torch.mm(grad_NV, low_VD, out=grad_hidden_ND[chunk])
            grad_hidden_ND[chunk] *= is_scored_N1[chunk]
            grad_head_VD = _plus_product(grad_head_VD, grad_NV.T, hidden_ND[chunk] * is_scored_N1[chunk], head_VD.dtype)
        ctx.gradients = (grad_hidden_ND, grad_head_VD)  # not saved_tensors: they are changed in place below
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_loss):
        if ctx.gradients is None:
            raise RuntimeError("the gradients of this loss were taken already: they are made once, in the forward pass")
        (grad_hidden_ND, grad_head_VD), ctx.gradients = ctx.gradients, None
        # A loss scale multiplies here, where values are of order 1 and nothing has underflowed.
        return grad_hidden_ND.mul_(grad_loss), grad_head_VD.mul_(grad_loss), None


def _logits(hidden_ND: torch.Tensor, head_VD: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
    """Each chunk of tokens with its logits, all in one buffer: a chunk's are gone when the next one is asked for."""
    size = min(chunk_tokens(head_VD), max(1, len(hidden_ND)))
    buffer_NV = hidden_ND.new_empty(size, len(head_VD))
    for first in range(0, len(hidden_ND), size):
        chunk_ND = hidden_ND[first : first + size]
        yield slice(first, first + size), torch.mm(chunk_ND, head_VD.T, out=buffer_NV[: len(chunk_ND)])


def _softmax_in_place(logits_NV: torch.Tensor) -> torch.Tensor:
    """Turn logits into their softmax, and return ln sum_v exp(logit) [N] of each row, computed in float32 at least.

    That is the largest logit less the ln of its probability, which is at least 1 / V and cannot underflow.
    """
    exact = _exact(logits_NV.dtype)
    if logits_NV.dtype == exact:
        largest_N = logits_NV.amax(1)
        torch.softmax(logits_NV, 1, out=logits_NV)
        return largest_N - logits_NV.amax(1).log()
    sums = []
    for rows_NV in logits_NV.split(max(1, CHUNK_LOGITS[logits_NV.device.type] // 4 // logits_NV.shape[1])):
        exact_NV = rows_NV.to(exact)
        sums.append(_softmax_in_place(exact_NV))
        rows_NV.copy_(exact_NV)
    return torch.cat(sums)


def _plus_product(
    total: torch.Tensor | None, left: torch.Tensor, right: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    """total + left @ right, in place, or a new product where there is no total yet; summed in `dtype`."""
    if left.dtype != dtype:  # each product is rounded to the lower precision, their sum is not
        product = left @ right
        return product.to(dtype) if total is None else total.add_(product)
    return left @ right if total is None else total.addmm_(left, right)


def _exact(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)
