"""Rotary positions (Su et al. 2021, arXiv 2104.09864, equation 34): pairs of features turn with the position."""

import torch

BASE = 10_000.0


def rotate(x_BHTE: torch.Tensor, position_T: torch.Tensor) -> torch.Tensor:
    """Features 2i and 2i + 1 of each head turned by position x BASE^(-2i / E); the angles in float32 at least."""
    width = x_BHTE.shape[-1]
    dtype = torch.promote_types(x_BHTE.dtype, torch.float32)
    frequency_F = BASE ** (-torch.arange(0, width, 2, device=x_BHTE.device, dtype=dtype) / width)
    angle_TF = position_T.to(dtype)[:, None] * frequency_F
    cos_TF, sin_TF = angle_TF.cos().to(x_BHTE.dtype), angle_TF.sin().to(x_BHTE.dtype)
    even_BHTF, odd_BHTF = x_BHTE[..., 0::2], x_BHTE[..., 1::2]
    turned = (even_BHTF * cos_TF - odd_BHTF * sin_TF, even_BHTF * sin_TF + odd_BHTF * cos_TF)
    return torch.stack(turned, dim=-1).flatten(-2)
