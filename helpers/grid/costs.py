"""What a grid costs on the GPUs that are lent, by arithmetic: FLOPs over a share of the data sheet's peak."""

from helpers.grid.text import duration, size
from helpers.peak import CARDS, peak_flops

GPUS = ("T4", "L4", "A100", "H100")
UTILISATION = 0.4
"""Of the peak in half precision: what others state for models of 50M to 160M parameters (39.8 % on an H100, karpathy's
autoresearch, 2026). A tiny model reaches far less: its kernels are too small. Not measured here."""
BYTES_PER_PARAMETER = 16
"""Weights, gradients and AdamW's two states in float32, whatever the precision of products."""


def expected_seconds(flops: float) -> dict[str, float]:
    """Of each GPU, by its name."""
    return {name: flops / (UTILISATION * peak_flops(CARDS[name], "bf16")) for name in GPUS}


def cost_lines(flops: float, parameters: int) -> list[str]:
    """Time of the FLOPs that are left, and memory of the largest run."""
    times = ", ".join(f"{name} {duration(seconds)}" for name, seconds in expected_seconds(flops).items())
    return [
        f"by arithmetic, at {100 * UTILISATION:.0f} % of the peak in half precision (not measured): {times}",
        f"memory of weights, gradients and optimizer: {size(BYTES_PER_PARAMETER * parameters)} and activations",
    ]
