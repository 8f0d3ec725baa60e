"""The windows of a stream against what the document counts, and against a walk through the tokens."""

import dataclasses

import numpy as np
import pytest

from helpers.config import RunConfig
from helpers.data.components import select
from helpers.data.stream_order import StreamOrder, stream_order
from helpers.data.window_dataset import read_windows
from helpers.settings import apply_overrides
from helpers.studies import find_preset
from tests.caches import MemoryCache

CONFIG = find_preset("samples", "paper").at(seed=42)


def order_of(lengths: list[int], *overrides: str, config: RunConfig = CONFIG) -> StreamOrder:
    config = apply_overrides(config, [f"data.samples={len(lengths)}", *overrides])
    return stream_order(config, select(config, MemoryCache({"chat": [*lengths, 9, 9]})))


@pytest.mark.parametrize(("tokens", "steps"), [(3_495, 7), (7_466, 15), (15_832, 31), (39_814, 78)])
def test_an_epoch_has_the_documents_steps(tokens: int, steps: int) -> None:
    order = order_of([tokens - 100, 100])
    assert order.windows_per_pass == steps and order.num_steps == 10 + 10 * steps
    assert order.tokens_before(10) == 0 and order.tokens_before(10 + steps) == tokens
    assert [order.epoch_of(step) for step in (10 + steps - 1, 10 + steps, 10 + 2 * steps)] == [0, 1, 2]


def test_windows_cross_samples_and_cover_the_stream_once_a_pass() -> None:
    config = dataclasses.replace(CONFIG, data=dataclasses.replace(CONFIG.data, window_tokens=4))
    order, flat = order_of([3, 1, 7], config=config), MemoryCache({"chat": [3, 1, 7, 9, 9]}).flat()
    read = [read_windows(flat, order.of_step(10 + n), 20)[0] for n in range(order.windows_per_pass)]
    told = [row[row >= 0].tolist() for row in read]
    assert told == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
    again = read_windows(flat, order.of_step(10 + 3), 20)[0]
    assert np.array_equal(again, read[0])
    assert order.of_step(0).length.tolist() == [11]  # an iteration reads all


def test_matched_steps_cut_every_stream_into_as_many() -> None:
    for tokens in (400, 12_345):
        order = order_of([tokens], "passes.match=steps")
        lengths = np.diff(order.cuts)
        assert order.windows_per_pass == 78 and lengths.sum() == tokens and np.ptp(lengths[:-1]) <= 1
        assert order.num_steps == 10 + 780


def test_matched_tokens_read_a_short_stream_again() -> None:
    order = order_of([3_495], "passes.match=tokens")
    assert order.tokens_before(order.num_steps - 1) < 398_140 <= order.tokens_before(order.num_steps)
    ends = [step for step in range(10, order.num_steps) if order.epoch_of(step + 1) > order.epoch_of(step)]
    assert len(ends) == 10 and ends[-1] == order.num_steps - 1
    assert all(order.tokens_before(end + 1) - 39_814 * (n + 1) < 512 for n, end in enumerate(ends))


def test_without_learned_contexts_no_step_is_for_them() -> None:
    assert order_of([3_495], "model.context=random").num_steps == 70


def test_what_is_no_stream_is_refused() -> None:
    with pytest.raises(ValueError, match=r"passes\.matched_steps = 78 is not possible: the stream has 50 tokens"):
        order_of([50], "passes.match=steps")
    with pytest.raises(ValueError, match="reads the papers of one component in their order"):
        config = apply_overrides(CONFIG, ["data.samples=3", "data.shuffle_labels=true", "k=2"])
        stream_order(config, select(config, MemoryCache({"a": [5] * 9, "b": [5] * 9})))
    with pytest.raises(ValueError, match=r"data\.samples = 12 is not possible: 'chat' has 11 train papers"):
        order_of([1] * 9, "data.samples=12")
    for setting, words in (
        ("train.batch_size=2", "batch_size"),
        ("train.precision=fp16", "precision"),
        ("data.window_tokens=100 model.size=70m", "model.size"),
        ("data.sampling=epoch", "data.sampling"),
    ):
        with pytest.raises(ValueError, match=words):
            apply_overrides(CONFIG, setting.split())
