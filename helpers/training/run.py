"""What a run works with: its cache, its papers, its windows, and the outbox of its files."""

from dataclasses import dataclass

from helpers.config import RunConfig
from helpers.data.components import Selection, select
from helpers.data.fetch_arxiv import ensure_cache
from helpers.data.token_cache import TokenCache, flat_tokens
from helpers.data.window_dataset import WindowDataset
from helpers.data.window_order import window_order
from helpers.outbox import Outbox
from helpers.runs.events import Subscriber
from helpers.storage import Storage


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
        return self.dataset.order.num_steps


def prepare_run(config: RunConfig, outbox: Outbox, emit: Subscriber) -> Run:
    """The run's cache, built if it is missing, and its windows.

    The evaluation's tokens are unpacked here too: hours later they need no storage, and a damaged part is found now.
    """
    storage = outbox.storage
    cache = ensure_cache(config.data, storage, report=outbox.report)
    selection = select(config, cache)
    flat = flat_tokens(cache, "train", storage, outbox.report)
    flat_tokens(cache, config.eval.split, storage, outbox.report)
    dataset = WindowDataset(flat=flat, order=window_order(config, selection))
    return Run(
        config=config, storage=storage, cache=cache, selection=selection, dataset=dataset, outbox=outbox, emit=emit
    )
