"""A storage that fails at any moment: a run ends with the undisturbed numbers, or stops with words, nothing lost."""

import errno
import hashlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from helpers.config import RunConfig
from helpers.data import paper_index
from helpers.data.cache_id import cache_id
from helpers.data.fetch_arxiv import ensure_cache
from helpers.data.token_cache import verify_cache
from helpers.outbox import StorageAway
from helpers.repository import ROOT
from helpers.runs import checkpoints
from helpers.runs.events import Logged, Notice, Saved, Started
from helpers.runs.verify import verify_storage
from helpers.settings import apply_overrides
from helpers.storage import Storage
from helpers.training.train_single_k import train_single_k
from tests.faults import ERRORS, SHORT, Fault, Mount, faulty, lagging
from tests.small_run import CONFIG as LONGER
from tests.small_run import OVERRIDES, Interrupted, interrupt_at, numbers

SHORTER = (
    "train.steps=12", "train.warmup_steps=2", "eval.windows_per_component=4", "execution.log_every_steps=2",
    "execution.snapshot_every_steps=6", "execution.storage_patience_minutes=0",
)  # fmt: skip
CONFIG = apply_overrides(LONGER, SHORTER)
FETCHED, BEGUN, TRAINED, DONE = 0, 8, 12, 13
"""Where a run was stopped: before it began, at the log of step 8, before its evaluation, not at all."""
CACHE = f"cache/{cache_id(CONFIG.data)}"
DELIVERED = ("config.json", "metrics.jsonl", "provenance.json", "checkpoints", "snapshots", "results")
CACHED = ("validation/", "index.parquet", "manifest.json")
EFFECTS = [
    *(
        pytest.param("write", number, id=f"write: {name}", marks=[] if name == "full" else pytest.mark.slow)
        for name, number in ERRORS.items()
    ),
    pytest.param("write", SHORT, id="write: short", marks=pytest.mark.slow),
    pytest.param("rename", errno.EIO, id="rename fails"),
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict:
    storage = Storage.at(tmp_path_factory.mktemp("undisturbed"))
    train_single_k(CONFIG, storage, ())
    return numbers(storage, CONFIG)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.at(tmp_path / "storage", tmp_path / "scratch")


def train(storage: Storage, *subscribers) -> list:
    """Train, and return the events; those of a run that stops are lost, so they may be gathered by a subscriber."""
    events: list = []
    train_single_k(CONFIG, storage, [events.append, *subscribers])
    return events


def steps(events: list, kind: type) -> list[int]:
    return [event.step for event in events if isinstance(event, kind)]


def notices(events: list) -> str:
    return "\n".join(event.text for event in events if isinstance(event, Notice))


def tree(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("where", DELIVERED)
@pytest.mark.parametrize("operation, effect", EFFECTS)
def test_a_passing_fault_changes_nothing(
    storage: Storage, undisturbed: dict, where: str, operation: str, effect: int | str
) -> None:
    with faulty(storage.root, Fault(operation=operation, where=where, effect=effect, times=1)) as fault:
        try:
            events = train(storage)
        except StorageAway as error:  # the last delivery of all, which waits no longer than it was told
            assert where == "results" and "finished files are safe in" in str(error)
            events = train(storage)
            assert not steps(events, Started)
        else:
            assert "does not take files now" in notices(events) and "everything was delivered" in notices(events)
    assert fault.hits == 1
    assert numbers(storage, CONFIG) == undisturbed
    assert not verify_storage(storage.root).damaged and not list(storage.root.rglob(".partial-*"))


@pytest.mark.slow
@pytest.mark.parametrize("where", DELIVERED)
@pytest.mark.parametrize("operation, effect", EFFECTS)
def test_a_lasting_fault_stops_the_run_at_its_end_and_nothing_is_trained_twice(
    storage: Storage, undisturbed: dict, where: str, operation: str, effect: int | str
) -> None:
    events: list = []
    fault, words = Fault(operation=operation, where=where, effect=effect), r"is away and run .* finished files are safe"
    with faulty(storage.root, fault), pytest.raises(StorageAway, match=words):
        train(storage, events.append)
    assert fault.hits and steps(events, Saved)[-1] == 12
    assert not steps(train(storage), Started)
    assert numbers(storage, CONFIG) == undisturbed
    assert not verify_storage(storage.root).damaged and not list(storage.root.rglob(".partial-*"))


@pytest.mark.parametrize("where", CACHED)
@pytest.mark.parametrize("operation, effect", EFFECTS)
def test_a_fault_in_the_build_of_the_cache_stops_with_what_to_do(
    storage: Storage, undisturbed: dict, where: str, operation: str, effect: int | str
) -> None:
    fault = Fault(operation=operation, where=where, effect=effect, times=1)
    words = r"could not be written \(.*Finished parts are kept: free some space"
    with faulty(storage.root, fault), pytest.raises(RuntimeError, match=words):
        train(storage)
    assert fault.hits == 1 and not list(storage.root.rglob(".partial-*"))
    train(storage)
    assert numbers(storage, CONFIG) == undisturbed


def begin(storage: Storage, until: int, config: RunConfig = CONFIG) -> None:
    """Bring a run to a state: a step at whose log it stops, TRAINED, or DONE."""

    def stop(event) -> None:
        if isinstance(event, Saved if until == TRAINED else Logged) and event.step == until:
            raise Interrupted

    if until == DONE:
        train_single_k(config, storage, ())
        return
    with pytest.raises(Interrupted):
        train_single_k(config, storage, [stop])


READ = {  # what is read when a run goes on, when it is evaluated, and when it is done
    CACHE + "/manifest": 4, CACHE + "/index": 4, CACHE + "/train/part": 4, "config.json": 4,
    "checkpoints/step_000000004/manifest": 6, "checkpoints/step_000000004/model": 6,
    "snapshots/step_000000012": TRAINED, "provenance.json": TRAINED, "results": DONE,
}  # fmt: skip


@pytest.mark.parametrize("where", READ)
@pytest.mark.parametrize(
    "number",
    [pytest.param(errno.EIO, id="input/output error", marks=pytest.mark.slow),
     pytest.param(errno.ENOTCONN, id="not connected")],
)  # fmt: skip
def test_what_cannot_be_read_now_is_not_taken_for_lost(
    storage: Storage, undisturbed: dict, where: str, number: int
) -> None:
    begin(storage, until=READ[where])
    shutil.rmtree(storage.flat_tokens(cache_id(CONFIG.data)))
    paper_index.read_index.cache_clear()  # as in a new process
    before = tree(storage.root)
    with faulty(storage.root, Fault(operation="read", where=where, effect=number)) as fault:
        if "checkpoints" in where:  # the one before can be read
            assert steps(train(storage), Started) == [2]
        else:
            with pytest.raises(RuntimeError, match=r"cannot be (used|read) now .*the storage is back"):
                train(storage)
    assert fault.hits
    assert "checkpoints" in where or before.keys() <= tree(storage.root).keys()
    train(storage)
    assert numbers(storage, CONFIG) == undisturbed


def test_when_no_checkpoint_can_be_read_now_the_run_does_not_begin_anew(storage: Storage, undisturbed: dict) -> None:
    begin(storage, until=BEGUN)
    fault = Fault(operation="read", where="checkpoints", effect=errno.ENOTCONN)
    words = r"checkpoints of run .* cannot be read now .* nothing was changed"
    with faulty(storage.root, fault), pytest.raises(RuntimeError, match=words):
        train(storage)
    assert steps(train(storage), Started) == [6]
    assert numbers(storage, CONFIG) == undisturbed


@pytest.mark.parametrize("hidden, resumed", [(["step_000000006"], 4), (["step_000000006", "step_000000004"], 0)])
def test_a_listing_that_lags_costs_steps_and_no_numbers(
    storage: Storage, undisturbed: dict, hidden: list[str], resumed: int
) -> None:
    begin(storage, until=BEGUN)

    def stop(event) -> None:
        if isinstance(event, Started):
            raise Interrupted

    folder, events = storage.checkpoints(CONFIG.run_id), []
    with lagging(folder, hidden[0]), lagging(folder, hidden[-1]), pytest.raises(Interrupted):
        train(storage, events.append, stop)
    assert steps(events, Started) == [resumed]
    assert steps(train(storage), Started) == [6]
    assert numbers(storage, CONFIG) == undisturbed


def test_a_listing_that_lags_to_the_end(storage: Storage, undisturbed: dict) -> None:
    begin(storage, until=BEGUN)
    with lagging(storage.checkpoints(CONFIG.run_id), "step_000000006"):
        assert steps(train(storage), Started) == [4]
    assert numbers(storage, CONFIG) == undisturbed


@pytest.mark.parametrize("what", ["halved", "flipped", "missing"])
def test_a_checkpoint_that_is_lost_after_it_was_delivered(storage: Storage, undisturbed: dict, what: str) -> None:
    def spoil(event) -> None:
        if isinstance(event, Saved) and event.step >= 6:
            path = event.path / "optimizer.safetensors"
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.write_bytes(content[: len(content) // 2] if what == "halved" else content)
            if what == "missing":
                path.unlink()

    with pytest.raises(Interrupted):
        train(storage, spoil, interrupt_at(8))
    events = train(storage, spoil)
    assert steps(events, Started) == [4]
    assert "step_000000006 is damaged (optimizer.safetensors" in notices(events)
    assert numbers(storage, CONFIG) == undisturbed


def test_a_mount_that_goes_and_comes_back_in_mid_run(storage: Storage, undisturbed: dict) -> None:
    mount = Mount(storage.root)

    def move(event) -> None:
        if isinstance(event, Logged) and event.step == 4:
            mount.leave()
        if isinstance(event, Logged) and event.step == 10:
            mount.come_back()

    events = train(storage, move)
    assert "does not take files now" in notices(events) and "is back, and everything was delivered" in notices(events)
    assert numbers(storage, CONFIG) == undisturbed
    assert not verify_storage(storage.root).damaged


@pytest.mark.parametrize("left_at", [2, 8, 12])
def test_a_mount_that_stays_away_stops_the_run_and_keeps_everything(
    storage: Storage, undisturbed: dict, left_at: int
) -> None:
    mount, events = Mount(storage.root), []

    def leave(event) -> None:
        if isinstance(event, Logged) and event.step == left_at:
            mount.leave()

    with pytest.raises(StorageAway, match="finished files are safe in"):
        train(storage, events.append, leave)
    assert steps(events, Saved)[-1] == 12, "the training goes on"
    with pytest.raises(StorageAway, match=r"is away .*finished files are safe in"):
        train(storage)
    mount.come_back()
    assert not steps(train(storage), Started), "nothing is trained twice"
    assert numbers(storage, CONFIG) == undisturbed


def test_a_mount_that_is_away_is_no_reason_to_begin_anew(storage: Storage, undisturbed: dict) -> None:
    begin(storage, until=BEGUN)
    mount = Mount(storage.root)
    mount.leave()
    with pytest.raises(StorageAway, match=r"nothing is lost\. Run the same again when the storage is back"):
        train(storage)
    mount.come_back()
    assert steps(train(storage), Started) == [6]
    assert numbers(storage, CONFIG) == undisturbed


def test_a_storage_in_the_place_of_another_gets_none_of_its_files(storage: Storage, undisturbed: dict) -> None:
    """A process that is started while the mount is away finds an empty folder, and takes it for a new storage."""
    mount = Mount(storage.root)
    with pytest.raises(StorageAway):
        train(storage, lambda event: mount.leave() if isinstance(event, Logged) and event.step == 8 else None)
    elsewhere = Storage.at(storage.root, storage.scratch)
    assert steps(train(elsewhere), Started) == [0]
    assert numbers(elsewhere, CONFIG) == undisturbed
    shutil.rmtree(storage.root)
    storage.root.mkdir()
    mount.come_back()
    assert not steps(train(storage), Started)
    assert numbers(storage, CONFIG) == undisturbed


def test_a_mount_that_goes_while_the_cache_is_built(storage: Storage, undisturbed: dict) -> None:
    mount = Mount(storage.root)
    write_bytes = Path.write_bytes

    def leave(path: Path, content: bytes) -> int:
        if "part-00000" in path.name and path.parent.name == "validation":
            mount.leave()
        return write_bytes(path, content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "write_bytes", leave)
        with pytest.raises(RuntimeError, match=r"validation/part-00000\.parquet could not be written"):
            train(storage)
    with pytest.raises(StorageAway, match="nothing is lost"):
        train(storage)
    mount.come_back()
    train(storage)
    assert numbers(storage, CONFIG) == undisturbed


def test_a_local_disk_that_is_full_keeps_the_checkpoint_that_waits_there(storage: Storage, undisturbed: dict) -> None:
    """The storage is away with step 4 pending, and step 6 fits nowhere: step 4 stays until a newer one is whole."""
    mount = Mount(storage.root)
    save_file = checkpoints.save_file

    def full(tensors, path: Path, **named) -> None:
        if mount.away.exists() and path.name == "optimizer.safetensors" and full.is_full:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        save_file(tensors, path, **named)

    def watch(event) -> None:
        if isinstance(event, Logged) and event.step == 4:
            mount.leave()
        full.is_full = isinstance(event, Logged) and event.step > 4
        if isinstance(event, Logged) and event.step == 8:
            raise Interrupted

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(checkpoints, "save_file", full)
        train(storage, watch)
    mount.come_back()
    assert steps(train(storage), Started) == [4]
    assert numbers(storage, CONFIG) == undisturbed


def command(storage: Storage, *words: str) -> list[str]:
    """A process with its own scratch."""
    code = "import sys; from helpers import storage as s; at = s.Storage.at; scratch = sys.argv.pop(1); "
    code += "s.Storage.at = lambda root, *_: at(root, scratch); from helpers.__main__ import main; sys.exit(main())"
    overrides = [word for override in (*OVERRIDES, *SHORTER) for word in ("--set", override)]
    return [sys.executable, "-c", code, str(storage.scratch), *words, *overrides, "--storage", str(storage.root)]


def both(*commands: list[str]) -> list[tuple[int, str]]:
    """Exit codes and errors of processes that were started at once."""
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(each, cwd=ROOT, stdout=pipe, stderr=pipe, text=True) for each in commands]
    ends = [process.communicate(timeout=300) for process in processes]
    return [(process.returncode, error) for process, (_, error) in zip(processes, ends, strict=True)]


RUN = ("train", "--preset", "smoke", "--only", "k=2", "--set", "seed=1", "--set", "model.dropout=0.1")


@contextmanager
def held(storage: Storage, at: str) -> Iterator[subprocess.Popen]:
    """A process with the run, stopped in mid-air when it prints `at`, that goes on when the block ends."""
    process = subprocess.Popen(command(storage, *RUN), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if at in line:
            break
    process.send_signal(signal.SIGSTOP)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.communicate(timeout=300)


@pytest.mark.slow
def test_two_processes_of_one_machine_with_one_run(storage: Storage, undisturbed: dict) -> None:
    with held(storage, at="step 4 saved") as first:
        before = tree(storage.root)
        ((code, error),) = both(command(storage, *RUN))
        assert code == 1 and f"is already at work in process {first.pid} of this machine; nothing was" in error
        assert tree(storage.root) == before
    assert first.returncode == 0
    assert numbers(storage, CONFIG) == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("at", ["new, ", "step 6 saved", "XE at step 12"])
def test_one_machine_ends_a_run_while_another_is_in_the_midst_of_it(
    storage: Storage, undisturbed: dict, tmp_path: Path, at: str
) -> None:
    other = Storage.at(storage.root, tmp_path / "other scratch")
    with held(storage, at) as first:
        assert both(command(other, *RUN))[0][0] == 0
        result = storage.result(CONFIG.run_id).read_bytes()
        assert numbers(storage, CONFIG) == undisturbed
    assert first.returncode == 0
    assert storage.result(CONFIG.run_id).read_bytes() == result, "the first result stays"
    assert numbers(storage, CONFIG) == undisturbed
    assert not verify_storage(storage.root).damaged and not list(storage.root.rglob(".partial-*"))


@pytest.mark.slow
def test_two_machines_with_one_run_at_once(storage: Storage, undisturbed: dict, tmp_path: Path) -> None:
    other = Storage.at(storage.root, tmp_path / "other scratch")
    ends = both(command(storage, *RUN), command(other, *RUN))
    assert [code for code, _ in ends] == [0, 0], ends
    assert numbers(storage, CONFIG) == undisturbed
    assert not verify_storage(storage.root).damaged and not list(storage.root.rglob(".partial-*"))


@pytest.mark.slow
@pytest.mark.parametrize("is_one_machine", [True, False])
def test_two_processes_that_build_one_cache(storage: Storage, tmp_path: Path, is_one_machine: bool) -> None:
    other = storage if is_one_machine else Storage.at(storage.root, tmp_path / "other scratch")
    fetch = ("fetch", "--preset", "smoke")
    larger = ["--set", "data.synthetic.papers_per_component=400"]
    ends = both(command(storage, *fetch) + larger, command(other, *fetch) + larger)
    assert [code for code, _ in ends] == [0, 0], ends
    data = apply_overrides(CONFIG, larger[1:]).data
    alone = ensure_cache(data, Storage.at(tmp_path / "alone"), report=lambda line: None)
    built = ensure_cache(data, storage, report=lambda line: None)
    assert verify_cache(built) == []
    assert tree(built.folder) == tree(alone.folder)


@pytest.mark.slow
def test_two_processes_that_begin_a_storage_at_once_agree_on_it(tmp_path: Path) -> None:
    code = "import sys; from helpers.storage import Storage; print(Storage.at(sys.argv[1]).storage_id)"
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "new")], cwd=ROOT, stdout=subprocess.PIPE)
        for _ in range(6)
    ]
    assert len({process.communicate(timeout=60)[0] for process in processes}) == 1
