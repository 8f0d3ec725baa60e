"""The token cache on disk: its layout, interrupted and damaged builds, verification, and the flat form."""

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tokenizers

from helpers.config import DataConfig, SyntheticConfig
from helpers.data import cache_writer, hidden_markov
from helpers.data import flat_tokens as flat_tokens_module
from helpers.data.cache_id import cache_id
from helpers.data.cache_writer import part_ranges, write_cache
from helpers.data.fetch_arxiv import ensure_cache
from helpers.data.flat_tokens import flat_tokens
from helpers.data.new_cache import Batch, NewCache, SplitPapers
from helpers.data.token_cache import TokenCache, open_cache, verify_cache
from helpers.storage import Storage

NUM_PAPERS = {"train": 23, "validation": 4, "test": 6}
WORDS = ["<s>", "ring", "group", "field"]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_writer, "PART_PAPERS", 8)
    monkeypatch.setattr(cache_writer, "_ROW_GROUP_TOKENS", 10)


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    """Paper i of a split is i + 1 words, then two that tell it from the others; label b, a, b, a ..."""
    (tmp_path / "papers").mkdir()
    for split, num_papers in NUM_PAPERS.items():
        papers = [{"text": words(split, i), "label": "ba"[i % 2]} for i in range(num_papers)]
        (tmp_path / "papers" / f"{split}.jsonl").write_text("".join(json.dumps(p) + "\n" for p in papers))
    model = tokenizers.models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<s>")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    place = {"source": str(tmp_path / "papers"), "tokenizer": str(tmp_path / "tokenizer.json")}
    return DataConfig(**place, near_duplicates="keep")  # of so few words, papers of two splits may be alike


def words(split: str, i: int) -> str:
    return " ".join(["ring"] * (i + 1) + ["group"] * (1 + list(NUM_PAPERS).index(split)) + ["field"])


def ids(split: str, i: int) -> list[int]:
    return [WORDS.index(word) for word in words(split, i).split()]


def build(data: DataConfig, storage: Storage) -> TokenCache:
    return ensure_cache(data, storage, report=lambda line: None)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_layout_and_rows(data: DataConfig, storage: Storage) -> None:
    cache = build(data, storage)
    assert cache.folder == storage.cache(cache_id(data))
    assert sorted(str(path.relative_to(cache.folder)) for path in cache.folder.rglob("*.*")) == [
        "index.parquet",
        "manifest.json",
        "test/part-00000.parquet",
        "tokenizer.json",
        "train/part-00000.parquet",
        "train/part-00001.parquet",
        "train/part-00002.parquet",
        "validation/part-00000.parquet",
    ]
    assert (cache.folder / "tokenizer.json").read_bytes() == Path(data.tokenizer).read_bytes()
    part = pq.read_table(cache.folder / "train/part-00001.parquet")
    assert part.schema.names == ["paper_id", "category", "tokens"]
    assert part.schema.types == [pa.string(), pa.string(), pa.list_(pa.uint16())]
    assert part["tokens"].to_pylist() == [ids("train", i) for i in range(8, 16)]
    assert part["category"].to_pylist() == ["b", "a"] * 4
    assert (cache.components, cache.vocab_size, cache.bos_id) == (("a", "b"), 4, 0)


def test_manifest_counts(data: DataConfig, storage: Storage) -> None:
    cache = build(data, storage)
    train = cache.manifest["splits"]["train"]
    lengths = [len(ids("train", i)) for i in range(23)]
    assert (train["papers"], train["tokens"]) == (23, sum(lengths))
    assert train["components"] == {
        "a": {"papers": 11, "tokens": sum(lengths[1::2])},
        "b": {"papers": 12, "tokens": sum(lengths[::2])},
    }
    assert [part["rows"] for part in train["parts"]] == [8, 8, 7]
    assert [part["tokens"] for part in train["parts"]] == [sum(lengths[i : i + 8]) for i in (0, 8, 16)]
    assert train["drops"] == {"ambiguous_label": 0, "held_out": 0, "near_held_out": 0, "duplicate": 0}
    assert str(Path(data.source).parent) not in json.dumps(cache.manifest), "a place of this machine"


def test_index_and_flat_tokens(data: DataConfig, storage: Storage) -> None:
    cache = build(data, storage)
    for split, num_papers in NUM_PAPERS.items():
        index, flat = cache.index(split), flat_tokens(cache, split, storage)
        expected = [ids(split, i) for i in range(num_papers)]
        assert index.component.tolist() == [1, 0] * (num_papers // 2) + [1] * (num_papers % 2)
        assert index.component.dtype == np.int32
        assert index.num_tokens.tolist() == [len(paper) for paper in expected]
        assert flat.tokens.tolist() == [token for paper in expected for token in paper]
        assert (flat.tokens.dtype, flat.offsets.dtype) == (np.uint16, np.int64)
        assert flat.offsets.tolist() == [0, *np.cumsum([len(paper) for paper in expected])]
        assert not flat.tokens.flags.writeable
        stored = pq.read_table(cache.folder / cache.manifest["splits"][split]["parts"][0]["file"])
        assert index.paper_ids[: len(stored)].tolist() == stored["paper_id"].to_pylist()


def test_a_second_call_reads_no_source(data: DataConfig, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    built = build(data, storage)

    def fail(*arguments: object, **named: object) -> None:
        raise AssertionError("the source was loaded again")

    again = ensure_cache(data, storage, report=fail, load=fail)
    assert again.manifest == built.manifest
    assert not list(storage.scratch.rglob("*.arrow")), "the texts are not kept beside the tokens"


@pytest.mark.parametrize("killed_at", range(8))
def test_a_killed_build_goes_on_to_the_same_cache(
    data: DataConfig, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    undisturbed = snapshot(build(data, Storage.at(tmp_path / "undisturbed")).folder)
    written: list[Path] = []
    publish = cache_writer.publish

    def count(path: Path, write) -> Path:
        if len(written) == killed_at:
            raise KeyboardInterrupt
        written.append(path)
        return publish(path, write)

    monkeypatch.setattr(cache_writer, "publish", count)
    if killed_at < 7:  # tokenizer, five parts, index
        with pytest.raises(KeyboardInterrupt):
            build(data, storage)
        assert open_cache(storage, cache_id(data)) is None
    kept = [path for path in written if path.parent.name in NUM_PAPERS]
    killed_at = -1
    written.clear()
    assert snapshot(build(data, storage).folder) == undisturbed
    assert not set(kept) & set(written), "a finished part is not written again"


def test_a_full_disk_is_one_clear_error_and_nothing_is_half_written(
    data: DataConfig, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bytes = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if "part-00002" in path.name:
            write_bytes(path, bytes(content)[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_bytes(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(RuntimeError, match=r"part-00002\.parquet could not be written \(No space left on device\)"):
        build(data, storage)
    folder = storage.cache(cache_id(data))
    assert sorted(snapshot(folder)) == ["tokenizer.json", "train/part-00000.parquet", "train/part-00001.parquet"]
    monkeypatch.undo()
    assert verify_cache(build(data, storage)) == []


def test_broken_and_foreign_parts_are_written_again(data: DataConfig, storage: Storage, tmp_path: Path) -> None:
    undisturbed = snapshot(build(data, storage).folder)
    folder = storage.cache(cache_id(data))
    parts = [folder / f"train/part-0000{n}.parquet" for n in range(3)]
    (folder / "manifest.json").unlink()
    parts[0].write_bytes(undisturbed["train/part-00000.parquet"][:-20])
    middle = bytearray(undisturbed["train/part-00001.parquet"])
    middle[len(middle) // 4] ^= 255
    parts[1].write_bytes(middle)
    shutil.copy(folder / "test/part-00000.parquet", parts[2])
    leftover = folder / "train" / ".partial-deadbeef-part-00000.parquet"
    leftover.write_bytes(b"left by a killed process")
    os.utime(leftover, (0, 0))  # a fresh one may belong to a process that is at work
    assert snapshot(build(data, storage).folder) == undisturbed


def test_damage_is_named(data: DataConfig, storage: Storage) -> None:
    cache = build(data, storage)
    assert verify_cache(cache) == []
    part, index = cache.folder / "train/part-00001.parquet", cache.folder / "index.parquet"
    content = bytearray(part.read_bytes())
    content[50] ^= 1
    part.write_bytes(content)
    assert verify_cache(cache) == [f"{part} does not have the SHA-256 of the manifest"]
    assert open_cache(storage, cache.cache_id) is not None, "opening looks at sizes alone"
    with pytest.raises(ValueError, match=r"part-00001\.parquet is damaged"):
        flat_tokens(cache, "train", storage)
    assert not list(storage.scratch.rglob("tokens.bin"))
    part.write_bytes(content[:-1])
    index.unlink()
    assert [fault.split(" ", 1)[1] for fault in verify_cache(cache)] == [
        f"has {len(content) - 1:,} bytes instead of {len(content):,}",
        "is missing",
    ]
    assert open_cache(storage, cache.cache_id) is None


def test_a_damaged_cache_is_mended_and_said_so(data: DataConfig, storage: Storage) -> None:
    cache = build(data, storage)
    undisturbed = snapshot(cache.folder)
    (cache.folder / "train/part-00001.parquet").unlink()
    lines: list[str] = []
    ensure_cache(data, storage, lines.append)
    assert any("part-00001.parquet is missing: it is written again" in line for line in lines)
    assert snapshot(cache.folder) == undisturbed


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 0}', '{"schema": 1, "cache_id": "other"}'])
def test_without_a_valid_manifest_nothing_is_published(data: DataConfig, storage: Storage, content: str) -> None:
    cache = build(data, storage)
    (cache.folder / "manifest.json").write_text(content)
    assert open_cache(storage, cache.cache_id) is None
    assert build(data, storage).manifest == cache.manifest


@pytest.mark.parametrize("file", ["tokens.bin", "offsets.npy", "flat.json"])
def test_a_wrong_flat_form_is_built_again(data: DataConfig, storage: Storage, file: str) -> None:
    cache = build(data, storage)
    right = flat_tokens(cache, "train", storage).tokens.tolist()
    path = storage.flat_tokens(cache.cache_id) / "train" / file
    path.write_bytes(path.read_bytes()[:-6])
    assert flat_tokens(cache, "train", storage).tokens.tolist() == right


def test_the_flat_form_is_built_once(data: DataConfig, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = build(data, storage)
    flat_tokens(cache, "test", storage)
    monkeypatch.setattr(flat_tokens_module, "_unpack", lambda *arguments: pytest.fail("unpacked again"))
    flat_tokens(cache, "test", storage)


def test_large_vocabularies_take_uint32(storage: Storage) -> None:
    def read(rows: range):
        yield Batch([f"p{i}" for i in rows], ["a"] * len(rows), [np.array([i, 65_536], np.uint32) for i in rows])

    papers = {split: SplitPapers(num_papers=3, read=read) for split in NUM_PAPERS}
    new = NewCache(origin="test", content_sha256="0", vocab_size=65_537, bos_id=0, components=("a",), splits=papers)
    write_cache(storage, "wide", {}, new)
    flat = flat_tokens(open_cache(storage, "wide"), "train", storage)
    assert flat.tokens.dtype == np.uint32
    assert flat.tokens.tolist() == [0, 65_536, 1, 65_536, 2, 65_536]


def test_parts_are_bounded_in_papers_and_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_writer, "PART_CHARS", 10)
    assert part_ranges(17) == [range(0, 8), range(8, 16), range(16, 17)]
    assert part_ranges(17, part_papers=12) == [range(0, 12), range(12, 17)]
    lengths = np.array([4, 6, 1, 50, 3, 3, 3, 3])
    assert part_ranges(8, lengths) == [range(0, 2), range(2, 3), range(3, 4), range(4, 7), range(7, 8)]


def test_the_synthetic_source_is_a_cache_like_any_other(storage: Storage) -> None:
    config = SyntheticConfig(num_components=3, num_symbols=7, papers_per_component=5, paper_tokens=40)
    cache = build(DataConfig(synthetic=config), storage)
    names = hidden_markov.component_names(config)
    assert cache.components == names
    assert (cache.vocab_size, cache.bos_id, cache.dtype) == (8, 7, np.uint16)
    assert cache.manifest["processes_sha256"] == hidden_markov.processes_digest(config)
    assert cache.manifest["tokenizer"] is None and not (cache.folder / "tokenizer.json").exists()
    for split in NUM_PAPERS:
        papers = [hidden_markov.sample_papers(config, split, component) for component in range(3)]
        assert np.array_equal(flat_tokens(cache, split, storage).tokens, np.concatenate(papers).ravel())
    assert cache.index("train").paper_ids[5] == f"{names[1]}-train-00000"
    assert verify_cache(cache) == []


def test_too_many_synthetic_symbols_are_an_error(storage: Storage) -> None:
    data = DataConfig(synthetic=SyntheticConfig(num_symbols=2**16))
    with pytest.raises(ValueError, match="num_symbols = 65536 is not possible; use at most 65535"):
        build(data, storage)
