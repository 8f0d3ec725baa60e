"""Runs as one job array of a Slurm cluster, through submitit; `--slurm cluster=local` tries it on this machine.

A job is requeued when it is pre-empted or its time is over, and goes on from the run's own checkpoint; one that ended
without an answer (cancelled, its machine lost) is submitted again by the driver. Jobs outlive the driver, as everything
does that Slurm was given; without Slurm they end with it, for nothing else would.
"""

import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import submitit

from helpers.grid.engines import Ended, EngineOptions, Report
from helpers.grid.notebook_job import Job, execute, thread_share
from helpers.parents import die_with_parent

_GLANCE_S = 0.5
_MOST_SUBMISSIONS = 5  # of one job that ends without an answer
_MOST_TIME_OUTS = 1000  # a run of weeks is requeued many times
_STOP_GRACE_S = 20.0
_ALIVE = ("PENDING", "CONFIGURING", "RUNNING", "REQUEUED", "SUSPENDED", "COMPLETING", "PREEMPTED")
_MINUTES = 240
"""After which a run is requeued where nothing else was said."""


class SlurmEngine:
    """One job of an array a run. ValueError without a Slurm, or for a parameter that submitit does not know."""

    def __init__(self, options: EngineOptions, report: Report) -> None:
        told = dict(_pair(word) for word in options.slurm)
        self._cluster = told.pop("cluster", "slurm")
        if self._cluster not in ("slurm", "local"):
            raise ValueError(f"slurm = 'cluster={self._cluster}' is not possible; use cluster=slurm or cluster=local")
        if self._cluster == "slurm" and shutil.which("srun") is None:
            raise ValueError("engine = 'slurm' is not possible: there is no srun here; use --engine local")
        self._is_local = self._cluster == "local"
        self.at_once = (options.workers or 1) if self._is_local else None
        self._threads, self._report = options.threads or 1, report
        self._parameters = {
            "name": "ergodic", "timeout_min": told.pop("time", _MINUTES), "cpus_per_task": self._threads,
            "gpus_per_node": int(options.gpus or 0), "slurm_array_parallelism": options.workers or 256,
        } | {f"slurm_{name}": value for name, value in told.items()}  # fmt: skip
        self._submitted: dict[submitit.Job, Job] = {}
        self._times: dict[str, int] = {}

    def start(self, jobs: Sequence[Job]) -> None:
        """Submit one array, without the runs whose jobs an earlier driver has left in Slurm: those are waited for."""
        earlier = {} if self._is_local else {_earlier(job): job for job in jobs}
        earlier.pop(None, None)
        self._submitted |= earlier
        jobs = [job for job in jobs if job not in earlier.values()]
        if earlier:
            self._report(f"{len(earlier)} jobs of an earlier call are still in Slurm: they are waited for")
        if jobs:
            self._submit(jobs)

    def _submit(self, jobs: Sequence[Job]) -> None:
        executor = self._executor(jobs[0])
        driver = os.getpid() if self._is_local else None
        with executor.batch():
            submitted = [executor.submit(NotebookJob(), job, self._threads, driver) for job in jobs]
        for handle, job in zip(submitted, jobs, strict=True):
            self._submitted[handle] = job
            self._times[job.name] = self._times.get(job.name, 0) + 1
            _id_file(job).write_text(handle.job_id, encoding="utf-8")
        self._report(f"submitted {len(jobs)} jobs: {', '.join(handle.job_id for handle in submitted)}")

    def wait(self, timeout_s: float) -> list[Ended]:
        deadline, ended = time.monotonic() + timeout_s, []
        while not ended and time.monotonic() < deadline:
            time.sleep(min(_GLANCE_S, timeout_s))
            for handle in [handle for handle in self._submitted if handle.done()]:
                job = self._submitted.pop(handle)
                if handle.paths.result_pickle.exists() or job.storage.result(job.name).exists():
                    ended.append((job, _answer(handle)))
                elif self._times.get(job.name, 0) < _MOST_SUBMISSIONS:
                    self._report(f"job {handle.job_id} of {job.name} ended without an answer ({handle.state})")
                    self._submit([job])
                else:
                    ended.append((job, f"its job ended {_MOST_SUBMISSIONS} times without an answer"))
        return ended

    def stop(self) -> None:
        for handle in self._submitted:
            handle.cancel(check=False)
        deadline = time.monotonic() + _STOP_GRACE_S
        while not all(handle.done() for handle in self._submitted) and time.monotonic() < deadline:
            time.sleep(_GLANCE_S)

    def _executor(self, job: Job) -> submitit.AutoExecutor:
        limit = {f"{self._cluster}_max_num_timeout": _MOST_TIME_OUTS}
        executor = submitit.AutoExecutor(_folder(job), cluster=self._cluster, **limit)
        try:
            executor.update_parameters(**self._parameters)
        except (NameError, AssertionError, ValueError) as error:
            raise ValueError(f"--slurm: {str(error).splitlines()[0]}") from error
        return executor


class NotebookJob(submitit.helpers.Checkpointable):
    """What a job does: the child process and nothing else, so that beginning anew is going on from its checkpoint."""

    def __call__(self, job: Job, threads: int, driver: int | None) -> str | None:
        controller = psutil.Process().parent()
        die_with_parent(controller.pid)  # submitit lets a job go on whose controller is gone

        def is_wanted() -> bool:
            return driver is None or controller.ppid() == driver

        return execute(job, thread_share(threads), is_wanted)

    def checkpoint(self, *arguments: object) -> submitit.helpers.DelayedSubmission:
        return submitit.helpers.DelayedSubmission(self, *arguments)


def _folder(job: Job) -> Path:
    return job.storage.scratch / "slurm"


def _id_file(job: Job) -> Path:
    return _folder(job) / f"{job.name}.job"


def _earlier(job: Job) -> submitit.Job | None:
    """The job that was submitted last for a run, if Slurm still has it."""
    if not _id_file(job).exists():
        return None
    handle = submitit.SlurmJob(_folder(job), _id_file(job).read_text(encoding="utf-8"))
    return handle if handle.state in _ALIVE else None


def _answer(handle: submitit.Job) -> str | None:
    if not handle.paths.result_pickle.exists():
        return None
    error = handle.exception()
    return handle.result() if error is None else f"its job failed: {str(error).strip().splitlines()[-1]}"


def _pair(word: str) -> tuple[str, str | int]:
    name, separator, value = word.partition("=")
    if not separator or not name.isidentifier() or not value:
        raise ValueError(f"slurm = {word!r} is not possible; use NAME=VALUE, such as partition=gpu")
    return name, int(value) if value.isdecimal() else value
