"""The learning rate against torch's own schedulers and the document's numbers."""

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from helpers.config import TrainConfig
from helpers.training.schedule import learning_rate


def test_the_documents_schedule_at_its_corners() -> None:
    train = TrainConfig()
    assert learning_rate(train, 0, 100_000) == pytest.approx(2e-7)
    assert learning_rate(train, 999, 100_000) == learning_rate(train, 1_000, 100_000) == pytest.approx(2e-4)
    assert learning_rate(train, 99_999, 100_000) == pytest.approx(2e-5)


def test_agrees_with_torch() -> None:
    train = TrainConfig(steps=60, warmup_steps=10, peak_lr=0.5)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    warm = LinearLR(optimizer, start_factor=1 / 10, total_iters=9)
    cosine = CosineAnnealingLR(optimizer, T_max=49, eta_min=0.05)
    schedule = SequentialLR(optimizer, [warm, cosine], milestones=[10])
    for step in range(60):
        assert learning_rate(train, step, 60) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6), step
        optimizer.step()
        schedule.step()
