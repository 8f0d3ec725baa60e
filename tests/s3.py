"""An S3 server on loopback, by moto, whose listings may lie: `python -m tests.s3 PARENT PORT [HIDDEN]`."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.parents import die_with_parent

ROOT = Path(__file__).parents[1]
BUCKET = "bucket"


@dataclass(frozen=True)
class Server:
    process: subprocess.Popen
    address: str

    @property
    def environment(self) -> dict[str, str]:
        """In which the server is found."""
        return {
            "AWS_ENDPOINT_URL": self.address, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1", "NO_PROXY": "127.0.0.1",
        }  # fmt: skip

    def leave(self) -> None:
        """Refuse connections, as a network that is away does; what it holds stays."""
        self.process.send_signal(signal.SIGUSR1)
        _until(lambda: not _answers(self.address))

    def come_back(self) -> None:
        self.process.send_signal(signal.SIGUSR2)
        _until(lambda: _answers(self.address))


@contextlib.contextmanager
def s3_server(hidden: str = "") -> Iterator[Server]:
    """A server in a process of its own, with a bucket. `hidden`: a regular expression; keys that it is found in are in
    no listing."""
    port = _free_port()
    process = subprocess.Popen([sys.executable, "-m", "tests.s3", str(os.getpid()), str(port), hidden], cwd=ROOT)
    address = f"http://127.0.0.1:{port}"
    try:
        _until(lambda: _answers(address))
        urllib.request.urlopen(urllib.request.Request(f"{address}/{BUCKET}", method="PUT"), timeout=10).close()
        yield Server(process, address)
    finally:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address, timeout=5).close()
    except OSError:
        return False
    return True


def _until(is_so: Callable[[], bool]) -> None:
    for _ in range(600):
        if is_so():
            return
        time.sleep(0.1)
    raise TimeoutError("the server did not do as it was told within a minute")


def lying(application: Callable, hidden: str) -> Callable:
    """The WSGI application, but listings of objects are without the keys that `hidden` is found in."""

    def filtered(environ: dict[str, Any], start_response: Callable) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "GET" or "list-type=2" not in environ.get("QUERY_STRING", ""):
            return application(environ, start_response)
        started: list[tuple] = []
        body = b"".join(application(environ, lambda *response: started.append(response)))
        entry = re.compile(rb"<Contents>.*?</Contents>", re.DOTALL)
        key = re.compile(rb"<Key>[^<]*(?:" + hidden.encode() + rb")[^<]*</Key>")
        body = entry.sub(lambda found: b"" if key.search(found[0]) else found[0], body)
        status, headers, *others = started[0]
        headers = [(name, value) for name, value in headers if name.lower() != "content-length"]
        start_response(status, [*headers, ("Content-Length", str(len(body)))], *others)
        return [body]

    return filtered


def main(parent: str, port: str, hidden: str = "") -> None:
    die_with_parent(int(parent))
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log_request(self, *arguments: Any) -> None:
            pass

    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGUSR2])
    application = DomainDispatcherApplication(create_backend_app)
    application = lying(application, hidden) if hidden else application
    while True:
        server = make_server("127.0.0.1", int(port), application, threaded=True, request_handler=Quiet)
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        signal.sigwait([signal.SIGUSR1])
        server.shutdown()
        server.server_close()
        signal.sigwait([signal.SIGUSR2])


if __name__ == "__main__":
    main(*sys.argv[1:])
