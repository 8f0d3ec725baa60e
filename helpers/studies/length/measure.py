"""The two ways to predict a token of a long sequence, by the same weights: with carried state, or from a window.

carried: one pass, the state carried from the first token of the sequence to the last. Each token is scored before the
state has seen it, by probabilities that sum to 1, once.
window: each target from at most the W tokens before it, read from the learned start. At stride r one forward scores r
targets, so that a target has W - r + 1 to W tokens before it; at stride 1 each has W. Below W the two are the same.

B sequences, T targets of a sequence (it has T + 1 tokens), W window, D width, V vocabulary, N tokens.
"""

import torch

from helpers.models.head import CHUNK_LOGITS
from helpers.models.stream_model import StreamModel

BATCH_TOKENS = {"cpu": 2**13, "cuda": 2**18}
"""Inputs of one forward over windows: in the caches of a CPU, in the memory of a GPU."""


@torch.no_grad()
def carried(model: StreamModel, tokens_BT: torch.Tensor, window: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss [B, T] in nats of every target, and the last chunk's hidden states [B, W, D], read W tokens at a time."""
    losses, states, hidden_BWD = [], None, None
    inputs, targets = tokens_BT[:, :-1].split(window, dim=1), tokens_BT[:, 1:].split(window, dim=1)
    for inputs_BW, targets_BW in zip(inputs, targets, strict=True):
        hidden_BWD, states = model.read(inputs_BW, states)
        losses.append(token_losses(model, hidden_BWD, targets_BW))
    return torch.cat(losses, dim=1), hidden_BWD


@torch.no_grad()
def windowed(model: StreamModel, tokens_BT: torch.Tensor, window: int, stride: int = 1) -> torch.Tensor:
    """Loss [B, T] in nats of every target, from at most the `window` tokens before it."""
    inputs_BT, targets_BT = tokens_BT[:, :-1], tokens_BT[:, 1:]
    num_targets = inputs_BT.shape[1]
    parts = [token_losses(model, model.read(inputs_BT[:, :window])[0], targets_BT[:, :window])]
    if num_targets > window:
        whole = (num_targets - window) // stride * stride
        windows_BNW = inputs_BT[:, stride : window + whole].unfold(1, window, stride)
        scored_BNR = targets_BT[:, window : window + whole].unflatten(1, (-1, stride))
        parts.append(_last_losses(model, windows_BNW, scored_BNR).flatten(1))
        if rest := num_targets - window - whole:
            parts.append(_last_losses(model, inputs_BT[:, None, -window:], targets_BT[:, None, -rest:]).flatten(1))
    return torch.cat(parts, dim=1)


def _last_losses(model: StreamModel, windows_BNW: torch.Tensor, scored_BNR: torch.Tensor) -> torch.Tensor:
    """Loss of the last R targets of each window, many windows at once."""
    windows, scored = windows_BNW.flatten(0, 1), scored_BNR.flatten(0, 1)
    at_once = max(1, BATCH_TOKENS[windows.device.type] // windows.shape[1])
    losses = [
        token_losses(model, model.read(some)[0][:, -scored.shape[1] :], theirs)
        for some, theirs in zip(windows.split(at_once), scored.split(at_once), strict=True)
    ]
    return torch.cat(losses).view(scored_BNR.shape)


def token_losses(model: StreamModel, hidden_BTD: torch.Tensor, targets_BT: torch.Tensor) -> torch.Tensor:
    """-ln p(target) [B, T] in float32 (float64 if the model is)."""
    hidden_ND, targets_N = hidden_BTD.flatten(0, 1), targets_BT.flatten()
    losses = [
        -_log_p(model, some).gather(1, theirs[:, None])[:, 0]
        for some, theirs in zip(hidden_ND.split(_rows(model)), targets_N.split(_rows(model)), strict=True)
    ]
    return torch.cat(losses).view(targets_BT.shape)


@torch.no_grad()
def total_variation(model: StreamModel, left_BTD: torch.Tensor, right_BTD: torch.Tensor) -> torch.Tensor:
    """sum_v |p(v) - q(v)| / 2 [B, T] of the predictions of two hidden states: 0 where they agree, 1 where they share
    no token."""
    pairs = zip(left_BTD.flatten(0, 1).split(_rows(model)), right_BTD.flatten(0, 1).split(_rows(model)), strict=True)
    apart = [(_log_p(model, p_ND).exp() - _log_p(model, q_ND).exp()).abs().sum(1) / 2 for p_ND, q_ND in pairs]
    return torch.cat(apart).view(left_BTD.shape[:2])


def _log_p(model: StreamModel, hidden_ND: torch.Tensor) -> torch.Tensor:
    logits_NV = hidden_ND @ model.head_VD.T
    return logits_NV.log_softmax(dim=1, dtype=torch.promote_types(hidden_ND.dtype, torch.float32))


def _rows(model: StreamModel) -> int:
    """Tokens whose logits are made at once."""
    return max(1, CHUNK_LOGITS[model.head_VD.device.type] // len(model.head_VD))
