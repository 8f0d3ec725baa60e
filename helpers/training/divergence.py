"""Whether a run diverges: a mean loss far above its own running mean, or one that is no number."""

import math

from helpers.training.run import Run, TrainingFailed
from helpers.training.state import Stepped, TrainState

_EVERY_STEPS = 50
"""How many steps a mean loss is of that is judged: whether a run diverges hangs on nothing that is not hashed."""
_DECAY = 0.9  # of the running mean of those


def judge_loss(run: Run, state: TrainState, stepped: Stepped, *, is_last: bool) -> None:
    """Add the loss of a step, and judge the mean of each `_EVERY_STEPS`, and of the last ones. TrainingFailed if it
    diverges."""
    state.loss.add(stepped.loss)
    if state.step % _EVERY_STEPS and not is_last:
        return
    loss = float(state.loss.total) / state.loss.num_steps
    mean = loss if state.loss.mean is None else state.loss.mean
    if not math.isfinite(loss) or loss > run.config.train.divergence_factor * mean:
        raise diverged(run, state, loss)
    state.loss.mean = _DECAY * mean + (1 - _DECAY) * loss
    state.loss.total, state.loss.num_steps = 0.0, 0


def diverged(run: Run, state: TrainState, loss: float) -> TrainingFailed:
    """The end of a run whose loss is `loss`, in words."""
    mean = loss if state.loss.mean is None else state.loss.mean
    limit = f"{run.config.train.divergence_factor} times its running mean of {mean:.4f}"
    return TrainingFailed(
        f"{run.config.run_id} diverged at step {state.step:,}: loss {loss:.4f} against {limit}; {run.kept}. "
        "Try a lower train.peak_lr or a longer train.warmup_steps (each makes a run of its own)"
    )
