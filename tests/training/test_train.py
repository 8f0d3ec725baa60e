"""A run end to end: resume to the same bits, gradient accumulation, divergence, and what is never overwritten."""

import dataclasses
import json
import os
import random
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker

from helpers.config import RunConfig, to_json
from helpers.data.cache_id import cache_id
from helpers.runs.checkpoints import load_snapshot, snapshots
from helpers.runs.events import Logged, Notice, Saved, Started
from helpers.runs.result_file import read_result
from helpers.runs.sessions import changes, sessions
from helpers.seals import publish_sealed, read_sealed
from helpers.settings import apply_overrides
from helpers.storage import Storage
from helpers.training import train_single_k as training
from helpers.training.recipe import Recipe
from helpers.training.state import window_state, window_step
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
    assert [line["component"] for line in result.rows_of("xe")] == result.run["components"]
    assert all(len(line["xe_by_position"]) == 100 for line in result.rows_of("xe"))
    assert result.summaries[-1]["xe"] == pytest.approx(sum(line["xe"] for line in result.rows_of("xe")) / 2)
    assert [step for step, _ in snapshots(undisturbed, CONFIG.run_id)] == [20, 40]
    assert undisturbed.checkpoint_steps(CONFIG.run_id) == []
    (session,) = json.loads((undisturbed.run(CONFIG.run_id) / "provenance.json").read_text())["sessions"]
    assert session.keys() >= {
        "packages",
        "device",
        "precision",
        "micro_batch",
        "threads",
        "environment",
        "git_revision",
    }


@pytest.mark.parametrize(
    "steps", [[20, 35], [10, 10, 15], *(pytest.param(at, marks=pytest.mark.slow) for at in ([5], [40]))]
)
def test_an_interrupted_run_ends_with_the_same_bits(undisturbed: Storage, tmp_path: Path, steps: list[int]) -> None:
    storage = Storage.at(tmp_path)
    for step in steps:
        with pytest.raises(Interrupted):
            train_single_k(CONFIG, storage, [interrupt_at(step)])
    train_single_k(CONFIG, storage, ())
    assert numbers(storage) == numbers(undisturbed)
    told = sessions(read_result(storage.result(CONFIG.run_id)).run["provenance"])
    assert told[0]["from_step"] == 0 and told[-1]["to_step"] == 40
    assert [later["from_step"] for later in told[1:]] == [session["to_step"] for session in told[:-1]]


def test_a_result_says_what_changed_between_its_sessions(tmp_path: Path) -> None:
    storage, narrow = Storage.at(tmp_path), apply_overrides(CONFIG, ["execution.micro_batch=2"])
    with pytest.raises(Interrupted):
        train_single_k(narrow, storage, [interrupt_at(25)])
    train_single_k(apply_overrides(CONFIG, ["execution.micro_batch=8"]), storage, ())
    record = read_result(storage.result(CONFIG.run_id)).run["provenance"]
    (begun,) = {told["to_step"] for told in sessions(record)} - {40}
    assert changes(record) == [f"micro_batch: 2, from step {begun}: 8"]


class Failing(GeneralTracker):
    """A tracker that cannot start, or whose store goes away."""

    name, requires_logging_directory, tracker, calls = "failing", False, None, 0

    def __init__(self, fails_at: str) -> None:
        super().__init__()
        self.fails_at = fails_at

    def start(self) -> None:
        self._do("start")

    def store_init_configuration(self, values: dict) -> None: ...

    def log(self, values: dict, step: int | None = None, **kwargs: object) -> None:
        Failing.calls += 1
        self._do("log")

    def finish(self) -> None:
        self._do("finish")

    def _do(self, what: str) -> None:
        if what == self.fails_at:
            raise ConnectionError(f"no database to {what}")


@pytest.mark.parametrize("fails_at", ["start", "log", "finish"])
def test_a_tracker_that_fails_is_reported_once_and_ends_no_run(
    tmp_path: Path, undisturbed: Storage, fails_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(accelerator: Accelerator, run_id: str) -> None:
        accelerator.trackers = [Failing(fails_at)]
        accelerator.trackers[0].start()

    monkeypatch.setattr(Accelerator, "init_trackers", init)
    storage, events = Storage.at(tmp_path), []
    train_single_k(apply_overrides(CONFIG, ["execution.trackers=tensorboard"]), storage, [events.append])
    assert numbers(storage) == numbers(undisturbed)
    told = [event.text for event in events if isinstance(event, Notice) and "tracker" in event.text]
    assert len(told) == 1 and f"ConnectionError: no database to {fails_at}" in told[0], told
    assert "metrics.jsonl has every row" in told[0]


def test_mlflow_s_store_lies_in_the_scratch_folder_unless_the_user_names_one(
    tiny_config: RunConfig, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    seen = []
    monkeypatch.setattr(Accelerator, "init_trackers", lambda *_: seen.append(os.environ["MLFLOW_TRACKING_URI"]))
    train_single_k(tiny_config, storage, ())
    assert seen == [f"sqlite:///{storage.scratch}/mlflow/mlflow.db"]
    assert "MLFLOW_TRACKING_URI" not in os.environ, "the next run of this process may have another storage"


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
        state = window_state(run, accelerator)
        for _ in range(3):
            window_step(run, state)
            state.step += 1
        weights.append(state.weights)
    for name, whole in weights[0].items():
        for accumulated in weights[1:]:
            torch.testing.assert_close(accumulated[name], whole, atol=2e-5, rtol=1e-4)


def test_one_step_is_torchs_adamw_on_the_clipped_gradient(tmp_path: Path) -> None:
    config = apply_overrides(CONFIG, ["model.dropout=0", "train.clip_norm=0.05"])
    run = prepare(config, Storage.at(tmp_path))
    accelerator = training.make_accelerator(config, run.storage, torch.device("cpu"), "fp32")
    state = window_state(run, accelerator)
    start = {name: tensor.clone() for name, tensor in state.weights.items()}
    reference = window_state(run, accelerator).model
    batch = run.dataset.batch(0)
    stepped = window_step(run, state)
    lr = stepped.lr
    assert lr == 3e-3 / 4  # the first of four steps of warm-up

    (reference(torch.from_numpy(batch.tokens)) / batch.num_tokens).backward()
    parameters = dict(reference.model.named_parameters())
    norm = torch.sqrt(sum((p.grad**2).sum() for p in parameters.values()))
    assert stepped.grad_norm.item() == pytest.approx(norm.item(), rel=1e-4)
    for name, p in parameters.items():
        gradient = p.grad * min(1.0, 0.05 / norm.item())
        own = reference.model.name_in_files(name)
        decayed = start[own] * (1 - lr * 0.1 * (p.dim() >= 2))
        # The first AdamW step: both moments are bias-corrected to g and g^2.
        expected = decayed - lr * gradient / (gradient.abs() + 1e-8)
        torch.testing.assert_close(state.weights[own], expected, atol=3e-6, rtol=1e-3)


def poisoned(poison: float, after: int, until: int = 10**9) -> Recipe:
    """Steps whose loss is told to be `poison` from one step on."""

    def step(run, state):
        stepped = window_step(run, state)
        wrong = after <= state.step < until
        return dataclasses.replace(stepped, loss=stepped.loss * 0 + poison) if wrong else stepped

    return Recipe(step=step)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_last_checkpoint(tmp_path: Path, poison: float) -> None:
    storage = Storage.at(tmp_path)
    with pytest.raises(TrainingFailed, match=r"diverged at step 15: .*the checkpoint of step 10 is kept"):
        train_single_k(CONFIG, storage, (), poisoned(poison, after=12))
    assert storage.checkpoint_steps(CONFIG.run_id)[0] == 10
    assert not storage.result(CONFIG.run_id).exists()


SHORT_STEPS = (
    "train.steps=120", "train.batch_size=2", "data.window_tokens=10", "execution.micro_batch=2",
    "execution.checkpoint_every_minutes=9", "execution.snapshot_every_steps=40",
)  # fmt: skip


@pytest.mark.parametrize("log_every_steps", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (7, 50)), 1000])
def test_whether_a_run_diverges_does_not_depend_on_how_often_it_logs(tmp_path: Path, log_every_steps: int) -> None:
    """Three bad steps are a bad log of three steps, and a small part of the fifty that are judged."""
    config = apply_overrides(CONFIG, [*SHORT_STEPS, f"execution.log_every_steps={log_every_steps}"])
    end = train_single_k(config, Storage.at(tmp_path / "survives"), (), poisoned(30.0, after=61, until=64))
    assert end.exists()
    with pytest.raises(TrainingFailed, match=r"diverged at step 100: loss \d+\.\d+ against 2\.0 times"):
        train_single_k(config, Storage.at(tmp_path / "fails"), (), poisoned(30.0, after=61))


def test_a_loss_is_judged_alike_whether_the_run_was_interrupted(tmp_path: Path) -> None:
    config = apply_overrides(CONFIG, SHORT_STEPS)
    storage, bad = Storage.at(tmp_path), poisoned(30.0, after=61)
    messages = []
    for place in ("whole", "interrupted"):
        storage = Storage.at(tmp_path / place)
        if place == "interrupted":
            with pytest.raises(Interrupted):
                train_single_k(config, storage, [interrupt_at(80)], bad)
        with pytest.raises(TrainingFailed) as caught:
            train_single_k(config, storage, (), bad)
        messages.append(str(caught.value).partition(";")[0])
    assert messages[0] == messages[1]


def test_a_frozen_or_unused_parameter_is_restored(tmp_path: Path) -> None:
    """It has no gradient, and so the optimizer has no state of it."""

    def frozen(run, accelerator):
        state = window_state(run, accelerator)
        for name, parameter in state.model.named_parameters():
            if "layers.0" in name:
                parameter.requires_grad_(False)
        return state

    recipe = Recipe(start=frozen)
    train_single_k(CONFIG, Storage.at(tmp_path / "whole"), (), recipe)
    storage = Storage.at(tmp_path / "interrupted")
    with pytest.raises(Interrupted):
        train_single_k(CONFIG, storage, [interrupt_at(20)], recipe)
    train_single_k(CONFIG, storage, (), recipe)
    assert numbers(storage) == numbers(Storage.at(tmp_path / "whole"))


def test_a_component_without_a_test_window_is_found_before_the_first_step(tmp_path: Path) -> None:
    """Only where a run needs it, and by the name of the component that the run has."""
    rows = {"train": "aaabbbccc", "test": "aabb"}
    draw = random.Random(0)
    for split, labels in rows.items():
        texts = [" ".join(draw.choices(["lemma", "proof", "graph", "node", "image"], k=60)) for _ in labels]
        lines = [json.dumps({"text": text, "label": label}) for text, label in zip(texts, labels, strict=True)]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines))
    local = [f"data.source={tmp_path}", "data.tokenizer=train:300", "data.window_tokens=20", "train.steps=5"]
    config = apply_overrides(CONFIG, [*local, "data.order=listed", "train.batch_size=2"])
    storage, events = Storage.at(tmp_path / "storage"), []
    assert train_single_k(dataclasses.replace(config, k=1), storage, ()).exists()
    with pytest.raises(ValueError, match=r"component 'c' has no test paper of data\.window_tokens = 20"):
        train_single_k(dataclasses.replace(config, k=3), storage, [events.append])
    assert not any(isinstance(event, Started | Logged) for event in events)


def test_a_cpu_says_why_it_trains_in_fp32(tmp_path: Path) -> None:
    notices: list = []
    config = apply_overrides(CONFIG, ["train.precision=fp16", "train.steps=5"])
    train_single_k(config, Storage.at(tmp_path), [notices.append])
    assert any("this CPU trains in fp32" in event.text for event in notices if isinstance(event, Notice))


@pytest.mark.slow
def test_a_cpu_trains_in_bf16_when_asked(tmp_path: Path) -> None:
    """Close to what it trains in fp32, and not the same."""
    xe = {}
    for precision in ("bf16", "fp32"):
        config, events = apply_overrides(CONFIG, [f"train.precision={precision}"]), []
        result = read_result(train_single_k(config, Storage.at(tmp_path), [events.append]))
        assert [event.precision for event in events if isinstance(event, Started)] == [precision]
        xe[precision] = result.summaries[-1]["xe"]
    assert xe["bf16"] == pytest.approx(xe["fp32"], abs=0.01) and xe["bf16"] != xe["fp32"]


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

    monkeypatch.setattr(result_file, "cache_id", lambda data: cache_id(data) + "-changed")
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
