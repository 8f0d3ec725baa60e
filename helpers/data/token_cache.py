"""The token cache: tokenised papers as Parquet parts, one small index, and the manifest that publishes them.

    cache/<cache_id>/{train,validation,test}/part-00000.parquet    rows paper_id, category, tokens
    cache/<cache_id>/index.parquet                                 split, paper_id, category, num_tokens
    cache/<cache_id>/tokenizer.json                                of a text source
    cache/<cache_id>/manifest.json                                 written last

Planning reads the index alone. Parquet is what travels (a few files on Drive); `flat_tokens` unpacks a split once, on
local disk, into one memory-mapped array.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from helpers.seals import read_sealed
from helpers.storage import Storage, file_sha256

if TYPE_CHECKING:
    from helpers.data.paper_index import PaperIndex

SCHEMA = 1
MANIFEST, INDEX, TOKENIZER = "manifest.json", "index.parquet", "tokenizer.json"


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

    def index(self, split: str) -> "PaperIndex":
        """The papers of `split`; ValueError when the cache has no such split."""
        from helpers.data.paper_index import read_index  # with pyarrow: a manifest is read without it

        require_split(self, split)
        return read_index(self.folder / INDEX, self.manifest["files"][INDEX]["sha256"], self.components, split)

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
    if cache and storage.store:
        storage.store.pull(cache.folder, cache.files())
    return cache if cache and not wrong_sizes(cache) else None


def described_cache(storage: Storage, cache_id: str) -> TokenCache | None:
    """The same for those who read its manifest and index alone: of a cache in an object store no part is brought."""
    cache = read_manifest(storage, cache_id) if storage.store else open_cache(storage, cache_id)
    if cache:
        storage.look(cache.folder / INDEX)
    return cache


def read_manifest(storage: Storage, cache_id: str) -> TokenCache | None:
    """The cache as its manifest describes it, its files unseen; None without a valid manifest.

    ValueError for a manifest that names a file outside of the cache's folder.
    """
    folder = storage.cache(cache_id)
    storage.look(folder / MANIFEST)
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


def require_split(cache: TokenCache, split: str) -> None:
    if split not in cache.manifest["splits"]:
        legal = ", ".join(cache.manifest["splits"])
        raise ValueError(f"split = {split!r} is not in {cache.cache_id}; use one of {legal}")
