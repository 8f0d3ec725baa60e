"""What a run works with: its cache, its papers, its windows, and the outbox of its files; and how it may end early."""

from dataclasses import dataclass

from helpers.config import RunConfig
from helpers.data.components import Selection, select
from helpers.data.fetch_arxiv import ensure_cache
from helpers.data.flat_tokens import flat_tokens
from helpers.data.token_cache import TokenCache
from helpers.data.window_dataset import WindowDataset
from helpers.evaluation.windows import require_evaluation
from helpers.outbox import Outbox
from helpers.runs.events import Subscriber
from helpers.runs.length import order_of
from helpers.storage import Storage


class TrainingFailed(RuntimeError):
    """A run that diverged; its last good checkpoint is kept."""


class TimeIsUp(RuntimeError):
    """A run that stopped at its `max_minutes`, with a checkpoint."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run works with, all of it derived from its config."""

    config: RunConfig
    storage: Storage
    cache: TokenCache
    selection: Selection
    dataset: WindowDataset
    outbox: Outbox
    emit: Subscriber

    @property
    def num_steps(self) -> int:
        """The most that it trains: a step may end it earlier."""
        return self.dataset.order.num_steps

    @property
    def kept(self) -> str:
        """What an end before the last step leaves, in words."""
        steps = self.storage.checkpoint_steps(self.config.run_id)
        return f"the checkpoint of step {steps[0]:,} is kept" if steps else "no checkpoint had been written yet"

    def finish_delivery(self) -> None:
        """Deliver everything that waits in the outbox; StorageAway if the storage does not take it in time."""
        self.outbox.finish(60 * self.config.execution.storage_patience_minutes)


def prepare_run(config: RunConfig, outbox: Outbox, emit: Subscriber) -> Run:
    """The run's cache, built if it is missing, and its windows.

    What the evaluation needs is looked for now, and its tokens are unpacked: hours later they need no storage, and
    neither a damaged part nor a component without windows is found only then.
    """
    storage = outbox.storage
    cache = ensure_cache(config.data, storage, report=outbox.report)
    selection = select(config, cache)
    require_evaluation(config.data, config.eval, cache, selection.components)
    flat = flat_tokens(cache, "train", storage, outbox.report)
    flat_tokens(cache, config.eval.split, storage, outbox.report)
    dataset = WindowDataset(flat=flat, order=order_of(config, selection))
    return Run(
        config=config, storage=storage, cache=cache, selection=selection, dataset=dataset, outbox=outbox, emit=emit
    )
