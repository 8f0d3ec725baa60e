"""What a step may say beside its loss: rows that it measured, and steps that its phase leaves out."""

import dataclasses

import pytest

from helpers.runs.result_file import read_result
from helpers.training.recipe import WINDOWS
from helpers.training.state import window_step
from helpers.training.train_single_k import train_single_k
from tests.small_run import CONFIG, Interrupted, interrupt_at

END = CONFIG.train.steps


def step(run, state):
    """From step 5 to step 9 at once, with a row and a summary behind it."""
    stepped = window_step(run, state)
    if state.step != 4:
        return stepped
    rows = ({"kind": "found", "step": 5, "value": 1.5}, {"kind": "summary", "step": 5, "xe": 3.0})
    return dataclasses.replace(stepped, skipped_steps=4, rows=rows)


RECIPE = dataclasses.replace(WINDOWS, step=step)


def test_skipped_steps_are_not_trained_and_rows_are_in_the_result_after_an_interruption(storage) -> None:
    seen = []

    def watched(run, state):
        seen.append(state.step)
        return step(run, state)

    with pytest.raises(Interrupted):
        train_single_k(CONFIG, storage, [interrupt_at(20)], dataclasses.replace(RECIPE, step=watched))
    assert seen[:7] == [0, 1, 2, 3, 4, 9, 10]
    train_single_k(CONFIG, storage, (), RECIPE)
    result = read_result(storage.result(CONFIG.run_id))
    assert result.run["steps"] == END
    assert result.rows_of("found") == [{"kind": "found", "step": 5, "value": 1.5}]
    assert [row["step"] for row in result.summaries] == [5, END]
