"""The papers of a cache, from its index file: which component each belongs to, and how long it is."""

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


@dataclass(frozen=True, kw_only=True)
class PaperIndex:
    """The papers of one split in the order of its parts (N papers)."""

    paper_ids: np.ndarray
    """str [N]."""
    component: np.ndarray
    """int32 [N], a position among the cache's components."""
    num_tokens: np.ndarray
    """int64 [N]."""


@functools.lru_cache(maxsize=16)
def read_index(path: Path, sha256: str, components: tuple[str, ...], split: str) -> PaperIndex:
    """The papers of `split`, kept for the next call: a plan asks for the same index once a run.

    The hash names the content. ValueError for a damaged file or another cache's, RuntimeError if it cannot be read now.
    """
    # Lists, and not `to_numpy`, which imports pandas.
    columns = pq.ParquetFile(pa.BufferReader(read_verified(path, sha256))).read().to_pydict()
    number = {name: position for position, name in enumerate(components)}
    if not number.keys() >= set(columns["category"]):
        raise ValueError(f"{path} holds components of another cache; delete it and fetch again")
    rows = [row for row, name in enumerate(columns["split"]) if name == split]
    return PaperIndex(
        paper_ids=np.array(_take(columns["paper_id"], rows), dtype=str),
        component=np.array([number[name] for name in _take(columns["category"], rows)], dtype=np.int32),
        num_tokens=np.array(_take(columns["num_tokens"], rows), dtype=np.int64),
    )


def read_verified(path: Path, sha256: str) -> bytes:
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


def _take(values: Sequence, rows: Sequence[int]) -> list:
    return [values[row] for row in rows]
