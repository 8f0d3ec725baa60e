"""The parent's side of a notebook that is executed in a child process."""

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers.repository import NOTEBOOK_FOLDERS, ROOT
from helpers.runs.status import FAILURE
from helpers.storage import Storage, publish_text, require_name

_STOP_GRACE_S = 15


@dataclass(frozen=True, kw_only=True)
class Job:
    """A notebook to execute; its output is written on local disk and published as `storage.notebook(name)`.

    ValueError for a notebook from outside of the repository, or one without these parameters.
    """

    name: str
    notebook: Path
    parameters: dict[str, Any]
    storage: Storage

    def __post_init__(self) -> None:
        if self.notebook.resolve().parent not in NOTEBOOK_FOLDERS:
            raise ValueError(
                f"notebook = {str(self.notebook)!r} is not one of the repository's; only those in {ROOT} are executed"
            )
        if missing := sorted(self.parameters.keys() - parameter_names(self.notebook)):
            raise ValueError(f"{self.notebook.name} has no parameter {missing[0]} in its cell tagged `parameters`")

    @property
    def folder(self) -> Path:
        return self.storage.scratch / "notebooks" / require_name(self.name)

    @property
    def output(self) -> Path:
        return self.folder / "output.ipynb"

    @property
    def failure(self) -> Path:
        """Receives the reason, if a cell fails."""
        return self.folder / "failure.txt"


@dataclass
class Children:
    """The processes that run at present, so that all can be ended at once."""

    stopping: bool = False
    _running: set[subprocess.Popen] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def execute(self, job: Job, threads: int) -> str | None:
        """Run `job` to its end with so many CPU threads; the reason in one line if its notebook failed.

        The executed notebook is published either way. A child that is ended from outside fails with its signal.
        """
        # A socket's path may have about 100 characters, which a scratch folder's can exceed: hence /tmp.
        with tempfile.TemporaryDirectory(prefix="ergodic-", dir="/tmp", ignore_cleanup_errors=True) as sockets:
            orders = _prepare(job, sockets)
            code = self._run(orders, threads)
        if code is None:
            return "stopped"
        reason = _reason(code, job)
        kept = _publish_output(job, reason)
        return reason or kept

    def _run(self, orders: Path, threads: int) -> int | None:
        """The exit code of a child that follows `orders`; None if no child may start any more."""
        with open(orders.with_name("child.log"), "wb") as log:
            with self._lock:
                if self.stopping:
                    return None
                process = subprocess.Popen(
                    [sys.executable, "-m", "helpers.grid.child", str(orders)],
                    cwd=ROOT, env=_environment(threads), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    start_new_session=True,
                )  # fmt: skip
                self._running.add(process)
            try:
                return process.wait()
            finally:
                self._running.discard(process)

    def stop(self) -> None:
        """End every child and its kernel, and start no further one."""
        with self._lock:
            self.stopping = True
            running = list(self._running)
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(timeout=_STOP_GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()


def parameter_names(notebook: Path) -> set[str]:
    """The names that are assigned in the cell tagged `parameters`, read by Python's own parser: papermill's guesses at
    defaults with `=` or `#` in them."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    source = "\n".join("".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", []))
    statements = ast.parse(source).body
    targets = [target for statement in statements for target in getattr(statement, "targets", [])]
    targets += [statement.target for statement in statements if isinstance(statement, ast.AnnAssign)]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def num_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _prepare(job: Job, sockets: str) -> Path:
    """An empty folder for the job, with the orders for its child."""
    shutil.rmtree(job.folder, ignore_errors=True)
    job.folder.mkdir(parents=True)
    orders = {
        "notebook": str(job.notebook),
        "parameters": job.parameters,
        "output": str(job.output),
        "failure": str(job.failure),
        "sockets": sockets,
    }
    path = job.folder / "job.json"
    path.write_text(json.dumps(orders), encoding="utf-8")
    return path


def _environment(threads: int) -> dict[str, str]:
    share = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), str(threads))
    return os.environ | share


def _publish_output(job: Job, failure: str | None) -> str | None:
    """Publish what was executed, with the reason of a failure that no cell shows: papermill calls cells completed that
    never ran. The reason if that is not possible, which does not undo the run."""
    if not job.output.exists():
        return None
    try:
        notebook = json.loads(job.output.read_bytes())
        outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
        if failure and not any(output["output_type"] == "error" for output in outputs):
            notebook["metadata"][FAILURE] = failure
        publish_text(job.storage.notebook(job.name), json.dumps(notebook, ensure_ascii=False, indent=1))
    except (ValueError, LookupError, TypeError) as error:
        return f"the executed notebook was cut while it was saved ({error}) and is not published; it is at {job.output}"
    except OSError as error:
        return f"the executed notebook could not be copied to the storage ({error}); it is at {job.output}"
    return None


def _reason(code: int, job: Job) -> str | None:
    """Why a child's notebook failed, in one line; None if it did not."""
    if job.failure.exists():
        return job.failure.read_text(encoding="utf-8")
    if code == 0:
        return None
    if code < 0:
        return f"its process was ended by {signal.Signals(-code).name}"
    log = (job.folder / "child.log").read_text(encoding="utf-8", errors="replace")
    return f"its process ended with code {code}: {log.strip().rsplit(chr(10), 1)[-1] or 'no message'}"
