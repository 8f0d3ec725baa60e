"""The token cache: tokenised papers as Parquet parts, one small index, and the manifest that publishes them.

    cache/<cache_id>/{train,validation,test}/part-00000.parquet    rows paper_id, category, tokens
    cache/<cache_id>/index.parquet                                 split, paper_id, category, num_tokens
    cache/<cache_id>/tokenizer.json                                of a text source
    cache/<cache_id>/manifest.json                                 written last

Planning reads the index alone. Parquet is what travels (a few files on Drive); `flat_tokens` unpacks a split once,
on local disk, into one memory-mapped array.
"""

import functools
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from helpers.locks import in_turn
from helpers.seals import publish_sealed, read_sealed
from helpers.storage import Storage, file_sha256, publish_folder, remove_unfinished

SCHEMA = 1
SPLITS = ("train", "validation", "test")
MANIFEST, INDEX, TOKENIZER = "manifest.json", "index.parquet", "tokenizer.json"
FLAT, TOKENS, OFFSETS = "flat.json", "tokens.bin", "offsets.npy"


@dataclass(frozen=True, kw_only=True)
class PaperIndex:
    """The papers of one split in the order of its parts (N papers)."""

    paper_ids: np.ndarray
    """str [N]."""
    component: np.ndarray
    """int32 [N], a position in `TokenCache.components`."""
    num_tokens: np.ndarray
    """int64 [N]."""


@dataclass(frozen=True, kw_only=True)
class FlatTokens:
    """All tokens of one split behind each other: paper n is `tokens[offsets[n] : offsets[n + 1]]`."""

    tokens: np.memmap
    """uint16, or uint32 for vocabularies above 65,536 tokens; read-only."""
    offsets: np.ndarray
    """int64 [N + 1]."""


@dataclass(frozen=True, kw_only=True)
class TokenCache:
    """A published cache."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def cache_id(self) -> str:
        return self.manifest["cache_id"]

    @property
    def components(self) -> tuple[str, ...]:
        return tuple(self.manifest["components"])

    @property
    def vocab_size(self) -> int:
        """Number of token ids that can occur, BOS included."""
        return self.manifest["vocab_size"]

    @property
    def bos_id(self) -> int:
        return self.manifest["bos_id"]

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.manifest["token_dtype"])

    def index(self, split: str) -> PaperIndex:
        """The papers of `split`; ValueError when the cache has no such split."""
        _require_split(self, split)
        rows = _read_index(self.folder / INDEX, self.manifest["files"][INDEX]["sha256"])
        rows = rows.filter(pa.compute.equal(rows["split"], split))
        component = pa.compute.index_in(rows["category"], pa.array(self.components))
        if component.null_count:
            raise ValueError(f"{self.folder / INDEX} holds components of another cache; delete it and fetch again")
        return PaperIndex(
            paper_ids=rows["paper_id"].to_numpy().astype(str),
            component=component.to_numpy().astype(np.int32),
            num_tokens=rows["num_tokens"].to_numpy().astype(np.int64),
        )

    def files(self) -> dict[str, dict[str, Any]]:
        """What the manifest says (`bytes`, `sha256`) of each file, by its path in the cache folder."""
        parts = {
            part["file"]: {"bytes": part["bytes"], "sha256": part["sha256"]}
            for split in self.manifest["splits"].values()
            for part in split["parts"]
        }
        return parts | self.manifest["files"]


def open_cache(storage: Storage, cache_id: str) -> TokenCache | None:
    """The published cache `cache_id`; None when it has no valid manifest, or a file is missing or of another size."""
    cache = read_manifest(storage, cache_id)
    return cache if cache and not wrong_sizes(cache) else None


def read_manifest(storage: Storage, cache_id: str) -> TokenCache | None:
    """The cache as its manifest describes it, its files unseen; None without a valid manifest.

    ValueError for a manifest that names a file outside of the cache's folder.
    """
    folder = storage.cache(cache_id)
    try:
        manifest = read_sealed(folder / MANIFEST)
    except (FileNotFoundError, ValueError):
        return None
    if (manifest.get("schema"), manifest.get("cache_id")) != (SCHEMA, cache_id) or not _is_complete(manifest):
        return None
    cache = TokenCache(folder=folder, manifest=manifest)
    for name in cache.files():
        _require_inside(folder, name)
    return cache


def wrong_sizes(cache: TokenCache) -> list[str]:
    """A sentence for each file that is missing or has another size than the manifest says."""
    places = ((cache.folder / name, facts) for name, facts in cache.files().items())
    return [f"{path} {fault}" for path, facts in places if (fault := _size_fault(path, facts))]


def verify_cache(cache: TokenCache) -> list[str]:
    """A sentence for each damaged file, every file read and hashed; a deleted one is built again by the next fetch."""
    places = ((cache.folder / name, facts) for name, facts in cache.files().items())
    return [f"{path} {fault}" for path, facts in places if (fault := file_fault(path, facts))]


def file_fault(path: Path, facts: dict[str, Any]) -> str | None:
    """What is wrong with a file by its manifest's `bytes` and `sha256`, or None. OSError if it cannot be read."""
    if fault := _size_fault(path, facts):
        return fault
    return None if file_sha256(path) == facts["sha256"] else "does not have the SHA-256 of the manifest"


def _size_fault(path: Path, facts: dict[str, Any]) -> str | None:
    if not path.exists():
        return "is missing"
    size = path.stat().st_size
    return None if size == facts["bytes"] else f"has {size:,} bytes instead of {facts['bytes']:,}"


def flat_tokens(cache: TokenCache, split: str, storage: Storage, report: Callable[[str], None] = print) -> FlatTokens:
    """The tokens of `split`, unpacked to local disk the first time, hashed at every opening, and memory-mapped.

    A flat form that is damaged, or of other parts, is reported and built again. Raises ValueError for a split the
    cache lacks or a damaged part, RuntimeError when a part cannot be read or the local disk cannot be written.
    """
    _require_split(cache, split)
    folder = storage.flat_tokens(cache.cache_id) / split
    with in_turn(storage.lock(f"{cache.cache_id}-{split}"), f"the unpacking of {folder}", report):
        if fault := flat_fault(cache, split, folder):
            if folder.exists():
                report(f"{folder} {fault}: it is unpacked again")
            _replace_flat(cache, split, folder)
    tokens = np.memmap(folder / TOKENS, dtype=cache.dtype, mode="r")
    return FlatTokens(tokens=tokens, offsets=np.load(folder / OFFSETS))


def flat_fault(cache: TokenCache, split: str, folder: Path) -> str | None:
    """Why `folder` is not the whole flat form of `split`, or None; its files are read and hashed (about 1 GB a s)."""
    try:
        recorded = read_sealed(folder / FLAT)
        if recorded["of"] != _flat_facts(cache, split):
            return "holds the tokens of other parts"
        for name, sha256 in recorded["files"].items():
            if file_sha256(folder / name) != sha256:
                return f"is damaged: {name} does not have the SHA-256 that {FLAT} names"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"is damaged ({error})"
    return None


def _replace_flat(cache: TokenCache, split: str, folder: Path) -> None:
    try:
        shutil.rmtree(folder, ignore_errors=True)
        remove_unfinished(folder)
        with publish_folder(folder) as temporary:
            _unpack(cache, split, temporary)
    except OSError as error:
        raise RuntimeError(
            f"the tokens of {split} could not be unpacked to {folder} ({error.strerror or error}); "
            "nothing was left there. Free some space on the local disk and run again"
        ) from error


def _flat_facts(cache: TokenCache, split: str) -> dict[str, Any]:
    facts = cache.manifest["splits"][split]
    return {
        "parts": [part["sha256"] for part in facts["parts"]],
        "papers": facts["papers"],
        "tokens": facts["tokens"],
        "token_dtype": cache.dtype.name,
    }


def _unpack(cache: TokenCache, split: str, folder: Path) -> None:
    """Part by part, a row group at a time: memory is bounded by one part's file."""
    lengths = [np.zeros(1, np.int64)]
    with open(folder / TOKENS, "wb") as flat:
        for part in cache.manifest["splits"][split]["parts"]:
            for column in _token_columns(cache.folder / part["file"], part["sha256"]):
                lengths.append(pa.compute.list_value_length(column).to_numpy().astype(np.int64))
                column.flatten().to_numpy().astype(cache.dtype, copy=False).tofile(flat)
    np.save(folder / OFFSETS, np.cumsum(np.concatenate(lengths)))
    hashes = {name: file_sha256(folder / name) for name in (TOKENS, OFFSETS)}
    publish_sealed(folder / FLAT, {"of": _flat_facts(cache, split), "files": hashes})


def _token_columns(path: Path, sha256: str) -> Iterator[pa.ListArray]:
    part = pq.ParquetFile(pa.BufferReader(_read_verified(path, sha256)))
    for group in range(part.num_row_groups):
        yield part.read_row_group(group, columns=["tokens"])["tokens"].combine_chunks()


def _read_verified(path: Path, sha256: str) -> bytes:
    """The file's bytes; ValueError when they are not those that the manifest names, RuntimeError without an answer."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RuntimeError(
            f"{path} cannot be read now ({error.strerror or error}); nothing was changed. "
            "Run the same again when the storage is back"
        ) from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"{path} is damaged: its SHA-256 is not the manifest's; delete it and fetch again")
    return content


@functools.lru_cache(maxsize=4)
def _read_index(path: Path, sha256: str) -> pa.Table:
    """Kept for the next call: a plan asks for the same index once a run. The hash names the content."""
    return pq.read_table(pa.BufferReader(_read_verified(path, sha256)))


def _is_complete(manifest: dict[str, Any]) -> bool:
    """Whether everything that is read from a manifest is there, and of its type."""
    try:
        splits, files = manifest["splits"], manifest["files"]
        parts = [part for split in splits.values() for part in split["parts"]]
        counts = [manifest["vocab_size"], manifest["bos_id"]]
        counts += [count for split in splits.values() for count in (split["papers"], split["tokens"])]
        counts += [facts["bytes"] for facts in [*parts, *files.values()]]
        texts = [manifest["content_sha256"], *manifest["components"], *(part["file"] for part in parts)]
        texts += [facts["sha256"] for facts in [*parts, *files.values()]]
    except (KeyError, TypeError, AttributeError):
        return False
    return (
        INDEX in files
        and isinstance(manifest["components"], list)
        and len(manifest["components"]) > 0
        and manifest.keys() >= {"processes_sha256", "tokenizer"}
        and manifest.get("token_dtype") in ("uint16", "uint32")
        and all(type(count) is int and count >= 0 for count in counts)
        and all(isinstance(text, str) for text in texts)
    )


def _require_inside(folder: Path, name: str) -> None:
    """ValueError if the file `name` of a manifest lies outside of the cache `folder`, also through a link."""
    real_folder = Path(os.path.realpath(folder))
    if "\0" in name or ".." in Path(name).parts or real_folder not in Path(os.path.realpath(folder / name)).parents:
        raise ValueError(
            f"{folder / MANIFEST} names the file {name!r}, which lies outside of its folder; nothing was read. "
            f"Delete {folder} and fetch again"
        )


def _require_split(cache: TokenCache, split: str) -> None:
    if split not in cache.manifest["splits"]:
        legal = ", ".join(cache.manifest["splits"])
        raise ValueError(f"split = {split!r} is not in {cache.cache_id}; use one of {legal}")
