"""What a study's runs do in the shared loop: how a run starts, what a step is, what is measured, and when.

A recipe is the loop's only seam. The loop keeps the rest: which step comes next, logs, checkpoints, the end.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from accelerate import Accelerator

from helpers.evaluation.eval_xe import evaluate
from helpers.runs.checkpoints import Tensors
from helpers.runs.result_file import Measured
from helpers.training.run import Run
from helpers.training.state import Stepped, TrainState, window_state, window_step


def evaluate_xe(run: Run, weights: Tensors, step: int) -> Measured:
    """XE of each active component on the evaluation windows."""
    return evaluate(run.config, run.storage, run.cache, run.selection, weights, step, run.emit)


def at_the_end(run: Run) -> Sequence[int]:
    """No step on the way."""
    return ()


def no_judgement(run: Run, state: TrainState, measured: Measured) -> None:
    """A measurement on the way changes nothing."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """By default: windows in, cross entropy out, XE measured at the end."""

    start: Callable[[Run, Accelerator], TrainState] = window_state
    """The state at step 0, a function of the run's seed."""
    step: Callable[[Run, TrainState], Stepped] = window_step
    """One update of the state, whose `step` the loop counts. A function of the state and the run alone: what it draws
    comes from (seed, step), what it remembers is in the state."""
    evaluate: Callable[[Run, Tensors, int], Measured] = evaluate_xe
    """(run, weights, step): rows of any kind, each with `kind` and `step`, and a summary with `xe` (nats per token)."""
    evaluate_at: Callable[[Run], Sequence[int]] = at_the_end
    """The steps on the way at which is measured too, 0 being the untrained model; the end always is."""
    judge: Callable[[Run, TrainState, Measured], None] = no_judgement
    """What a measurement on the way changes in the state, such as a counter of patience in `extra`: the state and the
    rows that it comes from lie in the same checkpoint."""
    splits: bool = False
    """Whether several processes may do a step together: each computes its share of the batch, gradients are summed over
    them, and no measurement changes the state, for only the first process measures."""


WINDOWS = Recipe(splits=True)
