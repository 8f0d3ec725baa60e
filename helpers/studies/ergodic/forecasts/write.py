"""What theory says of a run, written before its first step; the result carries the same numbers.

Where the source's law is known, the forecast is the exact value: XE of an ideal learner of the run's mixture, on the
very windows of its evaluation, and its matched dXE. Elsewhere theory bounds matched dXE alone, between 0 and ln K / T.
A model that loses less than the exact value has seen what it should not have; what it loses more, it has not learned.

The forecast lies in `runs/<run_id>/forecast.json`. It counts where it was written before the training started. The
file alone says when: a result's rows are the same, bit for bit, whenever the run was trained.
"""

import datetime
import math
from pathlib import Path

import numpy as np

from helpers.config import SYNTHETIC_SOURCE
from helpers.data.flat_tokens import flat_tokens
from helpers.data.window_dataset import read_windows
from helpers.evaluation.bayes import BayesReference
from helpers.evaluation.windows import evaluation_windows
from helpers.outbox import pending_or_delivered
from helpers.runs.config_file import put_sealed, read_own
from helpers.runs.result_file import Row
from helpers.studies.ergodic.forecasts.place import NUMBERS, forecast_path
from helpers.training.run import Run

KIND = "forecast"


def write_forecast(run: Run) -> None:
    """Write the forecast of a run that has not started, once."""
    folder = run.storage.run(run.config.run_id)
    if _exists(run, forecast_path(run.storage, run.config.run_id)):
        return
    if _exists(run, folder / "provenance.json"):
        run.outbox.report("no forecast is written: the run was begun before there was one, so that it could not count")
        return
    written = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    put_sealed(run.outbox, forecast_path(run.storage, run.config.run_id), forecast(run) | {"written": written})


def forecast(run: Run) -> Row:
    """`xe` and matched `dxe` of an ideal learner on the evaluation windows, None where the source's law is not known,
    and `bound`, the most that its matched dXE can be (nats per token)."""
    config = run.config
    bound = math.log(config.k) / (config.data.window_tokens - 1)
    if config.data.source != SYNTHETIC_SOURCE:
        return {"xe": None, "dxe": None, "bound": bound}
    bayes = BayesReference(config, run.cache, run.selection)
    flat = flat_tokens(run.cache, config.eval.split, run.storage)
    values = []
    for name in run.selection.components:
        windows = evaluation_windows(config.data, config.eval, run.cache, name)
        values.append(bayes.values(read_windows(flat, windows, config.data.window_tokens), windows.paper))
    xe, known = (float(np.mean([value[key] for value in values])) for key in ("bayes_xe", "bayes_known_xe"))
    return {"xe": xe, "dxe": xe - known, "bound": bound}


def forecast_rows(run: Run, step: int) -> list[Row]:
    """The run's forecast as a row of its result; none where there is none."""
    path = forecast_path(run.storage, run.config.run_id)
    run.storage.look(path)
    try:
        content = read_own(run.outbox, path)
    except FileNotFoundError:
        return []
    except ValueError as error:
        run.outbox.report(f"the forecast does not count: {error}")
        return []
    return [{"kind": KIND, "step": step} | {name: content[name] for name in NUMBERS}]


def _exists(run: Run, path: Path) -> bool:
    return run.storage.has(path) or pending_or_delivered(run.storage, run.config.run_id, path).exists()
