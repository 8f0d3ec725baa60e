"""One iteration of the fixed-point phase: contexts are to become what their own block makes of them, and to differ.

Token t reads P_{t-1}, its predecessor's context of the iteration before (the first token that of the last one), with
noise; X are the contexts that come out of all tokens at once. One update lowers

    (1 - w) mean((X - P)^2) - w ||X - mean X|| / N        (Frobenius norm over N tokens)

The document's second term falls as 1 / sqrt(N), so that it weighs less the longer the stream; `rms` divides by
sqrt(N D) instead, whatever the number of tokens.

N tokens, D width.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from helpers.models.context_token import ContextToken
from helpers.passes_config import FixedPointConfig

CHUNK_TOKENS = 2_000
"""Tokens whose activations are in memory at once."""


@dataclass(frozen=True, kw_only=True)
class Iteration:
    """What came out, before the update that its gradients ask for."""

    contexts_ND: torch.Tensor
    moved: float
    """mean((X - P)^2)."""
    diversity: float
    """The second term, without its weight: negative."""
    loss: float
    converged: float
    """Share of the tokens whose context moved by less than the threshold, as a mean square."""


def iterate(
    model: ContextToken, e_ND: torch.Tensor, previous_ND: torch.Tensor, noise_ND: torch.Tensor, config: FixedPointConfig
) -> Iteration:
    """The contexts of one iteration, and in the context layers the gradients of its loss.

    The loss is no sum over tokens, but its gradient in X has a closed form: X is computed once for that, and once more
    a chunk at a time to carry the gradient back. Memory is that of a chunk, whatever the stream.
    """
    inputs_ND = previous_ND.roll(1, dims=0) + noise_ND
    with torch.no_grad():
        x_ND = torch.cat([model.contexts(inputs_ND[chunk], e_ND[chunk])[-1] for chunk in _chunks(len(e_ND))])
        moved_ND = x_ND - previous_ND
        moved, diversity, grad_ND = _loss_and_gradient(x_ND, moved_ND, config)
    for chunk in _chunks(len(e_ND)):
        model.contexts(inputs_ND[chunk], e_ND[chunk])[-1].backward(grad_ND[chunk])
    weight = config.diversity_weight
    return Iteration(
        contexts_ND=x_ND,
        moved=moved,
        diversity=diversity,
        loss=(1 - weight) * moved + weight * diversity,
        converged=float(((moved_ND**2).mean(dim=1) < config.threshold).double().mean()),
    )


def _loss_and_gradient(
    x_ND: torch.Tensor, moved_ND: torch.Tensor, config: FixedPointConfig
) -> tuple[float, float, torch.Tensor]:
    """Both terms of the loss, and the gradient of their weighted sum in X. The mean's own share of the gradient of the
    norm is zero, for deviations from a mean add up to nothing."""
    deviation_ND = x_ND - x_ND.mean(dim=0)
    norm = deviation_ND.norm()
    scale = len(x_ND) if config.diversity == "frobenius" else x_ND.numel() ** 0.5
    weight = config.diversity_weight
    grad_ND = 2 * (1 - weight) / x_ND.numel() * moved_ND - weight / scale * deviation_ND / norm
    return float((moved_ND**2).mean()), -float(norm) / scale, grad_ND


def _chunks(num_tokens: int) -> Iterator[slice]:
    return (slice(first, first + CHUNK_TOKENS) for first in range(0, num_tokens, CHUNK_TOKENS))
