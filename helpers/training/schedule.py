"""The learning rate as a function of the step: nothing to save, nothing to restore."""

import math

from helpers.config import RunConfig


def learning_rate(config: RunConfig, step: int, num_steps: int) -> float:
    """Learning rate of `step` (from 0): linear warm-up, then a cosine from the peak to `min_lr_ratio` of it.

    The first step has 1 / warmup_steps of the peak, and the last step exactly the minimum.
    """
    train, peak = config.train, peak_learning_rate(config)
    if step < train.warmup_steps:
        return peak * (step + 1) / train.warmup_steps
    progress = (step - train.warmup_steps) / max(1, num_steps - 1 - train.warmup_steps)
    cosine = (1 + math.cos(math.pi * progress)) / 2
    return peak * (train.min_lr_ratio + (1 - train.min_lr_ratio) * cosine)


def peak_learning_rate(config: RunConfig) -> float:
    """`train.peak_lr` at the width that it is for, and inverse to the width elsewhere."""
    train = config.train
    scale = 1 if train.lr_at_width is None else train.lr_at_width / config.model.shape.d_model
    return train.peak_lr * scale
