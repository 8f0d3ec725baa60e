"""The memory-mapped form of a split's tokens on local disk: unpacked from Parquet once, hashed when it is opened."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from helpers.data.paper_index import read_verified
from helpers.data.token_cache import TokenCache, require_split
from helpers.locks import in_turn
from helpers.seals import publish_sealed, read_sealed
from helpers.storage import Storage, file_sha256, publish_folder, remove_unfinished

FLAT, TOKENS, OFFSETS = "flat.json", "tokens.bin", "offsets.npy"


@dataclass(frozen=True, kw_only=True)
class FlatTokens:
    """All tokens of one split behind each other: paper n is `tokens[offsets[n] : offsets[n + 1]]`."""

    tokens: np.memmap
    """uint16, or uint32 for vocabularies above 65,536 tokens; read-only."""
    offsets: np.ndarray
    """int64 [N + 1]."""


def flat_tokens(cache: TokenCache, split: str, storage: Storage, report: Callable[[str], None] = print) -> FlatTokens:
    """The tokens of `split`, unpacked to local disk the first time, hashed at every opening, and memory-mapped.

    A flat form that is damaged, or of other parts, is reported and built again. Raises ValueError for a split the
    cache lacks or a damaged part, RuntimeError when a part cannot be read or the local disk cannot be written.
    """
    require_split(cache, split)
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
    part = pq.ParquetFile(pa.BufferReader(read_verified(path, sha256)))
    for group in range(part.num_row_groups):
        yield part.read_row_group(group, columns=["tokens"])["tokens"].combine_chunks()
