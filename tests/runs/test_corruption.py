"""Every published file, damaged in every way: it is noticed and named, nothing in it executes, and no number changes.

The table is FILES x DAMAGES. Each cell: `verify` names the file and changes nothing; the same run again ends with the
numbers of an undisturbed run, or stops with the file's name and ends after its advice was followed; then `verify` finds
nothing any more, except where only a new training could mend it.
"""

import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from helpers.config import DataConfig
from helpers.data import paper_index
from helpers.data.cache_id import cache_id
from helpers.data.fetch_arxiv import ensure_cache
from helpers.data.token_cache import verify_cache
from helpers.runs.result_file import read_result
from helpers.runs.verify import verify_storage
from helpers.settings import apply_overrides
from helpers.storage import Storage
from helpers.training.evaluate_again import evaluate_again
from helpers.training.train_single_k import train_single_k
from tests.training.test_faults import BEGUN, CONFIG, DONE, FETCHED, TRAINED, begin, notices, numbers, tree

OTHER = apply_overrides(CONFIG, ["data.synthetic.seed=1", "data.synthetic.paper_tokens=299", "train.peak_lr=1e-3"])
"""Another run, on another cache: a file of it in the place of one of ours has a right seal and a wrong owner."""


@dataclass(frozen=True, kw_only=True)
class File:
    place: str
    """Relative to the root; {run} and {cache} are the run's and the cache's names."""
    state: int
    notice: bool = True
    """Whether the next run reads the file, and so says that it is damaged."""
    is_mended: bool = True
    """Whether the next run makes it whole again."""


FILES = {
    # A cache is opened by its sizes; what has the right size is noticed when it is unpacked, and then the run stops.
    "cache part": File(place="cache/{cache}/train/part-00000.parquet", state=FETCHED),
    "cache part of the evaluation": File(place="cache/{cache}/test/part-00000.parquet", state=FETCHED),
    "cache index": File(place="cache/{cache}/index.parquet", state=FETCHED),
    # Without its manifest a cache is not there: it is built, and the parts that are whole are kept.
    "cache manifest": File(place="cache/{cache}/manifest.json", state=FETCHED, notice=False),
    "flat tokens": File(place="scratch/tokens/{cache}/train/tokens.bin", state=BEGUN),
    "flat offsets": File(place="scratch/tokens/{cache}/train/offsets.npy", state=BEGUN),
    "flat record": File(place="scratch/tokens/{cache}/test/flat.json", state=BEGUN),
    "config of a run that was begun": File(place="runs/{run}/config.json", state=BEGUN),
    # A run that goes on records its own machine, and its metrics travel in the checkpoint: both are not read, but
    # written again.
    "provenance of a run that was begun": File(place="runs/{run}/provenance.json", state=BEGUN, notice=False),
    "metrics of a run that was begun": File(place="runs/{run}/metrics.jsonl", state=BEGUN, notice=False),
    "checkpoint manifest": File(place="runs/{run}/checkpoints/step_000000006/manifest.json", state=BEGUN),
    "checkpoint weights": File(place="runs/{run}/checkpoints/step_000000006/model.safetensors", state=BEGUN),
    "checkpoint optimizer": File(place="runs/{run}/checkpoints/step_000000006/optimizer.safetensors", state=BEGUN),
    "checkpoint state": File(place="runs/{run}/checkpoints/step_000000006/state.json", state=BEGUN),
    "last checkpoint": File(place="runs/{run}/checkpoints/step_000000012/state.json", state=TRAINED, notice=False),
    "snapshot of the last step": File(place="runs/{run}/snapshots/step_000000012.safetensors", state=TRAINED),
    "metrics before the evaluation": File(place="runs/{run}/metrics.jsonl", state=TRAINED),
    "provenance before the evaluation": File(place="runs/{run}/provenance.json", state=TRAINED, is_mended=False),
    "result": File(place="results/{run}.jsonl", state=DONE),
    "config of a done run": File(place="runs/{run}/config.json", state=DONE),
    "provenance of a done run": File(place="runs/{run}/provenance.json", state=DONE),
    # What a done run does not read: only another training could write it again.
    "snapshot of a done run": File(
        place="runs/{run}/snapshots/step_000000012.safetensors", state=DONE, notice=False, is_mended=False
    ),
    "metrics of a done run": File(place="runs/{run}/metrics.jsonl", state=DONE, notice=False, is_mended=False),
}


class Malicious:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def flipped(position: Callable[[int], int]) -> Callable[[bytes], bytes]:
    def flip(content: bytes) -> bytes:
        spoilt = bytearray(content)
        spoilt[position(len(content))] ^= 1
        return bytes(spoilt)

    return flip


DAMAGES = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "first byte": flipped(lambda size: 0),
    "ninth byte": flipped(lambda size: 8),
    "first third": flipped(lambda size: size // 3),
    "middle": flipped(lambda size: size // 2),
    "last but one byte": flipped(lambda size: size - 2),
    "last byte": flipped(lambda size: size - 1),
}
QUICK = ("middle", "deleted")

UNNOTICED = {("result", "deleted")}
"""Done means that the result exists: without it the run is one that was not evaluated yet."""
UNMISSED = {("snapshot of the last step", "deleted")}
"""Only a result tells which step was the last. The next run misses it."""


def cells() -> list:
    names = [*DAMAGES, "deleted", "another's", "pickle"]
    return [
        pytest.param(file, damage, marks=[] if damage in QUICK else pytest.mark.slow, id=f"{file}: {damage}")
        for file in FILES
        for damage in names
    ]


def place(storage: Storage, file: File, config=CONFIG) -> Path:
    return storage.root / file.place.format(run=config.run_id, cache=cache_id(config.data))


def quiet(line: str) -> None:
    pass


def brought_to(state: int, storage: Storage, config) -> Storage:
    if state == FETCHED:
        ensure_cache(config.data, storage, quiet)
    else:
        begin(storage, state, config)
    return storage


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict:
    return numbers(brought_to(DONE, Storage.at(tmp_path_factory.mktemp("undisturbed")), CONFIG), CONFIG)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, object], Storage]:
    """Storages in each state, made once."""
    made: dict[tuple, Storage] = {}

    def prepare(state: int, config) -> Storage:
        key = (state, config.run_id)
        if key not in made:
            made[key] = brought_to(state, Storage.at(tmp_path_factory.mktemp("prepared")), config)
        return made[key]

    return prepare


def spoil(path: Path, damage: str, foreign: Path, target: Path) -> None:
    if damage == "deleted":
        path.unlink()
    elif damage == "another's":
        shutil.copyfile(foreign, path)
    elif damage == "pickle":
        path.write_bytes(pickle.dumps(Malicious(target)))
    else:
        path.write_bytes(DAMAGES[damage](path.read_bytes()))


def run_again(storage: Storage, path: Path) -> str:
    """The run, after the advice of an error that names the file was followed; everything that was said."""
    paper_index.read_index.cache_clear()  # as in a new process
    events: list = []
    try:
        train_single_k(CONFIG, storage, [events.append])
    except (ValueError, RuntimeError) as error:
        assert str(path) in str(error) and "delete it and fetch again" in str(error)
        path.unlink()
        events.clear()
        train_single_k(CONFIG, storage, [events.append])
        return str(error)
    return notices(events)


@pytest.mark.parametrize("name, damage", cells())
def test_damage_is_named_and_changes_no_number(
    prepared: Callable, undisturbed: dict, tmp_path: Path, name: str, damage: str
) -> None:
    file = FILES[name]
    shutil.copytree(prepared(file.state, CONFIG).root, tmp_path / "storage")
    storage = Storage.at(tmp_path / "storage")
    path, target = place(storage, file), tmp_path / "executed"
    assert not verify_storage(storage.root).damaged
    spoil(path, damage, place(prepared(file.state, OTHER), file, OTHER), target)

    before = tree(storage.root)
    verified = verify_storage(storage.root)
    assert tree(storage.root) == before, "verify changes nothing"
    if (name, damage) in UNMISSED:
        assert not verified.damaged
    else:
        (found,) = verified.damaged
        assert found.path in (path, path.parent), "a checkpoint and a flat form are one folder"
        assert len(str(verified).splitlines()) == 2, "one line a damaged file, and a summary"

    said = run_again(storage, path)
    if file.notice and (name, damage) not in UNNOTICED:
        assert path.name in said or str(path.parent) in said, said
    assert numbers_but_metrics(storage) == {key: undisturbed[key] for key in ("weights", "xe", "summaries")}
    if file.is_mended:
        assert numbers(storage, CONFIG) == undisturbed
        assert not verify_storage(storage.root).damaged
    assert not target.exists()


def numbers_but_metrics(storage: Storage) -> dict:
    result = read_result(storage.result(CONFIG.run_id))
    return {"weights": result.run["weights_sha256"], "xe": result.rows_of("xe"), "summaries": result.summaries}


def test_the_malicious_file_would_execute_if_it_were_unpickled(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Malicious(tmp_path / "executed")))
    assert (tmp_path / "executed").exists()


@pytest.mark.parametrize("damage", [*DAMAGES, "deleted", "another's", "pickle"])
def test_a_damaged_snapshot_is_not_evaluated(prepared: Callable, tmp_path: Path, damage: str) -> None:
    shutil.copytree(prepared(DONE, CONFIG).root, tmp_path / "storage")
    storage = Storage.at(tmp_path / "storage")
    path = storage.snapshot(CONFIG.run_id, 6)
    before = storage.result(CONFIG.run_id).read_bytes()
    spoil(path, damage, prepared(DONE, OTHER).snapshot(OTHER.run_id, 6), tmp_path / "executed")
    with pytest.raises(ValueError, match=r"step_000000006\.safetensors (is damaged|is missing|belongs to)"):
        evaluate_again(CONFIG, storage, 6, ())
    assert storage.result(CONFIG.run_id).read_bytes() == before
    # Older snapshots are thinned by policy, so that one of them is missing cannot be told from that it was deleted.
    assert [found.path for found in verify_storage(storage.root).damaged] == [path][: damage != "deleted"]


@pytest.mark.parametrize("damage", [*DAMAGES, "deleted", "another's", "pickle"])
def test_a_damaged_tokenizer_of_a_text_cache_is_found_and_mended(tmp_path: Path, damage: str) -> None:
    """Training does not read it: the papers are tokenised already. `verify` finds it, and another fetch mends it."""
    papers = tmp_path / "papers"
    papers.mkdir()
    for split in ("train", "test"):
        lines = [f'{{"text": "{split} paper {i} on rings and groups", "label": "{"ab"[i % 2]}"}}\n' for i in range(8)]
        (papers / f"{split}.jsonl").write_text("".join(lines))
    storage = Storage.at(tmp_path / "storage")
    data = DataConfig(source=str(papers), tokenizer="train:300")
    cache = ensure_cache(data, storage, quiet)
    other = ensure_cache(DataConfig(source=str(papers), tokenizer="train:260"), storage, quiet)
    whole, path = tree(cache.folder), cache.folder / "tokenizer.json"
    spoil(path, damage, other.folder / "tokenizer.json", tmp_path / "executed")
    assert [found.path for found in verify_storage(storage.root).damaged] == [path]
    path.unlink(missing_ok=True)  # what `verify` says to do
    assert verify_cache(ensure_cache(data, storage, quiet)) == []
    assert tree(cache.folder) == whole
    assert not (tmp_path / "executed").exists()


def test_a_run_whose_every_checkpoint_is_damaged_begins_anew(
    prepared: Callable, undisturbed: dict, tmp_path: Path
) -> None:
    shutil.copytree(prepared(BEGUN, CONFIG).root, tmp_path / "storage")
    storage = Storage.at(tmp_path / "storage")
    for path in storage.checkpoints(CONFIG.run_id).rglob("model.safetensors"):
        path.write_bytes(b"")
    said = run_again(storage, storage.root)
    assert said.count("is damaged (model.safetensors has 0 bytes") == 2 and "it begins anew" in said
    assert numbers(storage, CONFIG) == undisturbed
