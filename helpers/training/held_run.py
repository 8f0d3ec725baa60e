"""A run in one process's hands: its lock, its outbox, and the words in which its storage fails."""

import contextlib
from collections.abc import Iterator, Sequence

from helpers.config import RunConfig
from helpers.locks import exclusive
from helpers.outbox import Outbox, StorageAway
from helpers.runs.events import Event, Notice, Subscriber
from helpers.storage import Storage


@contextlib.contextmanager
def held_run(
    config: RunConfig, storage: Storage, subscribers: Sequence[Subscriber]
) -> Iterator[tuple[Outbox, Subscriber]]:
    """A run that no other process of this machine has, its outbox with what earlier sessions left delivered, and what
    tells the subscribers of an event. A file that cannot be read or deleted ends it with words."""

    def emit(event: Event) -> None:
        for subscriber in subscribers:
            subscriber(event)

    outbox = Outbox(storage=storage, run_id=config.run_id, report=lambda text: emit(Notice(text=text)))
    with exclusive(storage.lock(config.run_id), f"run {config.run_id}"):
        try:
            outbox.finish(60 * config.execution.storage_patience_minutes)
            if storage.store:
                storage.store.pull_run(storage.run(config.run_id))
            yield outbox, emit
        except OSError as error:
            raise StorageAway(
                f"run {config.run_id} stopped: {error.filename or storage.address} cannot be used now "
                f"({error.strerror or error}); what it had finished is kept. "
                "Run the same again when the storage is back: it goes on from there"
            ) from error
