"""The learning rate against torch's own schedulers and the document's numbers."""

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from helpers.config import RunConfig, TrainConfig
from helpers.model_config import PythiaConfig
from helpers.training.schedule import learning_rate, peak_learning_rate


def test_the_documents_schedule_at_its_corners() -> None:
    config = RunConfig(study="ergodic")
    assert learning_rate(config, 0, 100_000) == pytest.approx(2e-7)
    assert learning_rate(config, 999, 100_000) == learning_rate(config, 1_000, 100_000) == pytest.approx(2e-4)
    assert learning_rate(config, 99_999, 100_000) == pytest.approx(2e-5)


def test_the_peak_is_inverse_to_the_width_where_it_is_for_one() -> None:
    train = TrainConfig(peak_lr=3e-4, lr_at_width=256)
    peaks = {
        size: peak_learning_rate(RunConfig(study="ergodic", model=PythiaConfig(size=size), train=train))
        for size in ("70m", "410m")
    }
    assert peaks == {"70m": pytest.approx(1.5e-4), "410m": pytest.approx(7.5e-5)}
    assert (
        peak_learning_rate(RunConfig(study="ergodic", model=PythiaConfig(size="410m"), train=TrainConfig(peak_lr=3e-4)))
        == 3e-4
    )


def test_agrees_with_torch() -> None:
    config = RunConfig(study="ergodic", train=TrainConfig(steps=60, warmup_steps=10, peak_lr=0.5))
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    warm = LinearLR(optimizer, start_factor=1 / 10, total_iters=9)
    cosine = CosineAnnealingLR(optimizer, T_max=49, eta_min=0.05)
    schedule = SequentialLR(optimizer, [warm, cosine], milestones=[10])
    for step in range(60):
        assert learning_rate(config, step, 60) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6), step
        optimizer.step()
        schedule.step()
