"""The stream of documents: read against a list, rows that hold every token once, lanes that go on, documents of any
length, none included."""

import dataclasses

import numpy as np
import pytest

from helpers.data.flat_tokens import FlatTokens
from helpers.outbox import Outbox
from helpers.storage import Storage
from helpers.studies import find_preset
from helpers.studies.length.rows import TokenStream, batch_of
from helpers.training.run import Run, prepare_run

BOS = 99
DOCUMENTS = [[1, 2, 3], [], [4], [5, 6, 7, 8, 9], []]


def stream_of(documents: list[list[int]], rows: list[int] | None = None) -> TokenStream:
    tokens = np.array([token for document in documents for token in document], dtype=np.uint16)
    offsets = np.cumsum([0, *map(len, documents)])
    chosen = np.arange(len(documents)) if rows is None else np.array(rows)
    return TokenStream(flat=FlatTokens(tokens=tokens, offsets=offsets), documents=chosen, bos_id=BOS)


def listed(documents: list[list[int]]) -> list[int]:
    return [token for document in documents for token in [BOS, *document]]


@pytest.mark.parametrize("rows", [None, [3, 0], [1], [2, 4, 2]])
def test_a_stream_is_its_documents_behind_each_other(rows):
    stream = stream_of(DOCUMENTS, rows)
    expected = listed(DOCUMENTS if rows is None else [DOCUMENTS[row] for row in rows])
    assert len(stream) == len(expected)
    assert stream.read(np.array([0]), len(stream)).tolist() == [expected]
    for first in range(len(expected)):
        assert stream.read(np.array([first]), len(expected) - first).tolist() == [expected[first:]]


def test_where_documents_begin():
    stream, tokens = stream_of(DOCUMENTS), listed(DOCUMENTS)
    for after in range(-3, len(tokens)):
        for up_to in range(after, len(tokens)):
            expected = BOS in [tokens[p] for p in range(max(0, after + 1), up_to + 1)]
            assert stream.begins_between(np.array([after]), np.array([up_to])).tolist() == [expected]


def run_of(storage: Storage, *overrides: str) -> Run:
    preset = find_preset("length", "smoke", overrides=overrides)
    config = preset.grid[-1]
    return prepare_run(config, Outbox(storage=storage, run_id=config.run_id, report=print), lambda event: None)


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Storage:
    return Storage.at(tmp_path_factory.mktemp("urns"))


def stream_of_run(run: Run) -> np.ndarray:
    stream = TokenStream(flat=run.dataset.flat, documents=run.selection.joined.paper, bos_id=run.cache.bos_id)
    return stream.read(np.array([0]), len(stream))[0]


def test_an_epoch_holds_every_row_once_and_every_token_once_as_a_target(shared):
    run = run_of(shared, "train.batch_size=37")
    tokens, num_rows = stream_of_run(run), (1_301_000 - 1) // 32
    steps = -(-num_rows // 37)
    rows = np.concatenate([batch_of(run, step).rows for step in range(steps)])[:num_rows]
    assert rows.shape == (num_rows, 33)
    in_order = tokens[np.arange(num_rows)[:, None] * 32 + np.arange(33)]
    assert np.array_equal(np.unique(rows, axis=0), np.unique(in_order, axis=0))
    assert np.bincount(rows[:, 1:].ravel()).tolist() == np.bincount(tokens[1 : num_rows * 32 + 1]).tolist()
    assert not batch_of(run, 3).continues.any()
    again = batch_of(run_of(shared, "train.batch_size=37"), 3)
    assert np.array_equal(again.rows, batch_of(run, 3).rows)
    assert not np.array_equal(batch_of(run, 3).rows, batch_of(run, 3 + steps).rows), "each epoch has its own order"


def test_a_lane_goes_on_where_it_was_until_a_document_ends(shared):
    run = run_of(shared, "stream.state=carried", "train.batch_size=4")
    before = batch_of(run, 0)
    assert not before.continues.any(), "nothing stands before the first row of a run"
    ended = 0
    for step in range(1, 90):
        batch = batch_of(run, step)
        follows = batch.rows[:, 0] == before.rows[:, -1]
        # A document that begins in the row before behind its first token, or with this row, ends what was carried.
        begins = (before.rows[:, 1:] == BOS_OF_URNS).any(axis=1)
        assert follows.all() and np.array_equal(batch.continues, ~begins)
        before, ended = batch, ended + begins.sum()
    assert ended == pytest.approx(4 * 89 * 32 / 1301, abs=4)


def test_a_lane_begins_anew_at_the_end_of_its_part(shared):
    run = run_of(shared, "stream.state=carried", "train.batch_size=1000")
    per_lane = ((1_301_000 - 1) // 32) // 1000
    wraps = np.zeros(1000, dtype=int)
    for step in range(1, per_lane + 1):
        batch, before = batch_of(run, step), batch_of(run, step - 1)
        jumped = batch.rows[:, 0] != before.rows[:, -1]
        assert not (jumped & batch.continues).any()
        wraps += ~batch.continues
    assert (wraps >= 1).all() and np.array_equal(batch_of(run, per_lane).rows, batch_of(run, 0).rows)


BOS_OF_URNS = 32


def test_too_little_text_is_said_with_numbers(shared):
    run = run_of(shared, "train.batch_size=50000")
    with pytest.raises(ValueError, match=r"holds 40656 rows of data.window_tokens = 32, fewer than train.batch_size"):
        batch_of(run, 0)


def test_what_cannot_be_trained_or_measured_is_refused_by_its_config():
    config = find_preset("length", "smoke").grid[0]
    for overrides, message in [
        ("data.window_tokens=20", "data.window_tokens = 20 is not possible; use a multiple of model.mini_batch = 8"),
        ("data.window_tokens=64", "data.window_tokens = 64 is not possible; use at most stream.sequence_tokens / 20"),
        ("stream.strides=64", r"stream.strides = \(64,\) is not possible; use strides up to"),
        ("stream.strides=1", "stream.strides = .*strides above 1"),
        ("stream.chunk_tokens=24", "stream.chunk_tokens = 24"),
        ("stream.patience=-1", "stream.patience = -1"),
        ("model.size=gpt-10k", "model.size = 'gpt-10k' is not possible; use one of ttt-20k"),
    ]:
        with pytest.raises(ValueError, match=message):
            find_preset("length", "smoke", overrides=[overrides])
    with pytest.raises(ValueError, match=r"stream.state = 'carried' is not possible; use fresh, or model.mixer=ttt"):
        dataclasses.replace(
            config,
            model=dataclasses.replace(config.model, mixer="full"),
            stream=dataclasses.replace(config.stream, state="carried"),
        )
