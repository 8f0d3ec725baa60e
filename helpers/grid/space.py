"""The disk space of a grid: what its runs hold while they run and afterwards, and whether that fits.

A run in progress holds checkpoints and snapshots. When it is done its checkpoints are deleted and its snapshots
thinned. A few hundred kB a run for its result, notebook and logs are not counted.
"""

import contextlib
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from helpers.config import RunConfig
from helpers.data.token_cache import TokenCache
from helpers.grid.text import size
from helpers.storage import Storage

CHECKPOINT_BYTES_PER_PARAMETER = 12
"""float32 weights and the two moments of AdamW, as if every parameter were trained."""
SNAPSHOT_BYTES_PER_PARAMETER = 4


@dataclass(frozen=True, kw_only=True)
class RunSpace:
    kept_bytes: int
    """Snapshots, once the run is done."""
    peak_bytes: int
    """The most that it holds while it is in progress."""
    held_bytes: int
    """What it holds now."""

    @property
    def growth_bytes(self) -> int:
        """What it adds to the disk by the time it is done."""
        return max(0, self.kept_bytes - self.held_bytes)

    @property
    def passing_bytes(self) -> int:
        """What it needs beside that while it is in progress."""
        return max(0, self.peak_bytes - self.held_bytes) - self.growth_bytes


def run_space(config: RunConfig, num_steps: int, num_parameters: int, storage: Storage) -> RunSpace:
    """The space of a run. At its peak one more checkpoint than are kept is being published, and where scratch lies on
    the disk of the storage, the copy that waits to be delivered is there too."""
    execution = config.execution
    num_made = math.ceil(num_steps / execution.snapshot_every_steps)
    in_progress = min(execution.keep_snapshots, num_made)
    kept = min(execution.keep_evaluated_snapshots, in_progress)
    checkpoints = execution.keep_checkpoints + 1 + on_one_disk(storage)
    per_parameter = checkpoints * CHECKPOINT_BYTES_PER_PARAMETER + in_progress * SNAPSHOT_BYTES_PER_PARAMETER
    return RunSpace(
        kept_bytes=kept * SNAPSHOT_BYTES_PER_PARAMETER * num_parameters,
        peak_bytes=per_parameter * num_parameters,
        held_bytes=folder_bytes(storage.run(config.run_id)),
    )


def unpacked_bytes(config: RunConfig, cache: TokenCache, storage: Storage) -> int:
    """What unpacking the token cache will add to the disk of the storage: nothing where scratch lies on another."""
    if not on_one_disk(storage):
        return 0
    splits = {"train", config.eval.split} & cache.manifest["splits"].keys()
    missing = [split for split in splits if not (storage.flat_tokens(cache.cache_id) / split).exists()]
    return sum(cache.manifest["splits"][split]["tokens"] * cache.dtype.itemsize for split in missing)


def needed_bytes(spaces: Sequence[RunSpace], workers: int) -> int:
    """The most that runs still to do add to the disk, `workers` of them in progress at once."""
    passing = sorted((space.passing_bytes for space in spaces), reverse=True)
    return sum(space.growth_bytes for space in spaces) + sum(passing[:workers])


def require_space(needed: int, config: RunConfig, storage: Storage) -> None:
    """ValueError if the disk of `storage` has less than `needed` bytes free; it names what makes a grid smaller."""
    free = shutil.disk_usage(storage.root).free
    if needed <= free:
        return
    execution = config.execution
    raise ValueError(
        f"the runs still to do need {size(needed)}, but the disk of {storage.root} has {size(free)} free; no run was "
        f"started. Lower execution.keep_snapshots = {execution.keep_snapshots}, execution.keep_evaluated_snapshots = "
        f"{execution.keep_evaluated_snapshots} or execution.keep_checkpoints = {execution.keep_checkpoints}, raise "
        f"execution.snapshot_every_steps = {execution.snapshot_every_steps} (none of them changes a number), choose a "
        f"smaller model.size than {config.model.size}, start fewer workers, or use another --storage"
    )


def on_one_disk(storage: Storage) -> bool:
    """Whether scratch takes space from the same disk as the storage."""
    return _disk_of(storage.scratch) == _disk_of(storage.root)


def _disk_of(folder: Path) -> int:
    """Where a folder lies, or will: that of the nearest one that is there."""
    return os.stat(next(place for place in (folder, *folder.absolute().parents) if place.exists())).st_dev


def folder_bytes(folder: Path) -> int:
    """The bytes of all files below `folder`, 0 if there is none."""
    num_bytes = 0
    for file in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # a run that is in progress elsewhere has deleted it meanwhile
            num_bytes += file.stat().st_size if file.is_file() else 0
    return num_bytes
