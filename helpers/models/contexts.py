"""The contexts of a whole stream of tokens: a recurrence, computed as fast as it can be.

Half of each layer's product, that of the embedding, does not wait for the token before: it is one matrix product for
all tokens. The other half is a recurrence, but one that forgets: where two starts are measured to come together, the
stream is cut into segments that run side by side, each behind a warm-up of tokens before it. Whether the warm-up was
enough is measured at every seam; where it was not it is doubled, and a block that does not contract is computed in
order.

B starts, N tokens, D width, L layers, S segments.
"""

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from helpers.models.context_token import ContextToken

IRRELEVANT = 1e-7
"""What is left of a start, as a share of the context's norm, when it no longer matters. In float32 two ways to add up
one product differ by as much."""
_ROUNDING = 16
"""Units in the last place that a seam may differ by, where those are coarser than IRRELEVANT."""
MOST_SEGMENTS = {"cpu": 64, "cuda": 512}
"""More rows make a product of matrices no faster on a CPU; a GPU waits for its launches."""
_PROBES, _PROBE_TOKENS = 32, 64


@dataclass(frozen=True, kw_only=True)
class Contexts:
    """The contexts of a stream, and how they were computed."""

    layers_LND: torch.Tensor
    """Behind each layer; the last one is what is passed on."""
    segments: int
    """1: in order."""
    warm_up_tokens: int
    contraction: float | None
    """What a token leaves of the difference of two starts, in the worst of the places measured; None: not measured."""

    @property
    def last_ND(self) -> torch.Tensor:
        return self.layers_LND[-1]

    def __str__(self) -> str:
        if self.segments > 1:
            return f"{self.segments} segments side by side, each behind {self.warm_up_tokens} tokens of warm-up"
        return "in order" + ("" if self.contraction is None else f" (contraction {self.contraction:.3f} a token)")


@torch.no_grad()
def stream_contexts(
    model: ContextToken, e_ND: torch.Tensor, start_D: torch.Tensor | None = None, segments: int | None = None
) -> Contexts:
    """The contexts of a stream from `start_D` (zeros: its beginning), in at most so many segments side by side; None:
    as many as the device likes, 1: in order."""
    num_tokens = len(e_ND)
    start_D = torch.zeros_like(e_ND[0]) if start_D is None else start_D
    most = MOST_SEGMENTS[e_ND.device.type] if segments is None else segments
    contraction, warm_up = None, 0
    if most > 1 and num_tokens >= 4 * _PROBE_TOKENS:
        contraction = measure_contraction(model, e_ND)
        warm_up = _warm_up(contraction)
        while (count := min(most, num_tokens // max(1, 4 * warm_up))) > 1:
            layers_LND, gap = _side_by_side(model, e_ND, start_D, count, warm_up)
            if gap <= max(IRRELEVANT, _ROUNDING * torch.finfo(e_ND.dtype).eps):
                return Contexts(layers_LND=layers_LND, segments=count, warm_up_tokens=warm_up, contraction=contraction)
            warm_up *= 2
    layers_LND, _ = _side_by_side(model, e_ND, start_D, 1, 0)
    return Contexts(layers_LND=layers_LND, segments=1, warm_up_tokens=0, contraction=contraction)


@torch.no_grad()
def measure_contraction(model: ContextToken, e_ND: torch.Tensor) -> float:
    """What one token leaves of the difference between two starts (zeros, and a context drawn at random), as the mean
    over tokens, in the worst of some places of the stream. 1 or more: the block does not contract."""
    places_B = torch.linspace(0, len(e_ND) - _PROBE_TOKENS - 1, _PROBES, device=e_ND.device).long()
    generator = torch.Generator().manual_seed(0)
    drawn_BD = torch.randn(_PROBES, e_ND.shape[1], generator=generator, dtype=e_ND.dtype).to(e_ND.device)
    one_BD, other_BD = torch.zeros_like(drawn_BD), F.layer_norm(drawn_BD, drawn_BD.shape[-1:])
    before, rounding = 1.0, 1e3 * torch.finfo(e_ND.dtype).eps
    for tokens in range(1, _PROBE_TOKENS + 1):
        e_BD = e_ND[places_B + tokens - 1]
        one_BD, other_BD = model.contexts(one_BD, e_BD)[-1], model.contexts(other_BD, e_BD)[-1]
        gap = _largest_gap(one_BD, other_BD)
        if gap < rounding:  # what is left is noise of the last digits
            return max(gap, rounding / 1e3) ** (1 / tokens)
        before = gap
    return before ** (1 / _PROBE_TOKENS)


def _warm_up(contraction: float) -> int:
    """Tokens until a start is irrelevant, by the measured contraction; more than any stream has where there is none."""
    return math.ceil(math.log(IRRELEVANT) / math.log(contraction)) if contraction < 1 else 2**62


def _side_by_side(
    model: ContextToken, e_ND: torch.Tensor, start_D: torch.Tensor, segments: int, warm_up: int
) -> tuple[torch.Tensor, float]:
    """The contexts [L, N, D] of a stream in segments of equal length, and the largest difference at a seam: between
    what a segment began with behind its warm-up, and what the segment before it ended with."""
    num_tokens, num_layers = len(e_ND), len(model.context_layers)
    length = -(-num_tokens // segments)
    found_LND = e_ND.new_empty(num_layers, segments * length, e_ND.shape[1])
    found_LND[:, num_tokens:] = 0
    for layer, found_ND in zip(model.context_layers, found_LND, strict=True):  # in place: read once, then overwritten
        weight_DD = layer.linear.weight[:, e_ND.shape[1] :]
        torch.addmm(layer.linear.bias, e_ND, weight_DD.T, out=found_ND[:num_tokens])
    found_LSTD = found_LND.unflatten(1, (segments, length))
    recurrent = [layer.linear.weight[:, : e_ND.shape[1]].T.contiguous() for layer in model.context_layers]
    warm_SD = torch.zeros_like(found_LSTD[0, 1:, 0])
    for place in range(length - warm_up, length) if segments > 1 else ():
        for number, layer in enumerate(model.context_layers):
            warm_SD = _pass(layer, warm_SD, found_LSTD[number, :-1, place], recurrent[number])
    c_SD = torch.cat([start_D[None], warm_SD])
    for place in range(length):
        for number, layer in enumerate(model.context_layers):
            c_SD = _pass(layer, c_SD, found_LSTD[number, :, place], recurrent[number])
            found_LSTD[number, :, place] = c_SD
    gap = _largest_gap(warm_SD, found_LSTD[-1, :-1, -1]) if segments > 1 else 0.0
    return found_LND[:, :num_tokens], gap


def _pass(layer: torch.nn.Module, c_SD: torch.Tensor, from_embedding_SD: torch.Tensor, recurrent: torch.Tensor):
    """One layer of one token, whose share of the embedding is known."""
    inner_SD = torch.addmm(from_embedding_SD, c_SD, recurrent).relu_().add_(c_SD)
    norm = layer.norm
    return F.layer_norm(inner_SD, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def _largest_gap(one_BD: torch.Tensor, other_BD: torch.Tensor) -> float:
    """The largest |a - b| / |b| over rows."""
    return float(((one_BD - other_BD).norm(dim=-1) / other_BD.norm(dim=-1).clamp(min=1e-12)).max())
