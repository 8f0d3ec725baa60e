"""Trackers: TensorBoard by default, others when installed, the same numbers as metrics.jsonl."""

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from helpers.config import RunConfig
from helpers.runs.metrics import metrics_path, read_metrics
from helpers.settings import apply_overrides
from helpers.storage import Storage
from helpers.training.train_single_k import train_single_k


def test_tensorboard_holds_what_metrics_holds(tiny_config: RunConfig, tmp_path: Path) -> None:
    config = apply_overrides(tiny_config, ["execution.log_every_steps=2", "execution.trackers=tensorboard"])
    storage = Storage.at(tmp_path)
    train_single_k(config, storage, ())
    (folder,) = {path.parent for path in storage.tensorboard(config.run_id).rglob("events.*")}
    events = EventAccumulator(str(folder))
    events.Reload()
    rows = read_metrics(metrics_path(storage, config.run_id))
    assert [row["step"] for row in rows] == [2, 4, 5]
    for name in ("loss", "lr", "grad_norm", "tokens_per_s", "memory_bytes"):
        scalars = events.Scalars(name)
        assert [scalar.step for scalar in scalars] == [2, 4, 5]
        assert [scalar.value for scalar in scalars] == pytest.approx([row[name] for row in rows], rel=1e-6)


def test_a_tracker_that_is_not_installed_is_named_before_anything_is_trained(
    tiny_config: RunConfig, tmp_path: Path
) -> None:
    config = apply_overrides(tiny_config, ["execution.trackers=tensorboard,wandb"])
    with pytest.raises(ValueError, match=r"execution.trackers names 'wandb', which is not installed; there are"):
        train_single_k(config, Storage.at(tmp_path), ())
    assert Storage.at(tmp_path).checkpoint_steps(config.run_id) == []
