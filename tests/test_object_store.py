"""A storage in an object store: what one machine began another ends, whatever is killed, lost or away meanwhile."""

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers import object_store
from helpers.__main__ import main
from helpers.data import cache_writer
from helpers.object_store import INDEX, ObjectStore
from helpers.outbox import StorageAway
from helpers.runs.checkpoints import load_newest_checkpoint
from helpers.runs.events import Notice, Started
from helpers.runs.status import run_status
from helpers.runs.verify import verify_storage
from helpers.settings import apply_overrides
from helpers.storage import Storage
from helpers.studies import find_preset
from helpers.studies.run_preset import run_preset
from helpers.training.evaluate_again import evaluate_again
from helpers.training.train_single_k import train_single_k
from tests.small_run import CONFIG as LONGER
from tests.small_run import Interrupted, interrupt_at, numbers

CONFIG = apply_overrides(
    LONGER,
    (
        "train.steps=12", "train.warmup_steps=2", "eval.windows_per_component=4", "execution.log_every_steps=2",
        "execution.snapshot_every_steps=6", "execution.storage_patience_minutes=0",
    ),
)  # fmt: skip
_URLS = (f"memory://bucket{number}/folder" for number in itertools.count())


class Killed(BaseException):
    """Unlike an OSError, nothing catches it."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict:
    storage = Storage.at(tmp_path_factory.mktemp("undisturbed"))
    train_single_k(CONFIG, storage, ())
    return numbers(storage, CONFIG)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Storage]:
    """The storage as a machine opens it that has not seen it before."""
    url, numbered = next(_URLS), itertools.count()

    def open_anew() -> Storage:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"machine-{next(numbered)}"))
        return Storage.at(url)

    return open_anew


def train(storage: Storage, *subscribers: Callable) -> list:
    events: list = []
    train_single_k(CONFIG, storage, [events.append, *subscribers])
    return events


def begin(storage: Storage, step: int) -> None:
    """Train until the log of a step, which is before its checkpoint."""
    with pytest.raises(Interrupted):
        train(storage, interrupt_at(step))


def resumed_at(events: list) -> int | None:
    return next((event.step for event in events if isinstance(event, Started)), None)


def notices(events: list) -> str:
    return "\n".join(event.text for event in events if isinstance(event, Notice))


def objects(storage: Storage) -> list[str]:
    assert storage.store is not None
    return sorted(storage.store.files.find(storage.store.folder))


def whole(storage: Storage) -> bool:
    return not verify_storage(storage.address).damaged


def test_a_run_begun_on_one_machine_ends_on_another_with_the_same_bits(machine, undisturbed) -> None:
    first = machine()
    begin(first, 8)
    second = machine()
    assert second.root != first.root and second.storage_id == first.storage_id
    assert (run_status(CONFIG, second).status, run_status(CONFIG, second).step) == ("begun", 6)
    assert resumed_at(train(second)) == 6
    assert numbers(second, CONFIG) == undisturbed and whole(second)
    assert resumed_at(train(first)) is None, "the first machine sees that it is done"
    third = machine()
    assert run_status(CONFIG, third).status == "done"
    assert not any("checkpoints" in name for name in objects(third))


# A machine that dies between two objects


def kill_at(patch: pytest.MonkeyPatch, method: str, number: int) -> None:
    """Raise Killed at the `number`-th call of a method of the store."""
    original, calls = getattr(ObjectStore, method), itertools.count(1)

    def dying(*arguments):
        if next(calls) == number:
            raise Killed
        return original(*arguments)

    patch.setattr(ObjectStore, method, dying)


@pytest.mark.parametrize("method, number", [
    ("_put_file", 3),  # of the cache
    ("_put_file", 9),  # of the first checkpoint
    ("_put_index", 7),
    ("_remove", 1),
    pytest.param("_put_file", 25, marks=pytest.mark.slow),
    pytest.param("_put_index", 15, marks=pytest.mark.slow),
    pytest.param("_remove", 6, marks=pytest.mark.slow),
])  # fmt: skip
def test_a_machine_lost_in_the_middle_of_a_publication_leaves_a_run_that_another_ends(
    machine, undisturbed, monkeypatch, method: str, number: int
) -> None:
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, method, number)
        train(machine())
    last = machine()
    train(last)
    assert numbers(last, CONFIG) == undisturbed and whole(last)
    run = last.run(CONFIG.run_id)
    named = {last.store._key(run / name) for name in (INDEX, *object_store._read_index(run))}
    assert {name for name in objects(last) if "/runs/" in name} == named, "nothing is left behind"


def test_a_checkpoint_is_not_there_before_its_index_names_it(machine, monkeypatch) -> None:
    first = machine()
    original = ObjectStore._put_index

    def dying(store: ObjectStore, run: Path, named: dict) -> None:
        if any("step_000000004" in name for name in named):
            raise Killed
        original(store, run, named)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(ObjectStore, "_put_index", dying)
        train(first)
    assert any("step_000000004/manifest.json" in name for name in objects(first))
    assert resumed_at(train(machine())) == 2


def test_what_a_killed_process_had_finished_is_delivered_by_the_next_one_of_its_machine(machine, monkeypatch) -> None:
    first = machine()
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, "_put_file", 20)
        train(first)
    pending = [path.name for path in first.outbox(CONFIG.run_id).iterdir()]
    assert pending
    train(first)
    assert list(first.outbox(CONFIG.run_id).iterdir()) == [] and whole(first)


# A store that is away


class EndpointConnectionError(Exception):
    """As botocore's, which is no OSError."""


EndpointConnectionError.__module__ = "botocore.exceptions"


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bool]]:
    from fsspec.implementations.memory import MemoryFileSystem

    state = {"is_away": False}
    for name in ("cat_file", "put_file", "pipe_file", "info", "find", "rm_file", "get_file"):
        original = getattr(MemoryFileSystem, name)

        def call(*arguments, original=original, **named):
            if state["is_away"]:
                raise EndpointConnectionError("Could not connect to the endpoint URL")
            return original(*arguments, **named)

        monkeypatch.setattr(MemoryFileSystem, name, call)
    yield state
    state["is_away"] = False


def test_training_goes_on_while_the_store_is_away(machine, undisturbed, away) -> None:
    storage = machine()

    def leave_and_return(event) -> None:
        if getattr(event, "step", None) in (4, 8):
            away["is_away"] = event.step == 4

    events = train(storage, leave_and_return)
    assert "does not take files now (EndpointConnectionError: Could not connect" in notices(events)
    assert "is back, and everything was delivered" in notices(events)
    assert numbers(storage, CONFIG) == undisturbed and whole(storage)


def test_a_run_that_ends_while_the_store_is_away_keeps_everything(machine, undisturbed, away) -> None:
    storage = machine()

    def leave(event) -> None:
        away["is_away"] |= getattr(event, "step", None) == 10

    with pytest.raises(StorageAway, match="finished files are safe in"):
        train(storage, leave)
    again = Storage.at(storage.address)
    assert again.root == storage.root, "a store that was used from here before is opened while it is away"
    with pytest.raises(StorageAway, match="Run the same again when the storage is back"):
        train(again)
    away["is_away"] = False
    assert resumed_at(train(again)) is None, "only what was left to deliver and to measure"
    assert numbers(again, CONFIG) == undisturbed and whole(again)


def test_a_store_that_was_never_seen_and_is_away_is_refused(machine, away) -> None:
    away["is_away"] = True
    with pytest.raises(ValueError, match=r"cannot be used \(EndpointConnectionError.*nothing was written"):
        machine()


def test_a_cache_that_cannot_be_put_is_kept_and_not_built_twice(machine, away, monkeypatch) -> None:
    storage, original = machine(), cache_writer.write_cache

    def leave_after(*arguments) -> None:
        original(*arguments)
        away["is_away"] = True

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="could not be put into memory://"):
        patch.setattr(cache_writer, "write_cache", leave_after)
        train(storage)
    away["is_away"] = False
    train(storage)
    assert whole(machine())


# What is read


@pytest.mark.slow
def test_the_commands_work_on_a_store(machine, capsys) -> None:
    url = machine().address
    options = ["--preset", "smoke", "--storage", url]
    small = ["--set", "train.steps=4", "--set", "train.warmup_steps=1", "--set", "eval.windows_per_component=4"]
    assert main(["plan", *options, *small, "--no-measure"]) == 0
    assert main(["fetch", *options]) == 0
    assert main(["train", *options, *small, "--only", "k=1"]) == 0
    run = find_preset("ergodic", "smoke", overrides=[small[1], small[3], small[5]]).only(["k=1"]).grid[0]
    machine()
    capsys.readouterr()
    assert main(["status", *options, *small]) == 0
    assert "1 done" in capsys.readouterr().out
    assert main(["eval", "--run", run.run_id, "--storage", url]) == 0
    assert main(["verify", "--storage", url]) == 0
    assert main(["analyse", "--storage", url]) == 0
    made = objects(machine())
    assert any(name.endswith("fig/xe_vs_K.png") for name in made) and any(name.endswith("report.html") for name in made)


def test_a_second_evaluation_and_a_deleted_run_are_seen_by_every_machine(machine) -> None:
    first = machine()
    train(first)
    second = machine()
    evaluate_again(CONFIG, second, 6, ())
    assert run_status(CONFIG, first).result.summaries[0]["step"] == 6
    for name in objects(second):
        if CONFIG.run_id in name:
            second.store.files.rm_file(name)
    assert run_status(CONFIG, first).status == "missing"
    assert resumed_at(train(first)) == 0


def test_a_damaged_checkpoint_is_set_aside_and_no_longer_named(machine, undisturbed) -> None:
    begin(machine(), 8)
    storage = machine()
    key = next(name for name in objects(storage) if "step_000000006/optimizer" in name)
    content = storage.store.files.cat_file(key)
    storage.store.files.pipe_file(key, content[:100] + b"?" + content[101:])
    damaged = verify_storage(storage.address).damaged
    assert [Path(str(found.path)).name for found in damaged] == ["step_000000006"]
    assert str(damaged[0].path).startswith("memory://") and str(storage.scratch) not in str(damaged[0])
    events = train(storage)
    assert resumed_at(events) == 4 and "it was set aside" in notices(events)
    assert numbers(storage, CONFIG) == undisturbed and whole(storage)


def test_what_an_index_names_elsewhere_is_refused(machine, tmp_path) -> None:
    begin(machine(), 8)
    storage = machine()
    run = storage.run(CONFIG.run_id)
    storage.store._put_index(run, {"../../../../stolen": {"bytes": 0, "sha256": ""}})
    with pytest.raises(ValueError, match="which lies outside of its folder"):
        load_newest_checkpoint(storage, CONFIG.run_id, print)


@pytest.mark.parametrize("url, words", [
    ("s3://bucket/x", r"needs the package s3fs.*python -m pip install s3fs --constraint constraints.txt"),
    ("gs://bucket/x", r"needs the package gcsfs.*python -m pip install gcsfs --constraint constraints.txt"),
    ("nowhere://x", r"is not possible \(Protocol not known: nowhere\); use a folder, s3://BUCKET/FOLDER"),
])  # fmt: skip
def test_a_url_that_cannot_be_opened_says_what_to_do(url, words, monkeypatch) -> None:
    for package in ("s3fs", "gcsfs"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=words):
        Storage.at(url)


def test_a_grid_does_not_begin_in_a_store_of_one_process(machine) -> None:
    preset = find_preset("ergodic", "smoke").only(["k=1"])
    with pytest.raises(ValueError, match="lives in one process"):
        run_preset(preset, machine(), report=lambda text: None)


def test_nothing_is_written_by_those_who_read(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    url = next(_URLS)
    assert not Storage.to_read(url).exists
    with pytest.raises(ValueError, match="that nothing was trained into"):
        Storage.existing(url)
    assert main(["plan", "--preset", "smoke", "--storage", url, "--no-measure"]) == 0
    assert objects(Storage.to_read(url)) == []
