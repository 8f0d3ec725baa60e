"""A run that is done, measured once more: at its end or at one of its snapshots (`python -m helpers eval`)."""

from collections.abc import Sequence
from pathlib import Path

from helpers.config import RunConfig
from helpers.processes import require_one_process
from helpers.runs.checkpoints import load_snapshot
from helpers.runs.events import Subscriber, print_events
from helpers.runs.result_file import finished_result, put_result
from helpers.storage import Storage
from helpers.training.held_run import held_run
from helpers.training.recipe import WINDOWS, Recipe
from helpers.training.run import prepare_run


def evaluate_again(
    config: RunConfig,
    storage: Storage,
    step: int | None = None,
    subscribers: Sequence[Subscriber] = (print_events,),
    recipe: Recipe = WINDOWS,
) -> Path:
    """Measure a retained snapshot of a run that is done, and write what was found into its result file.

    ValueError if the run is not done, or the step (the last one by default) was not retained. What other evaluations
    wrote stays: this one holds the run, and reads the file once it has measured.
    """
    require_one_process("an evaluation is one process's work")
    with held_run(config, storage, subscribers) as (outbox, emit):
        result = finished_result(config, storage, outbox.report)
        if result is None:
            raise ValueError(f"run = {config.run_id!r} has no result in {storage.address}; train it first")
        step = result.run["steps"] if step is None else step
        weights = load_snapshot(storage, config.run_id, step)
        run = prepare_run(config, outbox, emit)
        put_result(outbox, result.replaced(step, recipe.evaluate(run, weights, step)))
        run.finish_delivery()
    return storage.result(config.run_id)
