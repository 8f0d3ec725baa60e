"""How far a run is, told from its storage alone: any process, tab or later day sees the same."""

from dataclasses import dataclass
from typing import Literal

from helpers.config import RunConfig
from helpers.runs.result_file import finished_result
from helpers.storage import Storage


@dataclass(frozen=True, kw_only=True)
class RunState:
    state: Literal["done", "begun", "new"]
    step: int | None = None
    """The newest checkpoint of a run that was begun."""
    xe: float | None = None
    """Nats per token at the end of a done run."""

    def __str__(self) -> str:
        return f"begun, step {self.step:,}" if self.state == "begun" else self.state


def run_state(config: RunConfig, storage: Storage) -> RunState:
    """done: the result file exists and reads. begun: a checkpoint exists. new: neither.

    ValueError if the run is done, but was measured on other data than its source holds now.
    """
    result = finished_result(config, storage, lambda fault: None)  # the analysis names a damaged file, and why
    if result is not None:
        return RunState(state="done", xe=result.summaries[-1]["xe"])
    steps = storage.checkpoint_steps(config.run_id)
    return RunState(state="begun", step=steps[0]) if steps else RunState(state="new")
