"""One notebook, executed by papermill in a process of its own: `python -m helpers.grid.child JOB.json PARENT_PID`.

A process for each notebook, because papermill's `cwd` is not safe between threads; sockets in a folder of its own,
because kernels that start at once race for TCP ports. The kernel is this interpreter's, whatever kernelspecs there
are. The job names notebook, parameters, output, and a failure file that receives one line when a cell fails. The
sockets' folder is the parent's, who removes it also after a kill.

It ends when its parent ends, by whatever means, and its kernel with it. An engine that tries a run again at once meets
the earlier process on its way out, and waits for it.
"""

import json
import os
import signal
import sys
import tempfile
from pathlib import Path

from helpers.environment import leave_out_address_parsers
from helpers.locks import wait_until_free
from helpers.parents import die_with_parent
from helpers.repository import ROOT

KERNEL = "python3"
_PATIENCE_S = 30.0


def main(job_file: str, parent: int) -> int:
    """Execute the job; the exit code says whether every cell ended, the failure file why one did not."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # unwinds papermill, which then ends the kernel
    die_with_parent(parent)  # before what takes seconds to load, and a busy machine far longer
    leave_out_address_parsers()
    import nbclient.exceptions
    import papermill

    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    try:
        wait_until_free(Path(job["lock"]), _PATIENCE_S)
        execute(job["notebook"], job["output"], job["parameters"], job["sockets"])
    except papermill.PapermillExecutionError as error:
        reason = f"{error.ename}: {error.evalue}"
    except nbclient.exceptions.DeadKernelError:
        reason = "the kernel died while a cell was running; most often the memory did not suffice"
    except Exception as error:  # of the start of a kernel: papermill and jupyter_client fail in their own ways
        reason = f"the notebook could not be executed by {sys.executable} ({type(error).__name__}: {error})"
    else:
        return 0
    Path(job["failure"]).write_text(" ".join(reason.split())[:500], encoding="utf-8")
    return 1


def own_kernel(folder: Path) -> None:
    """Write a kernelspec of this interpreter into `folder`, where Jupyter looks before all other places."""
    spec = folder / "kernels" / KERNEL / "kernel.json"
    spec.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "helpers.grid.kernel", str(os.getpid()), "-f", "{connection_file}"]
    content = {"argv": command, "display_name": "Python 3", "language": "python"}
    spec.write_text(json.dumps(content), encoding="utf-8")
    others = [os.environ["JUPYTER_PATH"]] if os.environ.get("JUPYTER_PATH") else []
    os.environ["JUPYTER_PATH"] = os.pathsep.join([str(folder), *others])


def execute(notebook: str, output: str, parameters: dict, sockets: str) -> None:
    """Run a notebook with its kernel over IPC, the sockets in the folder `sockets`."""
    import papermill
    from traitlets.config import Config

    own_kernel(Path(sockets))
    tempfile.tempdir = sockets  # the connection file too is removed with the folder, also after a kill
    ipc = {"transport": "ipc", "ip": f"{sockets}/kernel"}
    papermill.execute_notebook(
        notebook,
        output,
        parameters=parameters,
        kernel_name=KERNEL,
        cwd=str(ROOT),
        progress_bar=False,
        config=Config(KernelManager=ipc, ConnectionFileMixin=ipc),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
