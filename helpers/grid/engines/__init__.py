"""What executes the runs of a grid: processes of this machine, a Ray cluster, or a Slurm cluster.

An engine starts jobs, tells of those that ended, and stops. It knows nothing of what they do, and no word of its own
counts: a run is done when its result file is in the storage. Each starts the same child process (`helpers.grid.child`)
for a run, which ends with the process that started it.
"""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

import tyro

from helpers.grid.machine import visible_gpus
from helpers.grid.notebook_job import Job

Report = Callable[[str], None]
Ended = tuple[Job, str | None]
"""A job, and the reason in one line if it failed as far as the engine can tell."""

INSTALLS = {"ray": "ray==2.60.0", "slurm": "submitit==1.5.4"}
"""What an engine needs beside the requirements."""
_MODULES = {"ray": "ray", "slurm": "submitit"}


class Engine(Protocol):
    at_once: int | None
    """The most jobs that it may have at once; None: all there are, it keeps a queue of its own."""

    def start(self, jobs: Sequence[Job]) -> None:
        """Take over `jobs`, no more than there is room for. ValueError if they could never be executed."""

    def wait(self, timeout_s: float) -> list[Ended]:
        """The jobs that ended since the last call; returns without any after `timeout_s` seconds."""

    def stop(self) -> None:
        """End what still runs, and start nothing further. Call it always, and once."""


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """What executes the runs of a grid, and what each run gets."""

    engine: Literal["local", "ray", "slurm"] = "local"
    """Processes of this machine, tasks of a Ray cluster, or one job array of a Slurm cluster."""
    workers: int | None = None
    """Runs at once. None: one a GPU of this machine, or one; on Ray and Slurm as many as there is room for."""
    threads: int | None = None
    """CPU threads of a run. None: this machine's cores shared out; on Ray and Slurm 1."""
    gpus: float | None = None
    """GPUs of a run, on Ray also a part of one, such as 0.5. None: one where this machine or the Ray cluster has any;
    on Slurm none."""
    ray_address: str = ""
    """A Ray cluster that runs, such as auto or HOST:6379. Empty: one is started on this machine."""
    slurm: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="NAME=VALUE")] = ()
    """What submitit is told, such as partition=gpu, account=me or time=600 (minutes, after which a run is requeued from
    its checkpoint); may be given several times. cluster=local tries it on this machine without Slurm."""

    def require_possible(self) -> None:
        """ValueError for options that cannot be, or an engine that is not installed."""
        for name, value in (("workers", self.workers), ("threads", self.threads)):
            if value is not None and value < 1:
                raise ValueError(f"{name} = {value} is not possible; use 1 or more")
        if self.gpus is not None and (self.gpus < 0 or (self.gpus > 1 and self.gpus % 1)):
            raise ValueError(f"gpus = {self.gpus:g} is not possible; use a whole number, or a part such as 0.5")
        for option, value, engine in (("ray-address", self.ray_address, "ray"), ("slurm", self.slurm, "slurm")):
            if value and self.engine != engine:
                raise ValueError(f"--{option} is not possible with --engine {self.engine}; use --engine {engine}")
        if self.gpus is not None and self.gpus % 1 and self.engine != "ray":
            raise ValueError(f"gpus = {self.gpus:g} is not possible with --engine {self.engine}; use --engine ray")
        if self.engine in INSTALLS and importlib.util.find_spec(_MODULES[self.engine]) is None:
            raise ValueError(
                f"engine = {self.engine!r} is not installed: pip install {INSTALLS[self.engine]}; "
                "--engine local needs nothing"
            )

    @property
    def most_at_once(self) -> int | None:
        """Runs in progress at once; None where the cluster decides."""
        return self.workers or (max(1, len(visible_gpus())) if self.engine == "local" else None)

    def open(self, report: Report) -> Engine:
        """The engine, ready for jobs."""
        self.require_possible()
        match self.engine:
            case "local":
                from helpers.grid.engines.local import LocalEngine as Chosen
            case "ray":
                from helpers.grid.engines.ray import RayEngine as Chosen
            case "slurm":
                from helpers.grid.engines.slurm import SlurmEngine as Chosen
        return Chosen(self, report)


LOCAL = EngineOptions()
