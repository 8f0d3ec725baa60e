"""An engine that starts nothing: each job ends at once as a function says."""

from collections.abc import Callable, Sequence

import pytest

from helpers.grid.engines import Ended, EngineOptions
from helpers.grid.notebook_job import Job


class FakeEngine:
    at_once = 1

    def __init__(self, execute: Callable[[Job], str | None]) -> None:
        self._execute, self._jobs = execute, []

    def start(self, jobs: Sequence[Job]) -> None:
        self._jobs += jobs

    def wait(self, timeout_s: float) -> list[Ended]:
        jobs, self._jobs = self._jobs, []
        return [(job, self._execute(job)) for job in jobs]

    def stop(self) -> None:
        pass


def use_fake(monkeypatch: pytest.MonkeyPatch, execute: Callable[[Job], str | None]) -> None:
    """Let every grid be executed by `execute`, which returns why a job failed."""
    monkeypatch.setattr(EngineOptions, "open", lambda self, report: FakeEngine(execute))
