"""A storage on an S3 server on loopback (moto), whose listings lie: neither results nor checkpoints are in them."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers.repository import ROOT
from helpers.runs.events import Logged
from helpers.runs.status import run_status
from helpers.runs.verify import verify_storage
from helpers.storage import Storage
from helpers.training.train_single_k import train_single_k
from tests.s3 import BUCKET, Server, s3_server
from tests.small_run import CONFIG, OVERRIDES, numbers
from tests.test_object_store import CONFIG as SHORTER
from tests.test_object_store import notices

pytestmark = pytest.mark.slow
pytest.importorskip("s3fs", reason="the S3 server of these tests needs `make .venv/.store`")
pytest.importorskip("moto", reason="the S3 server of these tests needs `make .venv/.store`")

COMMAND = [sys.executable, "-m", "helpers", "train", "--preset", "smoke", "--only", "k=2", "--set", "seed=1"]
SETTINGS = [word for setting in (*OVERRIDES, f"model.dropout={CONFIG.model.dropout}") for word in ("--set", setting)]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with s3_server(hidden="step_|results") as server:
        yield server


@pytest.fixture
def machine(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Make this process, and those that it starts, the named machine; the URL of the test's storage."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)

    def be(name: str) -> str:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        return f"s3://{BUCKET}/{tmp_path.name}"

    return be


def test_a_killed_machine_s_run_is_ended_by_another_with_the_same_bits(machine, tmp_path) -> None:
    url = machine("first")
    command = [*COMMAND, *SETTINGS, "--storage", url]
    with subprocess.Popen(command, cwd=ROOT, env=os.environ.copy(), stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            if line.startswith("step 15 saved"):
                process.kill()
    assert process.returncode == -signal.SIGKILL
    machine("second")
    assert run_status(CONFIG, Storage.existing(url)).step >= 15
    ended = subprocess.run(command, cwd=ROOT, env=os.environ.copy(), capture_output=True, text=True, check=True)
    assert "resumed at step" in ended.stdout
    machine("third")
    assert run_status(CONFIG, Storage.existing(url)).status == "done"
    assert not verify_storage(url).damaged
    machine("second")
    plain = Storage.at(tmp_path / "plain")
    train_single_k(CONFIG, plain, ())
    assert numbers(Storage.at(url)) == numbers(plain)


def test_a_server_that_is_away_and_comes_back_changes_nothing(machine, server, tmp_path) -> None:
    storage, events = Storage.at(machine("only")), []

    def leave_and_return(event) -> None:
        events.append(event)
        if isinstance(event, Logged) and event.step in (8, 10):
            (server.leave if event.step == 8 else server.come_back)()

    train_single_k(SHORTER, storage, [leave_and_return])
    assert "does not take files now (EndpointConnectionError" in notices(events)
    assert "is back, and everything was delivered" in notices(events)
    plain = Storage.at(tmp_path / "plain")
    train_single_k(SHORTER, plain, ())
    assert numbers(storage, SHORTER) == numbers(plain, SHORTER) and not verify_storage(storage.address).damaged


def test_one_of_several_marks_a_store(machine) -> None:
    store = Storage.at(machine("first")).store
    assert store is not None
    before = store.read_marker()
    store.mark("0" * 32)
    assert store.read_marker() == before


def test_a_bucket_that_is_not_there_is_refused_in_words(machine) -> None:
    machine("first")
    with pytest.raises(ValueError, match=r"s3://no-such-bucket/x' cannot be used .*; nothing was written"):
        Storage.at("s3://no-such-bucket/x")


def test_a_grid_runs_on_a_store_and_another_machine_sees_it(machine) -> None:
    url = machine("first")
    options = ["--preset", "smoke", "--only", "k=1,2", "--storage", url]
    settings = [word for setting in OVERRIDES if "=" in setting for word in ("--set", setting)]

    def command(name: str, *arguments: str) -> str:
        words = [sys.executable, "-m", "helpers", name, *arguments]
        return subprocess.run(words, cwd=ROOT, env=os.environ.copy(), capture_output=True, text=True, check=True).stdout

    assert "2 done, 0 failed, 0 left" in command("grid", *options, *settings, "--workers", "2")
    machine("second")
    assert "2 done" in command("status", *options, *settings)
    assert "all whole" in command("verify", "--storage", url)
