"""A run that is done and tidy, told without torch, whose import would take longer than all there is to do."""

from pathlib import Path

from helpers.config import RunConfig
from helpers.locks import is_held
from helpers.outbox import Outbox
from helpers.runs.config_file import config_path, read_own
from helpers.runs.events import Finished, Notice, print_events
from helpers.runs.result_file import read_result, require_same_data
from helpers.storage import Storage


def tidy_end(config: RunConfig, storage: Storage) -> Path | None:
    """The result of a run at whose end nothing is left to write, mend or delete, which is told; else None, and
    `train_single_k` does what is left. ValueError if it was measured on other data than its source holds now."""
    if storage.store:  # what it lacks, only a look at it tells
        return None
    path = storage.result(config.run_id)
    outbox = Outbox(storage=storage, run_id=config.run_id, report=lambda text: print_events(Notice(text=text)))
    try:
        result = read_result(path)
        for record in (config_path(storage, config.run_id), storage.run(config.run_id) / "provenance.json"):
            read_own(outbox, record)
    except (OSError, ValueError, LookupError):
        return None
    if result.run["run_id"] != config.run_id or _is_untidy(config, storage):
        return None
    require_same_data(config, result)
    print_events(Finished(run_id=config.run_id, path=path))
    return path


def _is_untidy(config: RunConfig, storage: Storage) -> bool:
    run_id = config.run_id
    snapshots = storage.snapshot(run_id, 0).parent
    folders = (storage.root, storage.run(run_id), snapshots, storage.results(), storage.outbox(run_id))
    return (
        is_held(storage.lock(run_id))
        or storage.checkpoints(run_id).exists()
        or len(list(snapshots.glob("step_*"))) > config.execution.keep_evaluated_snapshots
        or any(list(folder.glob(".*partial*")) for folder in folders)
        or any(storage.outbox(run_id).glob("*"))
    )
