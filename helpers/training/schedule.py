"""The learning rate as a function of the step: nothing to save, nothing to restore."""

import math

from helpers.config import TrainConfig


def learning_rate(train: TrainConfig, step: int, num_steps: int) -> float:
    """Learning rate of `step` (from 0): linear warm-up, then a cosine from the peak to `min_lr_ratio` of it.

    The first step has 1 / warmup_steps of the peak, and the last step exactly the minimum.
    """
    if step < train.warmup_steps:
        return train.peak_lr * (step + 1) / train.warmup_steps
    progress = (step - train.warmup_steps) / max(1, num_steps - 1 - train.warmup_steps)
    cosine = (1 + math.cos(math.pi * progress)) / 2
    return train.peak_lr * (train.min_lr_ratio + (1 - train.min_lr_ratio) * cosine)
