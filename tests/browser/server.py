"""A Jupyter server for a test: on this machine alone, on a free port, ended with all its kernels."""

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.browser.front_ends import FrontEnd

START_S, STOP_S = 120, 15
_POLL_S = 0.1


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running server: its address, the folder that it serves, and the file with all that it and its kernels print."""

    url: str
    folder: Path
    log: Path


@contextmanager
def serve(front_end: FrontEnd, folder: Path, state: Path) -> Iterator[Server]:
    """The server of `front_end` for `folder` while the block runs; `state` takes its settings and its log.

    RuntimeError with the log if it does not answer.
    """
    for name, content in front_end.settings.items():
        (state / name).parent.mkdir(parents=True)
        (state / name).write_text(json.dumps(content), encoding="utf-8")
    state.mkdir(parents=True, exist_ok=True)
    port, log = _free_port(), state / "server.log"
    server = Server(url=f"http://127.0.0.1:{port}", folder=folder, log=log)
    command = [front_end.python, "-m", *front_end.command, f"--port={port}"]
    with log.open("wb") as output:
        process = psutil.Popen(command, cwd=folder, env=_environment(state), stdout=output, stderr=subprocess.STDOUT)
        try:
            _wait_until_answered(process, server)
            yield server
        finally:
            _end(process)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _environment(state: Path) -> dict[str, str]:
    """The user's own Jupyter and IPython settings play no part, and one thread leaves the browser a core."""
    folders = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "JUPYTERLAB_SETTINGS_DIR",
               "JUPYTERLAB_WORKSPACES_DIR")  # fmt: skip
    settings = {name: str(state / name.lower()) for name in folders}
    return os.environ | settings | {"OMP_NUM_THREADS": "1"}


def _wait_until_answered(process: psutil.Popen, server: Server) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{server.url}/api", timeout=START_S):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(_POLL_S)
    raise RuntimeError(f"the Jupyter server did not answer at {server.url}:\n{server.log.read_text(errors='replace')}")


def _end(process: psutil.Popen) -> None:
    """A kernel has a session of its own: it would outlive a server that is killed alone. Nothing here is kept."""
    family = [*process.children(recursive=True), process] if process.is_running() else []
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    psutil.wait_procs(family, timeout=STOP_S)
