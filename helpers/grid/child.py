"""One notebook, executed by papermill in a process of its own: `python -m helpers.grid.child JOB.json`.

A process for each notebook, because papermill's `cwd` is not safe between threads; sockets in a folder of its own,
because kernels that start at once race for TCP ports. The job names notebook, parameters, output, and a failure file
that receives one line when a cell fails. The sockets' folder is the parent's, who removes it also after a kill.
"""

import json
import signal
import sys
from pathlib import Path

import nbclient.exceptions
import papermill
from traitlets.config import Config

from helpers.repository import ROOT
from helpers.runs.status import KERNEL_DIED


def main(job_file: str) -> int:
    """Execute the job; the exit code says whether every cell ended, the failure file why one did not."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # unwinds papermill, which then ends the kernel
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    try:
        execute(job["notebook"], job["output"], job["parameters"], job["sockets"])
    except papermill.PapermillExecutionError as error:
        reason = f"{error.ename}: {error.evalue}"
    except nbclient.exceptions.DeadKernelError:
        reason = "the kernel died while a cell was running; most often the memory did not suffice"
        _record(Path(job["output"]), reason)
    else:
        return 0
    Path(job["failure"]).write_text(" ".join(reason.split())[:500], encoding="utf-8")
    return 1


def _record(output: Path, reason: str) -> None:
    """Write the reason into the executed notebook, which without it looks as if every cell had ended well."""
    notebook = json.loads(output.read_text(encoding="utf-8"))
    notebook["metadata"][KERNEL_DIED] = reason
    output.write_text(json.dumps(notebook, ensure_ascii=False), encoding="utf-8")


def execute(notebook: str, output: str, parameters: dict, sockets: str) -> None:
    """Run a notebook with its kernel over IPC, the sockets in the folder `sockets`."""
    ipc = {"transport": "ipc", "ip": f"{sockets}/kernel"}
    papermill.execute_notebook(
        notebook,
        output,
        parameters=parameters,
        cwd=str(ROOT),
        progress_bar=False,
        config=Config(KernelManager=ipc, ConnectionFileMixin=ipc),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
