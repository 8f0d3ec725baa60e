"""What the runs of this study do beside the shared loop: a forecast before the first step, beliefs beside XE."""

from accelerate import Accelerator

from helpers.runs.checkpoints import Tensors
from helpers.runs.result_file import Measured
from helpers.studies.ergodic.beliefs.measure import belief_rows
from helpers.studies.ergodic.forecasts.write import forecast_rows, write_forecast
from helpers.training.recipe import Recipe, evaluate_xe
from helpers.training.run import Run
from helpers.training.state import TrainState, window_state
from helpers.training.together import rank


def start(run: Run, accelerator: Accelerator) -> TrainState:
    """The state at step 0, once it is written what theory says of the run."""
    if rank() == 0:
        write_forecast(run)
    return window_state(run, accelerator)


def evaluate(run: Run, weights: Tensors, step: int) -> Measured:
    """XE of each active component; what of the exact posterior can be read from the model; the forecast."""
    measured = evaluate_xe(run, weights, step)
    further = [*belief_rows(run, weights, step), *forecast_rows(run, step)]
    return Measured(rows=[*measured.rows, *further], summary=measured.summary)


RECIPE = Recipe(start=start, evaluate=evaluate, splits=True)
