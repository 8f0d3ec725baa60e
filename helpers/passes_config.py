"""What a run on one stream of tokens is: a fixed-point phase, passes cut into steps, a validation and its patience."""

from dataclasses import dataclass, field
from typing import Literal

from helpers.errors import require


@dataclass(frozen=True, kw_only=True)
class FixedPointConfig:
    """A phase before the training on next tokens, in which contexts become a fixed point of the block that makes them.
    Each iteration is a step of the run."""

    least_iterations: int = 3
    most_iterations: int = 10
    lr: float = 2e-3
    noise: float = 0.1
    """Standard deviation of what is added to the contexts that go in."""
    threshold: float = 0.03
    """A token has converged when its context moved by less, as a mean square."""
    share: float = 0.95
    """Of the tokens that have converged: with it, the phase ends."""
    diversity_weight: float = 0.5
    diversity: Literal["frobenius", "rms"] = "frobenius"
    """Of N centred contexts of width D: their Frobenius norm over N, which falls as 1 / sqrt(N), or over sqrt(N D)."""

    def __post_init__(self) -> None:
        least, most = self.least_iterations, self.most_iterations
        require(least >= 2, "passes.fixed_point.least_iterations", least, "2 or more: the first only reads")
        require(most >= least, "passes.fixed_point.most_iterations", most, "10, at least as many as least_iterations")
        for name in ("lr", "threshold"):
            require(getattr(self, name) > 0, f"passes.fixed_point.{name}", getattr(self, name), "a number above 0")
        require(self.noise >= 0, "passes.fixed_point.noise", self.noise, "0 or more")
        for name in ("share", "diversity_weight"):
            require(0 <= getattr(self, name) <= 1, f"passes.fixed_point.{name}", getattr(self, name), "from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class PassesConfig:
    """Training on one stream: how its passes are cut into steps, when it is validated, and when that ends it."""

    match: Literal["epochs", "steps", "tokens"] = "epochs"
    """What runs of unequal streams have in common. epochs: as many passes, in windows of `data.window_tokens`. steps:
    as many passes and steps, each pass being cut into `matched_steps`. tokens: as many tokens and steps, an epoch
    being `matched_tokens` long, so that a short stream is read again and again."""
    matched_steps: int = 78
    matched_tokens: int = 39_814
    patience: int = 2
    """The run ends when so many epochs have not lowered the validation's XE."""
    validation_samples: int = 10
    """The first so many papers of `eval.split`: the same for every run."""
    fixed_point: FixedPointConfig = field(default_factory=FixedPointConfig)

    def __post_init__(self) -> None:
        for name in ("matched_steps", "patience", "validation_samples"):
            require(getattr(self, name) >= 1, f"stream.{name}", getattr(self, name), "1 or more")
        require(self.matched_tokens >= 2, "passes.matched_tokens", self.matched_tokens, "39814")
