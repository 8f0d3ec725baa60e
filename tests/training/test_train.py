"""A run end to end: resume to the same bits, gradient accumulation, divergence, and what is never overwritten."""

import json
from pathlib import Path

import pytest
import torch

from helpers.config import to_json
from helpers.data import fetch_arxiv
from helpers.runs.checkpoints import load_snapshot, snapshots
from helpers.runs.events import Logged, Notice, Saved, Started
from helpers.runs.result_file import read_result
from helpers.seals import publish_sealed, read_sealed
from helpers.settings import apply_overrides
from helpers.storage import Storage
from helpers.training import train_single_k as training
from helpers.training.state import new_state, train_step
from helpers.training.train_single_k import TrainingFailed, train_single_k
from tests.small_run import CONFIG, Interrupted, interrupt_at, numbers, prepare


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    storage = Storage.at(tmp_path_factory.mktemp("undisturbed"))
    train_single_k(CONFIG, storage, ())
    return storage


def test_a_run_leaves_what_the_design_says(undisturbed: Storage) -> None:
    result = read_result(undisturbed.result(CONFIG.run_id))
    assert result.run["config"] == to_json(CONFIG)
    assert result.run["tokens_seen"] == 40 * 8 * 100
    assert result.run["unique_tokens"] == 2 * 8 * 300
    assert result.run["tokens_seen_per_unique_token"] == pytest.approx(32_000 / 4_800)
    assert [line["component"] for line in result.xe] == result.run["components"]
    assert all(len(line["xe_by_position"]) == 100 for line in result.xe)
    assert result.summaries[-1]["xe"] == pytest.approx(sum(line["xe"] for line in result.xe) / 2)
    assert [step for step, _ in snapshots(undisturbed, CONFIG.run_id)] == [20, 40]
    assert undisturbed.checkpoint_steps(CONFIG.run_id) == []
    assert set(json.loads((undisturbed.run(CONFIG.run_id) / "provenance.json").read_text())) >= {"packages", "device"}


@pytest.mark.parametrize("steps", [[5], [20, 35], [40], [10, 10, 15]])
def test_an_interrupted_run_ends_with_the_same_bits(undisturbed: Storage, tmp_path: Path, steps: list[int]) -> None:
    storage = Storage.at(tmp_path)
    for step in steps:
        with pytest.raises(Interrupted):
            train_single_k(CONFIG, storage, [interrupt_at(step)])
    train_single_k(CONFIG, storage, ())
    assert numbers(storage) == numbers(undisturbed)


def test_an_evaluation_that_was_interrupted_is_repeated_without_training(undisturbed: Storage, tmp_path: Path) -> None:
    storage = Storage.at(tmp_path)
    train_single_k(CONFIG, storage, ())
    storage.result(CONFIG.run_id).unlink()
    events: list = []
    train_single_k(CONFIG, storage, [events.append])
    assert not [event for event in events if isinstance(event, Started | Logged)]
    assert numbers(storage) == numbers(undisturbed)


def test_a_done_run_is_not_touched(undisturbed: Storage) -> None:
    path = undisturbed.result(CONFIG.run_id)
    before = path.stat().st_mtime_ns
    assert train_single_k(CONFIG, undisturbed, ()) == path
    assert path.stat().st_mtime_ns == before


def test_accumulated_gradients_are_those_of_the_whole_batch(tmp_path: Path) -> None:
    config = apply_overrides(CONFIG, ["model.dropout=0"])
    storage = Storage.at(tmp_path)
    weights = []
    for micro_batch in (8, 3, 1):
        run = prepare(apply_overrides(config, [f"execution.micro_batch={micro_batch}"]), storage)
        accelerator = training.make_accelerator(run.config, storage, torch.device("cpu"), "fp32")
        state = new_state(run.config, accelerator, run.cache.vocab_size, run.cache.bos_id)
        for step in range(3):
            train_step(state, run.dataset.batch(step), run.config, 1e-3)
        weights.append(state.weights)
    for name, whole in weights[0].items():
        for accumulated in weights[1:]:
            torch.testing.assert_close(accumulated[name], whole, atol=2e-5, rtol=1e-4)


def test_one_step_is_torchs_adamw_on_the_clipped_gradient(tmp_path: Path) -> None:
    config = apply_overrides(CONFIG, ["model.dropout=0", "train.clip_norm=0.05"])
    run = prepare(config, Storage.at(tmp_path))
    accelerator = training.make_accelerator(config, run.storage, torch.device("cpu"), "fp32")
    state = new_state(config, accelerator, run.cache.vocab_size, run.cache.bos_id)
    start = {name: tensor.clone() for name, tensor in state.weights.items()}
    reference = new_state(config, accelerator, run.cache.vocab_size, run.cache.bos_id).model
    batch = run.dataset.batch(0)
    _, grad_norm = train_step(state, batch, config, 1e-3)

    (reference(torch.from_numpy(batch.tokens)) / batch.num_tokens).backward()
    parameters = dict(reference.model.named_parameters())
    norm = torch.sqrt(sum((p.grad**2).sum() for p in parameters.values()))
    assert grad_norm.item() == pytest.approx(norm.item(), rel=1e-4)
    for name, p in parameters.items():
        gradient = p.grad * min(1.0, 0.05 / norm.item())
        decayed = start[name] * (1 - 1e-3 * 0.1 * (p.dim() >= 2))
        # The first AdamW step: both moments are bias-corrected to g and g^2.
        expected = decayed - 1e-3 * gradient / (gradient.abs() + 1e-8)
        torch.testing.assert_close(state.weights[name], expected, atol=3e-6, rtol=1e-3)


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), 1e6])
def test_divergence_ends_the_run_and_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, poison: float
) -> None:
    def poisoned(state, batch, config, rate):
        loss, norm = train_step(state, batch, config, rate)
        return (loss * 0 + poison if state.step > 12 else loss), norm

    monkeypatch.setattr(training, "train_step", poisoned)
    storage = Storage.at(tmp_path)
    with pytest.raises(TrainingFailed, match=r"diverged at step 15: .*the checkpoint of step 10 is kept"):
        train_single_k(CONFIG, storage, ())
    assert storage.checkpoint_steps(CONFIG.run_id)[0] == 10
    assert not storage.result(CONFIG.run_id).exists()


def test_a_cpu_says_why_it_trains_in_fp32(tmp_path: Path) -> None:
    notices: list = []
    config = apply_overrides(CONFIG, ["train.precision=fp16", "train.steps=5"])
    train_single_k(config, Storage.at(tmp_path), [notices.append])
    assert any("this CPU trains in fp32" in event.text for event in notices if isinstance(event, Notice))


def test_checkpoints_keep_their_number_and_lie_where_they_say(tmp_path: Path) -> None:
    saved: list[Saved] = []
    seen = []

    def subscriber(event) -> None:
        if isinstance(event, Saved):
            saved.append(event)
            seen.append(len(list(event.path.parent.glob("step_*"))))

    train_single_k(CONFIG, Storage.at(tmp_path), [subscriber])
    assert [event.step for event in saved] == [5, 10, 15, 20, 25, 30, 35, 40]
    assert seen == [1, 2, 2, 2, 2, 2, 2, 2]


def test_a_damaged_checkpoint_is_reported_and_the_one_before_is_used(undisturbed: Storage, tmp_path: Path) -> None:
    storage = Storage.at(tmp_path)
    with pytest.raises(Interrupted):
        train_single_k(CONFIG, storage, [interrupt_at(20)])
    weights = storage.checkpoints(CONFIG.run_id) / "step_000000015" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-5] ^= 1
    weights.write_bytes(content)
    events: list = []
    train_single_k(CONFIG, storage, [events.append])
    assert [event.step for event in events if isinstance(event, Started)] == [10]
    assert any("is damaged" in event.text for event in events if isinstance(event, Notice))
    assert numbers(storage) == numbers(undisturbed)


def test_a_run_is_not_continued_on_other_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage.at(tmp_path)
    with pytest.raises(Interrupted):
        train_single_k(CONFIG, storage, [interrupt_at(20)])
    path = storage.run(CONFIG.run_id) / "config.json"
    recorded = read_sealed(path)
    publish_sealed(path, recorded | {"science": recorded["science"] | {"cache_id": "other-data"}})
    with pytest.raises(ValueError, match=r"begun with other settings or data \(cache_id: other-"):
        train_single_k(CONFIG, storage, ())


def test_a_result_of_other_data_is_not_taken_for_done(undisturbed: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    from helpers.runs import result_file

    monkeypatch.setattr(result_file, "cache_id", lambda data: fetch_arxiv.cache_id(data) + "-changed")
    with pytest.raises(ValueError, match="is done, but on other data"):
        train_single_k(CONFIG, undisturbed, ())


def test_a_damaged_snapshot_is_not_loaded(undisturbed: Storage, tmp_path: Path) -> None:
    storage = Storage.at(tmp_path)
    path = storage.snapshot(CONFIG.run_id, 20)
    path.parent.mkdir(parents=True)
    content = bytearray(undisturbed.snapshot(CONFIG.run_id, 20).read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged"):
        load_snapshot(storage, CONFIG.run_id, 20)
    with pytest.raises(ValueError, match="retained steps: 20"):
        load_snapshot(storage, CONFIG.run_id, 30)
