"""Runs as tasks of a Ray cluster, one that is started on this machine or one that runs (`--ray-address`).

Each machine of the cluster needs the project at the same path, the same packages, and the storage. Ray counts what a
task asks for and hides what it did not: a run sees the GPUs that it was given, or none.
"""

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator, Sequence

import ray

from helpers.grid.engines import Ended, EngineOptions, Report
from helpers.grid.machine import num_cores
from helpers.grid.notebook_job import Job, execute, thread_share

_RETRIES = 2  # after the death of a worker
_STARTS = 3
_STOP_GRACE_S = 20.0
_OBJECT_STORE_BYTES = 100 * 2**20  # tasks pass names, and no data


class RayEngine:
    """One task a job. ValueError for a cluster that cannot be reached, or a request that it can never meet."""

    def __init__(self, options: EngineOptions, report: Report) -> None:
        with _own_sigterm():
            if options.ray_address:
                _join(options.ray_address)
            else:
                _begin_here(report)
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = options.gpus if options.gpus is not None else float(any(node.get("GPU") for node in nodes))
        self._request = {"num_cpus": options.threads or 1, "num_gpus": gpus}
        self.at_once = options.workers
        self._waiting: dict[ray.ObjectRef, Job] = {}
        try:
            _require_room(self._request, nodes)
        except ValueError:
            ray.shutdown()
            raise
        report(f"Ray: {_words(nodes)}; each run asks for {_share(**self._request)}")

    def start(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            task = _work.options(**self._request, max_retries=_RETRIES, name=job.name)
            self._waiting[task.remote(job, self._request["num_cpus"])] = job

    def wait(self, timeout_s: float) -> list[Ended]:
        ready, _ = ray.wait(list(self._waiting), timeout=timeout_s)
        return [(self._waiting.pop(task), _answer(task)) for task in ready]

    def stop(self) -> None:
        for task in self._waiting:
            ray.cancel(task, force=False)  # an interrupt in the worker, which ends its child
        if self._waiting:
            ray.wait(list(self._waiting), num_returns=len(self._waiting), timeout=_STOP_GRACE_S)
        ray.shutdown()


@ray.remote
def _work(job: Job, threads: int) -> str | None:
    """In a worker: a plain value always, for Ray cannot carry every exception, and tries again when a worker exits."""
    gpus = ",".join(map(str, ray.get_gpu_ids()))  # without any, a task would see all of them
    return execute(job, thread_share(threads) | {"CUDA_VISIBLE_DEVICES": gpus})


def _answer(task: ray.ObjectRef) -> str | None:
    try:
        return ray.get(task)
    except ray.exceptions.WorkerCrashedError:
        return f"{_RETRIES + 1} Ray workers died under it"
    except ray.exceptions.RayError as error:
        return f"Ray could not execute it ({type(error).__name__}: {str(error).strip().splitlines()[0]})"


def _join(address: str) -> None:
    """Join the cluster that runs at `address`. ValueError if there is none."""
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError as error:
        raise ValueError(
            f"ray_address = {address!r} cannot be reached ({error}); start a cluster with `ray start --head`, "
            "or leave --ray-address out: one is started on this machine"
        ) from error


def _begin_here(report: Report) -> None:
    """Start a cluster of this machine's cores and GPUs. RuntimeError if Ray cannot: on a busy machine its own parts
    give each other too little time, so it is tried more than once."""
    for left in reversed(range(_STARTS)):
        try:
            ray.init(
                "local", num_cpus=num_cores(), object_store_memory=_OBJECT_STORE_BYTES, include_dashboard=False,
                log_to_driver=False, logging_level=logging.ERROR,
            )  # fmt: skip
            return
        except Exception as error:  # of no type of its own
            ray.shutdown()
            words = f"Ray could not start on this machine ({' '.join(str(error).split())})"
            if not left:
                raise RuntimeError(f"{words}; no run was started. Try again when the machine is less busy") from error
            report(f"{words}; it is tried again")


@contextlib.contextmanager
def _own_sigterm() -> Iterator[None]:
    """What Ray sets for SIGTERM is undone: it would exit without ending the runs."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


def _require_room(request: dict[str, float], nodes: list[dict[str, float]]) -> None:
    """A request that no machine can meet would wait for ever, and look like a queue."""
    if not any(
        node.get("CPU", 0) >= request["num_cpus"] and node.get("GPU", 0) >= request["num_gpus"] for node in nodes
    ):
        raise ValueError(
            f"each run asks for {_share(**request)}, but no machine of the Ray cluster has that ({_words(nodes)}); "
            "nothing was submitted. Lower --threads or --gpus"
        )


def _words(nodes: list[dict[str, float]]) -> str:
    return "; ".join(_share(node.get("CPU", 0), node.get("GPU", 0)) for node in nodes)


def _share(num_cpus: float, num_gpus: float) -> str:
    return f"{num_cpus:g} CPU, {num_gpus:g} GPU"
