"""What a run gathers between two logs, which travels in its checkpoints."""

import time
from dataclasses import dataclass, field

import torch


@dataclass(kw_only=True)
class Progress:
    """What is gathered between two logs."""

    step: int
    tokens: int
    began: float = field(default_factory=time.perf_counter)
    loss_sum: torch.Tensor | float = 0.0

    def to_json(self) -> dict[str, float]:
        """Without when it began: the time between two sessions is no part of a speed."""
        return {"step": self.step, "tokens": self.tokens, "loss_sum": float(self.loss_sum)}
