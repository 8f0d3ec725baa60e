"""Runs in processes of this machine: the default, which needs nothing beside it."""

import shutil
import time
from collections.abc import Sequence

from helpers.grid.engines import Ended, EngineOptions, Report
from helpers.grid.machine import num_cores, visible_gpus
from helpers.grid.notebook_job import Child, Job, end, thread_share

_GLANCE_S = 0.1


class LocalEngine:
    """One child process a job, with its share of the cores and, where there are any, a GPU of its own."""

    def __init__(self, options: EngineOptions, report: Report) -> None:
        gpus = visible_gpus()
        per_run = int(bool(gpus) if options.gpus is None else options.gpus)
        if per_run > len(gpus):
            raise ValueError(f"gpus = {per_run} is not possible: this machine shows {len(gpus)}; use no more")
        self._slots = [gpus[i * per_run : (i + 1) * per_run] for i in range(len(gpus) // per_run if per_run else 1)]
        self.at_once = options.workers or len(self._slots)
        self._threads = options.threads or max(1, num_cores() // self.at_once)
        self._report, self._running = report, {}

    def start(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._report(f"start {job.name}")
            slot = self._free_slot()
            shown = {"CUDA_VISIBLE_DEVICES": ",".join(self._slots[slot])} if visible_gpus() else {}
            self._running[Child.start(job, thread_share(self._threads) | shown, own_session=True)] = slot

    def wait(self, timeout_s: float) -> list[Ended]:
        deadline = time.monotonic() + timeout_s
        while True:
            ended = [child for child in self._running if child.process.poll() is not None]
            if ended or time.monotonic() >= deadline:
                break
            time.sleep(_GLANCE_S)
        for child in ended:
            del self._running[child]
        return [(child.job, child.finish()) for child in ended]

    def stop(self) -> None:
        end(list(self._running))
        for child in self._running:
            shutil.rmtree(child.sockets, ignore_errors=True)
        self._running.clear()

    def _free_slot(self) -> int:
        """The slot with the fewest runs: with more workers than GPUs, some share one."""
        taken = list(self._running.values())
        return min(range(len(self._slots)), key=taken.count)
