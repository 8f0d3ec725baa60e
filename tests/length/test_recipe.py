"""A run of the length study: killed anywhere it ends with the same bits, and each state is what it is called."""

import dataclasses
import math
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from helpers.__main__ import main
from helpers.device import choose_device
from helpers.outbox import Outbox
from helpers.repository import ROOT
from helpers.runs.checkpoints import best_path, load_snapshot, read_best
from helpers.runs.result_file import Measured, read_result
from helpers.runs.verify import verify_storage
from helpers.storage import Storage
from helpers.studies.length import recipe as recipe_module
from helpers.studies.length.evaluate import sequences_of
from helpers.studies.length.recipe import RECIPE, RowModel, evaluation_steps, improves, judge, start, step
from helpers.studies.length.rows import batch_of
from helpers.training.accelerator import make_accelerator
from helpers.training.run import Run, prepare_run
from helpers.training.train_single_k import train_single_k
from tests.length.small_length import OVERRIDES, config_of, told

CARRIED = "stream.state=carried"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Storage:
    storage = Storage.at(tmp_path_factory.mktemp("undisturbed"))
    train_single_k(config_of(CARRIED), storage, (), RECIPE)
    return storage


def prepared(storage: Storage, *overrides: str) -> Run:
    config = config_of(*overrides)
    return prepare_run(config, Outbox(storage=storage, run_id=config.run_id, report=print), lambda event: None)


def begun(run: Run):
    return start(run, make_accelerator(run.config, run.storage, choose_device(run.config.execution), "fp32"))


# A run


def test_a_run_leaves_rows_of_its_kinds_at_every_evaluation(undisturbed):
    result = read_result(undisturbed.result(config_of(CARRIED).run_id))
    assert [summary["step"] for summary in result.summaries] == [0, 4, 8, 12]
    assert {row["kind"] for row in result.rows} == {"curve", "context"}
    for at in (0, 4, 8, 12):
        curves = {(row["mode"], row["stride"]): row for row in result.rows_of("curve") if row["step"] == at}
        assert set(curves) == {
            ("carried", None), ("window", 1), ("window", 16), ("ideal carried", None), ("ideal window", 1),
        }  # fmt: skip
        assert all(len(row["nll_by_position"]) == 320 for row in curves.values())
        assert curves["carried", None]["nll_by_position"][:16] == curves["window", 1]["nll_by_position"][:16]
        assert curves["carried", None]["nll_by_position"][:16] == curves["window", 16]["nll_by_position"][:16]
        chunks_BX = np.array(curves["carried", None]["nll_by_chunk"])
        assert chunks_BX.shape == (3, 40)
        by_position = np.array(curves["carried", None]["nll_by_position"]).reshape(40, 8).mean(axis=1)
        np.testing.assert_allclose(chunks_BX.mean(axis=0), by_position, atol=2e-5)
        contexts = {row["multiple"]: row for row in result.rows_of("context") if row["step"] == at}
        assert list(contexts) == [1, 2, 5, 10, 20] and all(len(row["nll"]) == 3 for row in contexts.values())
        assert contexts[20]["effrem"] == [0, 0, 0]
        assert contexts[20]["nll"] == [row[-1] for row in curves["carried", None]["nll_by_chunk"]]
        assert contexts[20]["ideal_nll"] == [row[-1] for row in curves["ideal carried", None]["nll_by_chunk"]]


def test_the_summary_has_the_documents_keys_and_the_direction_of_its_ratio(undisturbed):
    result = read_result(undisturbed.result(config_of(CARRIED).run_id))
    last = result.summaries[-1]
    for k in (1, 2, 5, 10, 20):
        assert last[f"x_pos_at_{k}xW"] == 16 * k
        for name, mode in (("ttt", "carried"), ("sw", "window")):
            (row,) = [
                row for row in result.rows_of("curve")
                if (row["step"], row["mode"], row["stride"]) == (12, mode, None if mode == "carried" else 1)
            ]  # fmt: skip
            at_k_B = np.array(row["nll_by_chunk"])[:, 2 * k - 1]  # chunks of 8: the second of a window ends at it
            assert last[f"{name}_ppl_at_{k}xW"] == pytest.approx(math.exp(np.median(at_k_B)), rel=1e-4)
            assert last[f"{name}_mean_ppl_at_{k}xW"] == pytest.approx(math.exp(at_k_B.mean()), rel=1e-4)
    assert last["xe"] == last["xe_after_1xW"]


SLOW = [pytest.param(at, marks=pytest.mark.slow) for at in ("1", "4", "7", "e0", "e12")]


@pytest.mark.parametrize("at", ["e8", *SLOW])
def test_killed_in_training_or_in_an_evaluation_it_ends_with_the_same_bits(undisturbed, tmp_path, at):
    code = "import sys; from tests.length import small_length as s; s.train_and_die(*sys.argv[1:])"
    config = config_of(CARRIED)
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path), at, CARRIED], cwd=ROOT, capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    storage = Storage.at(tmp_path)
    assert not storage.result(config.run_id).exists()
    train_single_k(config, storage, (), RECIPE)
    assert told(storage, config) == told(undisturbed, config)
    (at, weights), (same_at, same) = (read_best(one, config.run_id) for one in (storage, undisturbed))
    assert at == same_at and all(torch.equal(weights[name], same[name]) for name in same)
    assert verify_storage(storage.root).damaged == []


def test_the_best_model_is_that_of_the_lowest_loss_before_the_end(undisturbed):
    config = config_of(CARRIED)
    summaries = read_result(undisturbed.result(config.run_id)).summaries[:-1]
    at, weights = read_best(undisturbed, config.run_id)
    assert at == min(summaries, key=lambda summary: summary["xe"])["step"]
    last = load_snapshot(undisturbed, config.run_id, 12)
    assert weights.keys() == last.keys() and not torch.equal(weights["norm.weight"], last["norm.weight"])


def test_a_damaged_best_model_is_named(undisturbed, tmp_path):
    path = best_path(undisturbed, config_of(CARRIED).run_id)
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[:-4] + b"\0\1\2\3")
        (found,) = verify_storage(undisturbed.root).damaged
        assert found.path == path and "SHA-256" in found.fault
    finally:
        path.write_bytes(whole)


# Patience


@pytest.mark.parametrize(
    "xe, record, threshold, min_delta, expected",
    [
        (5.0, float("inf"), "nats", 0.01, True),
        (4.98, 5.0, "nats", 0.01, True),
        (4.995, 5.0, "nats", 0.01, False),
        (5.1, 5.0, "nats", 0.01, False),
        (math.log(215.8), math.log(240.3), "ppl", 50, False),  # the public run's end: it still fell, and was stopped
        (math.log(215.8), math.log(240.3), "nats", 0.01, True),
        (math.log(190.2), math.log(240.3), "ppl", 50, True),
    ],
)
def test_an_improvement_is_one_by_more_than_its_threshold(xe, record, threshold, min_delta, expected):
    assert improves(xe, record, threshold, min_delta) is expected


def test_patience_counts_evaluations_without_improvement_and_ends_the_run(storage, monkeypatch):
    """Losses by hand: the fourth and fifth are no improvement, though the fifth is the best."""
    falls = iter([5.0, 4.0, 3.0, 2.995, 2.991])

    def evaluate(run, weights, at):
        return Measured(rows=[], summary={"kind": "summary", "step": at, "xe": next(falls, 9.0)})

    config = config_of("stream.evaluations=13", "stream.patience=2")
    recipe = dataclasses.replace(RECIPE, evaluate=evaluate)
    train_single_k(config, storage, (), recipe)
    result = read_result(storage.result(config.run_id))
    assert [row["step"] for row in result.summaries] == [0, 1, 2, 3, 4, 5]
    assert result.run["steps"] == 5, "the step behind the evaluation that used up the patience is the last"
    assert read_best(storage, config.run_id)[0] == 4


def test_without_patience_it_trains_to_the_end(storage):
    recipe = dataclasses.replace(
        RECIPE, evaluate=lambda run, weights, at: Measured(rows=[], summary={"kind": "summary", "step": at, "xe": 5.0})
    )
    config = config_of("stream.evaluations=13", "stream.patience=0")
    train_single_k(config, storage, (), recipe)
    assert read_result(storage.result(config.run_id)).run["steps"] == 12


def test_evaluations_are_equally_spaced_from_the_untrained_model(storage):
    run = prepared(storage, "train.steps=100", "stream.evaluations=8")
    assert evaluation_steps(run) == [0, 14, 28, 42, 57, 71, 85]


# States


@pytest.mark.parametrize("state", ["fresh", "carried", "passed", "noise"])
def test_each_state_trains_the_learned_start_and_resumes_within_its_step(undisturbed, state):
    run = prepared(undisturbed, f"stream.state={state}")
    trained = begun(run)
    starts = [layer.mixer.start_weight_HEE for layer in trained.model.model.layers]
    before = [weight.detach().clone() for weight in starts]
    for _ in range(2):
        step(run, trained)
        trained.step += 1
    assert all((weight != old).all() for weight, old in zip(starts, before, strict=True))
    assert ("carried" in trained.extra) == (state in ("carried", "passed"))


def test_the_carried_state_is_what_reading_the_rows_in_one_go_leaves(undisturbed):
    run = prepared(undisturbed, CARRIED, "train.peak_lr=1e-12")  # weights that stay as they are
    trained, rows = begun(run), []
    for at in range(5):
        rows.append(batch_of(run, at))
        step(run, trained)
        trained.step += 1
    goes_on = np.all([batch.continues for batch in rows[1:]], axis=0)
    assert goes_on.sum() >= 2
    inputs_BT = torch.from_numpy(np.concatenate([batch.rows[:, :-1] for batch in rows], axis=1))
    with torch.no_grad():
        _, states = trained.model.model.read(inputs_BT)
    expected_LBHIE = torch.stack([state.weights_BHIE for state in states])
    carried_LBHIE = trained.extra["carried"]
    torch.testing.assert_close(carried_LBHIE[:, goes_on], expected_LBHIE[:, goes_on], rtol=1e-4, atol=1e-5)


def test_a_passed_state_is_the_neighbours_and_every_second_row_begins_anew(undisturbed):
    run = prepared(undisturbed, "stream.state=passed")
    trained = begun(run)
    start_LBHIE = torch.stack([layer.mixer.start(4) for layer in trained.model.model.layers]).detach()
    trained.extra["carried"] = torch.arange(4.0).view(1, 4, 1, 1, 1).expand_as(start_LBHIE).clone()
    for at, given in ((6, {0: 3.0, 2: 1.0}), (7, {1: 0.0, 3: 2.0})):
        trained.step = at
        place = slice(0, 4)
        begins_LBHIE = recipe_module._begin(run, trained, batch_of(run, at).continues, place)(start_LBHIE)
        for row in range(4):
            own = begins_LBHIE[:, row]
            assert (own == given[row]).all() if row in given else torch.equal(own, start_LBHIE[:, row])


def test_noise_has_the_size_that_is_asked_for(undisturbed):
    run = prepared(undisturbed, "stream.state=noise", "stream.noise=0.5")
    trained = begun(run)
    start_LBHIE = torch.stack([layer.mixer.start(512) for layer in trained.model.model.layers]).detach()
    noisy = recipe_module._begin(run, trained, np.ones(512, dtype=bool), slice(0, 512))(start_LBHIE)
    for layer in range(2):
        expected = 0.5 * start_LBHIE[layer].square().mean().sqrt()
        assert (noisy - start_LBHIE)[layer].std() == pytest.approx(float(expected), rel=0.02)


def test_the_loss_of_rows_is_that_of_all_their_targets(undisturbed):
    run = prepared(undisturbed)
    model = RowModel(begun(run).model.model)
    rows_BT = torch.from_numpy(batch_of(run, 0).rows)
    logits_BTV = model.model.hidden(rows_BT[:, :-1]) @ model.model.head_VD.T
    expected = torch.nn.functional.cross_entropy(logits_BTV.flatten(0, 1), rows_BT[:, 1:].flatten(), reduction="sum")
    torch.testing.assert_close(model(rows_BT)[0], expected)


# Sequences


def test_sequences_end_alike_for_every_window_and_lie_in_one_document(undisturbed):
    small = sequences_of(prepared(undisturbed, "stream.sequence_tokens=640", "stream.sequences=100"))
    large = sequences_of(
        prepared(undisturbed, "data.window_tokens=32", "stream.sequence_tokens=640", "stream.sequences=100")
    )
    assert small.shape == (100, 321) and large.shape == (100, 641)
    assert np.array_equal(small, large[:, -321:])
    assert (small != 32).all(), "no BOS: no document ends in a sequence"
    assert len(np.unique(small[:, -20:], axis=0)) == 100


def test_too_few_sequences_are_told_before_the_first_step(storage):
    config = config_of("stream.sequences=999")
    with pytest.raises(
        ValueError, match=r"has 256 sequences of stream.sequence_tokens \+ 1 = 321 tokens in one document"
    ):
        train_single_k(config, storage, (), RECIPE)
    assert not storage.checkpoint_steps(config.run_id)


def test_judge_keeps_the_weights_of_the_best(undisturbed):
    run = prepared(undisturbed)
    trained = begun(run)
    judge(run, trained, Measured(rows=[], summary={"xe": 3.0, "step": 0}))
    first = trained.extra["best/norm.weight"].clone()
    trained.model.model.norm.weight.data += 1
    judge(run, trained, Measured(rows=[], summary={"xe": 3.5, "step": 1}))
    assert torch.equal(trained.extra["best/norm.weight"], first) and int(trained.extra["waited"]) == 1
    judge(run, trained, Measured(rows=[], summary={"xe": 2.9, "step": 2}))
    assert torch.equal(trained.extra["best/norm.weight"], first + 1) and int(trained.extra["best_step"]) == 2


# Status


def test_status_says_best_latest_trend_speed_and_time_left(undisturbed, tmp_path, capsys):
    only = ["--only", "seed=0"]
    options = [f"--set={override}" for override in [*OVERRIDES, CARRIED]]
    asked = ["status", "--study", "length", "--preset", "smoke", "--storage", str(undisturbed.root), *only, *options]
    assert main(asked) == 0
    text = capsys.readouterr().out
    assert "W 16 ttt descent carried seed 0: done, step 12; best XE" in text and "SW / TTT" in text and "trend" in text
    storage, config = Storage.at(tmp_path), config_of(CARRIED)
    with pytest.raises(KeyboardInterrupt):
        train_single_k(config, storage, [stop_at(9)], RECIPE)
    assert main([word.replace(str(undisturbed.root), str(tmp_path)) for word in asked]) == 0
    text = capsys.readouterr().out
    assert "begun, step 9" in text and "latest" in text and "at step 8" in text
    assert "tokens/s" in text and "of training left at most" in text


def stop_at(at: int):
    def subscriber(event) -> None:
        if getattr(event, "path", None) is not None and getattr(event, "step", None) == at:
            raise KeyboardInterrupt

    return subscriber
