"""A run in its two phases: what each trains, when each ends, and that a killed run ends with the same bits."""

import itertools
import signal
import subprocess
import sys

import pytest
import torch

from helpers.repository import ROOT
from helpers.runs.checkpoints import load_newest_checkpoint, load_snapshot
from helpers.runs.events import Logged
from helpers.runs.result_file import read_result
from helpers.runs.verify import verify_storage
from helpers.storage import Storage
from helpers.studies.samples.evaluate import status
from helpers.studies.samples.recipe import RECIPE
from helpers.training.evaluate_again import evaluate_again
from helpers.training.train_single_k import train_single_k
from tests.samples.small import CONFIG, ITERATIONS, told, with_fields


class Enough(Exception):
    pass


def stop_at(step: int):
    def stop(event) -> None:
        if isinstance(event, Logged) and event.step == step:
            raise Enough

    return stop


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, Storage]:
    storages = {}
    for embedding in ("frozen", "trained"):
        storages[embedding] = Storage.at(tmp_path_factory.mktemp(embedding))
        train_single_k(with_fields(model__embedding=embedding), storages[embedding], (), RECIPE)
    return storages


@pytest.fixture
def result(undisturbed):
    return read_result(undisturbed["frozen"].result(CONFIG.run_id))


def checkpoint_at(storage: Storage, step: int, config=CONFIG):
    with pytest.raises(Enough):
        train_single_k(config, storage, [stop_at(step + 1)], RECIPE)  # a log comes before its checkpoint
    return load_newest_checkpoint(storage, config.run_id, print)


def test_phase_1_ends_when_contexts_have_converged_and_leaves_its_other_steps_out(result) -> None:
    iterations = result.rows_of("iteration")
    number = len(iterations)
    assert number == 4 < ITERATIONS and [row["step"] for row in iterations] == list(range(1, number + 1))
    assert iterations[0]["converged"] is None and iterations[-1]["converged"] >= 0.5
    for before, row in itertools.pairwise(iterations[1:]):
        assert row["residual"] == pytest.approx(row["moved"] ** 0.5)
        assert row["contraction"] == pytest.approx(row["residual"] / before["residual"])
    assert result.rows_of("epoch")[0]["step"] == ITERATIONS


def test_phase_2_validates_each_epoch_and_ends_by_patience(result) -> None:
    xe = [row["xe"] for row in result.rows_of("validation")]
    assert xe[-1] >= min(xe[:-1]) and all(a > b for a, b in itertools.pairwise(xe[:-1]))
    assert [row["epoch"] for row in result.rows_of("validation")] == list(range(1, len(xe) + 1)) and len(xe) < 6
    per_epoch = -(-(result.run["unique_tokens"] - 1) // 200)
    assert result.run["steps"] == ITERATIONS + per_epoch * len(xe)
    assert result.run["tokens_seen"] == result.run["unique_tokens"] * len(xe)
    assert [row["step"] for row in result.summaries] == [ITERATIONS + per_epoch * n for n in range(1, len(xe) + 1)]
    assert {row["kind"] for row in result.rows} == {
        "iteration", "rank", "epoch", "validation", "contexts", "passes",
    }  # fmt: skip
    (row,) = result.rows_of("passes")
    assert row["moved"][-1] < 1e-6 < row["moved"][0] and row["contraction"] < 0.1


def test_the_documents_word_for_passes_follows_their_slope_and_spread() -> None:
    flat = [1e-3] * 9
    assert status(flat) == "CONVERGED"
    assert status([0.1, *flat[1:]]) == "CONVERGING"  # its slope is -0.099 * 4 / 60
    assert status([*flat[1:], 0.1]) == "DIVERGING"
    assert status([0, 0, 0, 0.1, 0, 0.1, 0, 0, 0]) == "UNSTABLE"


def test_each_phase_trains_its_own_and_the_frozen_block_has_no_optimizer_state(tmp_path) -> None:
    storage = Storage.at(tmp_path)
    first = checkpoint_at(storage, 2)
    assert first.extra.keys() == {"contexts", "residual"} and first.extra["contexts"].shape[1] == 16
    assert {name.split(".")[1] for name in first.optimizer} == {"context_layers"}
    second = checkpoint_at(storage, ITERATIONS + 2)
    assert second.extra.keys() == {"best", "waited", "loss_sum", "predictions", "began"}
    assert {name.split(".")[1].split("/")[0] for name in second.optimizer} == {"token_layers", "head"}
    for name, tensor in second.model.items():
        if name.startswith(("embedding", "token_layers", "head")):
            same = torch.equal(tensor, first.model[name])
            assert same == name.startswith("embedding"), name
    third = checkpoint_at(storage, ITERATIONS + 4)
    moved = {name for name in third.model if not torch.equal(third.model[name], second.model[name])}
    assert moved == {name for name in third.model if name.startswith(("token_layers", "head"))}


def test_a_trained_embedding_is_trained_and_carries_the_table_of_its_epoch(undisturbed, tmp_path) -> None:
    config = with_fields(model__embedding="trained")
    checkpoint = checkpoint_at(Storage.at(tmp_path), ITERATIONS + 2, config)
    assert "embedding.weight" in checkpoint.extra
    assert not torch.equal(checkpoint.extra["embedding.weight"], checkpoint.model["embedding.weight"])
    rows = read_result(undisturbed["trained"].result(config.run_id)).rows_of("validation")
    frozen = read_result(undisturbed["frozen"].result(CONFIG.run_id)).rows_of("validation")
    assert rows[0]["xe"] != frozen[0]["xe"]


@pytest.mark.parametrize("context", ["random", "none"])
@pytest.mark.parametrize("match", ["steps", "tokens"])
def test_other_contexts_and_matches_end_where_they_say(context: str, match: str, tmp_path) -> None:
    storage = Storage.at(tmp_path)
    config = with_fields(model__context=context, passes__match=match)
    train_single_k(config, storage, (), RECIPE)
    found = read_result(storage.result(config.run_id))
    epochs = found.rows_of("epoch")
    assert not found.rows_of("iteration") and epochs[0]["step"] == 0
    assert bool(found.rows_of("rank")) == (context == "random")
    steps = epochs[0]["steps"]
    assert steps == 5 if match == "steps" else (steps - 1) * 200 < 1_100
    weights = load_snapshot(storage, config.run_id, found.run["steps"])
    assert any(name.startswith("context_layers") for name in weights) == (context == "random")


def test_an_evaluation_of_it_keeps_every_row(undisturbed) -> None:
    before = told(undisturbed["frozen"], CONFIG)
    evaluate_again(CONFIG, undisturbed["frozen"], None, (), RECIPE)
    assert told(undisturbed["frozen"], CONFIG) == before
    assert verify_storage(undisturbed["frozen"].root).damaged == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("embedding", "at"),
    [
        ("frozen", str(ITERATIONS + 2)), ("frozen", "2"), ("frozen", "last"), ("frozen", "evaluation"),
        ("trained", "2"), ("trained", str(ITERATIONS + 2)),
    ],
)  # fmt: skip
def test_killed_in_each_phase_it_ends_with_the_same_bits(undisturbed, tmp_path, embedding: str, at: str) -> None:
    arguments = [str(tmp_path), embedding, at]
    ended = subprocess.run([sys.executable, "-c", KILLED, *arguments], cwd=ROOT, capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    storage, config = Storage.at(tmp_path), with_fields(model__embedding=embedding)
    assert not storage.result(config.run_id).exists()
    train_single_k(config, storage, (), RECIPE)
    assert told(storage, config) == told(undisturbed[embedding], config)


KILLED = """
import sys
from tests.samples import small
small.train_and_die(*sys.argv[1:])
"""


def test_ranks_are_within_their_intervals_and_below_the_width(result) -> None:
    rows = result.rows_of("rank")
    assert {(row["of"], row["centred"]) for row in rows} == {
        (of, centred) for of in ("last iteration", "train", "validation") for centred in (False, True)
    }
    assert all(row["low"] < row["percent"] < row["high"] and 1 < row["rank"] <= 16 for row in rows)


def test_validation_samples_that_are_not_there_are_told_before_a_step(storage) -> None:
    config = with_fields(passes__validation_samples=5_000)
    with pytest.raises(ValueError, match=r"passes\.validation_samples = 5000 is not possible: test has"):
        train_single_k(config, storage, (), RECIPE)
    assert not storage.checkpoint_steps(config.run_id)
