"""The parent's side of a notebook that is executed in a child process."""

import ast
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.repository import NOTEBOOK_FOLDERS, ROOT
from helpers.runs.status import FAILURE
from helpers.storage import Storage, publish_text, require_name

_STOP_GRACE_S = 15.0
_GLANCE_S = 0.1
_SOCKETS = "ergodic-"


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


@dataclass(frozen=True, kw_only=True, eq=False)
class Child:
    """A job at work in a process of its own, which ends when the process that started it does.

    Start it from the main thread: the system tells a child of its parent's death when the thread that started it ends.
    """

    job: Job
    process: subprocess.Popen
    sockets: str

    @classmethod
    def start(cls, job: Job, environment: Mapping[str, str], *, own_session: bool = False) -> "Child":
        """Begin `job` with these variables beside those of this process. In a session of its own a child does not get
        the Ctrl-C of a terminal; without, it is ended with the process group of its parent."""
        orders, sockets = _prepare(job)
        with open(orders.with_name("child.log"), "wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "helpers.grid.child", str(orders), str(os.getpid())],
                cwd=ROOT, env=os.environ | environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=own_session,
            )  # fmt: skip
        return cls(job=job, process=process, sockets=sockets)

    def finish(self) -> str | None:
        """Wait for its end and publish the executed notebook; the reason in one line if it failed."""
        reason = _reason(self.process.wait(), self.job)
        shutil.rmtree(self.sockets, ignore_errors=True)
        kept = _publish_output(self.job, reason)
        return reason or kept


def execute(job: Job, environment: Mapping[str, str], is_wanted: Callable[[], bool] = lambda: True) -> str | None:
    """Run `job` to its end; the reason in one line if its notebook failed. Nothing that the caller could not pickle is
    raised but an interrupt, which ends the child; one that `is_wanted` no more is killed."""
    try:
        child = Child.start(job, environment)
        try:
            while child.process.poll() is None:
                if not is_wanted():
                    child.process.kill()
                time.sleep(_GLANCE_S)
        finally:
            end([child])
        return child.finish()
    except OSError as error:
        return f"its process could not be started here ({error})"


def end(children: Sequence[Child]) -> None:
    """End those that still run, and their kernels."""
    for child in children:
        child.process.terminate()  # nothing happens to one that has ended
    for child in children:
        try:
            child.process.wait(timeout=_STOP_GRACE_S)
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait()


def parameter_names(notebook: Path) -> set[str]:
    """The names that are assigned in the cell tagged `parameters`, read by Python's own parser: papermill's guesses at
    defaults with `=` or `#` in them."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    source = "\n".join("".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", []))
    statements = ast.parse(source).body
    targets = [target for statement in statements for target in getattr(statement, "targets", [])]
    targets += [statement.target for statement in statements if isinstance(statement, ast.AnnAssign)]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def thread_share(threads: int) -> dict[str, str]:
    """The variables that give a child so many CPU threads."""
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), str(threads))


def _prepare(job: Job) -> tuple[Path, str]:
    """An empty folder for the job with the orders for its child, and another for the sockets of its kernel.

    A socket's path may have about 100 characters, which a scratch folder's can exceed: hence /tmp. What a killed
    attempt at the job left there goes now.
    """
    orders = job.folder / "job.json"
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        left = Path(json.loads(orders.read_bytes())["sockets"])
        if left.parent == Path("/tmp") and left.name.startswith(_SOCKETS):
            shutil.rmtree(left, ignore_errors=True)
    shutil.rmtree(job.folder, ignore_errors=True)
    job.folder.mkdir(parents=True)
    sockets = tempfile.mkdtemp(prefix=_SOCKETS, dir="/tmp")
    content = {
        "notebook": str(job.notebook),
        "parameters": job.parameters,
        "output": str(job.output),
        "failure": str(job.failure),
        "sockets": sockets,
        "lock": str(job.storage.lock(job.name)),
    }
    orders.write_text(json.dumps(content), encoding="utf-8")
    return orders, sockets


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
        text = json.dumps(notebook, ensure_ascii=False, indent=1)
        job.storage.delivered([publish_text(job.storage.notebook(job.name), text)])
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
