"""Writing a token cache: part by part, each published whole, so that an interrupted build goes on where it stopped.

A part's Parquet metadata say what it holds (cache, content, tokenizer, split, rows). A part that is there, says the
right thing and reads to its end, every page against its checksum, is kept; any other is written again. A part is
built in memory, about 50 MB, and lands in storage as one finished file: Drive loses files that are appended to.
"""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
from tqdm import tqdm

from helpers.config import canonical_json
from helpers.data.new_cache import Batch, NewCache, SplitPapers, token_dtype
from helpers.data.token_cache import INDEX, MANIFEST, SCHEMA, TOKENIZER
from helpers.seals import publish_sealed
from helpers.storage import Storage, file_sha256, publish, write_verified

PART_PAPERS = 2_048
PART_CHARS = 2**28
_ROW_GROUP_TOKENS = 2**22
# zstd on plain values finds repeated phrases: 1.46 bytes a token on abstracts, against 1.54 with BYTE_STREAM_SPLIT.
_PARQUET = {
    "compression": "zstd",
    "compression_level": 9,
    "use_dictionary": ["category"],
    "write_page_checksum": True,
}


def write_cache(storage: Storage, cache_id: str, request: dict[str, Any], new: NewCache) -> None:
    """Write the parts, the tokenizer, the index and, last, the manifest of a cache.

    Raises RuntimeError when a file cannot be written; finished parts stay for the next call.
    """
    folder = storage.cache(cache_id)
    tokenizer_sha256 = new.tokenizer.sha256 if new.tokenizer else None
    identity = {"cache_id": cache_id, "content_sha256": new.content_sha256, "tokenizer_sha256": tokenizer_sha256}
    if new.tokenizer:
        _publish(storage, folder / TOKENIZER, new.tokenizer.file)
    index, splits = [], {}
    num_papers = sum(papers.num_papers for papers in new.splits.values())
    with tqdm(total=num_papers, unit="paper", desc="token cache", mininterval=2) as bar:
        for split, papers in new.splits.items():
            rows, parts = _write_split(storage, folder, split, papers, identity, token_dtype(new.vocab_size), bar)
            index.append(rows)
            splits[split] = _describe_split(rows, parts, papers, new.components)
    _publish(storage, folder / INDEX, _parquet_bytes(index[0].schema, iter(index)))
    files = [TOKENIZER, INDEX] if new.tokenizer else [INDEX]
    with _explained(storage, folder / MANIFEST):
        publish_sealed(
            folder / MANIFEST,
            {
                "schema": SCHEMA,
                "cache_id": cache_id,
                "request": request,
                **_describe(new),
                "splits": splits,
                "files": {name: _file_facts(folder / name) for name in files},
            },
        )


def _describe(new: NewCache) -> dict[str, Any]:
    tokenizer = new.tokenizer
    return {
        "origin": new.origin,
        "content_sha256": new.content_sha256,
        "processes_sha256": new.processes_sha256,
        "tokenizer": tokenizer and {"name": tokenizer.name, "sha256": tokenizer.sha256, "size": tokenizer.vocab_size},
        "vocab_size": new.vocab_size,
        "bos_id": new.bos_id,
        "token_dtype": token_dtype(new.vocab_size).name,
        "components": list(new.components),
    }


def part_ranges(num_papers: int, num_chars: np.ndarray | None = None, part_papers: int | None = None) -> list[range]:
    """The rows of each part: at most `part_papers`, and PART_CHARS characters where more than one paper."""
    part_papers = part_papers or PART_PAPERS
    ends, papers, chars = [], 0, 0
    for row in range(num_papers):
        length = 0 if num_chars is None else int(num_chars[row])
        if papers and (papers == part_papers or chars + length > PART_CHARS):
            ends.append(row)
            papers, chars = 0, 0
        papers, chars = papers + 1, chars + length
    bounds = [0, *ends, num_papers]
    return [range(start, stop) for start, stop in itertools.pairwise(bounds)]


def _write_split(
    storage: Storage,
    folder: Path,
    split: str,
    papers: SplitPapers,
    identity: dict[str, Any],
    dtype: np.dtype,
    bar: tqdm,
) -> tuple[pa.Table, list[dict[str, Any]]]:
    """The split's index rows and the manifest's entry of each part; parts that are whole already are kept."""
    index, parts = [], []
    for number, rows in enumerate(part_ranges(papers.num_papers, papers.num_chars, papers.part_papers)):
        name = f"{split}/part-{number:05d}.parquet"
        schema = _schema(dtype, {**identity, "split": split, "rows": [rows.start, rows.stop]})
        begun, in_part = bar.n, _index_rows(folder / name, split, schema)
        if in_part is None:
            _publish(storage, folder / name, _parquet_bytes(schema, _row_groups(papers.read(rows), schema, bar)))
            in_part = _index_rows(folder / name, split, schema)
            if in_part is None:
                raise RuntimeError(f"{folder / name} does not read back as it was written; check the storage")
        bar.update(begun + len(rows) - bar.n)
        index.append(in_part)
        tokens = pa.compute.sum(in_part["num_tokens"]).as_py()
        parts.append({"file": name, "rows": len(in_part), "tokens": tokens, **_file_facts(folder / name)})
    return pa.concat_tables(index), parts


def _schema(dtype: np.dtype, holds: dict[str, Any]) -> pa.Schema:
    columns = {"paper_id": pa.string(), "category": pa.string(), "tokens": pa.list_(pa.from_numpy_dtype(dtype))}
    return pa.schema(columns, metadata={"token_cache": canonical_json(holds)})


def _row_groups(batches: Iterator[Batch], schema: pa.Schema, bar: tqdm) -> Iterator[pa.Table]:
    """Batches put together until they hold _ROW_GROUP_TOKENS, each a table."""
    waiting, num_tokens = [], 0
    for batch in batches:
        waiting.append(_table(batch, schema))
        num_tokens += sum(map(len, batch.tokens))
        bar.update(len(batch.paper_ids))
        if num_tokens >= _ROW_GROUP_TOKENS:
            yield pa.concat_tables(waiting)
            waiting, num_tokens = [], 0
    if waiting:
        yield pa.concat_tables(waiting)


def _table(batch: Batch, schema: pa.Schema) -> pa.Table:
    offsets = np.cumsum([0, *map(len, batch.tokens)]).astype(np.int32)
    tokens = pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate(batch.tokens)))
    return pa.table([pa.array(batch.paper_ids), pa.array(batch.categories), tokens], schema=schema)


def _parquet_bytes(schema: pa.Schema, tables: Iterator[pa.Table]) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, schema, **_PARQUET) as writer:
        for table in tables:
            writer.write_table(table.combine_chunks(), row_group_size=max(1, len(table)))
    return sink.getvalue()


def _index_rows(path: Path, split: str, schema: pa.Schema) -> pa.Table | None:
    """The index rows of the part at `path`, all of it read; None when it is missing, broken, or holds other papers."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as part:
            found = part.schema_arrow
            if found.metadata != schema.metadata or not found.equals(schema):
                return None
            groups = [_index_columns(part.read_row_group(group)) for group in range(part.num_row_groups)]
    except (OSError, ValueError, pa.ArrowException):  # a broken footer may fail as text that is not UTF-8
        return None
    rows = pa.concat_tables(groups)
    return rows.add_column(0, "split", pa.array([split] * len(rows)))


def _index_columns(part: pa.Table) -> pa.Table:
    num_tokens = pa.compute.list_value_length(part["tokens"]).cast(pa.int64())
    return part.select(["paper_id", "category"]).append_column("num_tokens", num_tokens)


def _describe_split(
    index: pa.Table, parts: list[dict[str, Any]], papers: SplitPapers, components: Sequence[str]
) -> dict[str, Any]:
    of = {name: index.filter(pa.compute.equal(index["category"], name))["num_tokens"] for name in components}
    return {
        "papers": len(index),
        "tokens": sum(part["tokens"] for part in parts),
        "components": {
            name: {"papers": len(tokens), "tokens": pa.compute.sum(tokens).as_py() or 0} for name, tokens in of.items()
        },
        "drops": dict(papers.drops),
        "notes": dict(papers.notes),
        "parts": parts,
    }


def _file_facts(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": file_sha256(path)}


def _publish(storage: Storage, path: Path, content: bytes | pa.Buffer) -> None:
    with _explained(storage, path):
        publish(path, lambda temporary: write_verified(temporary, memoryview(content)))


@contextlib.contextmanager
def _explained(storage: Storage, path: Path) -> Iterator[None]:
    try:
        storage.require_present()
        yield
    except OSError as error:
        raise RuntimeError(
            f"{path} could not be written ({error.strerror or error}). Finished parts are kept: free some space, or "
            "choose another --storage, and run again to go on from there"
        ) from error
