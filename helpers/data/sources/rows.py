"""The rows of Parquet and JSONL files as (text, label name): two columns, each file by its own schema.

Nothing is inferred: a label of a JSONL file is the text that stands there, and the integers of a ClassLabel column mean
what the same file says. ValueError names the file, the row, the column and the value.
"""

import codecs
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from helpers.data.papers import COLUMNS, first_cause
from helpers.data.sources.split_files import kind_of
from helpers.errors import shortened

_BATCH_ROWS = 256
_LIST_ADVICE = "one label a paper is needed: keep one of them, or write the paper once for each"


def read_rows(path: Path) -> Iterator[dict[str, str]]:
    """The rows of one file, in order."""
    return _parquet_rows(path) if kind_of(path) == "parquet" else _jsonl_rows(path)


def _parquet_rows(path: Path) -> Iterator[dict[str, str]]:
    try:
        with pq.ParquetFile(path) as file:
            _require_columns(str(path), file.schema_arrow.names)
            if not file.metadata.num_rows:
                return  # the columns of an empty shard may have no type at all
            _require_types(path, file.schema_arrow)
            names, row = _class_names(file.schema_arrow), 0
            for batch in file.iter_batches(_BATCH_ROWS, columns=list(COLUMNS)):
                texts, labels = (_values(path, row, name, batch.column(name)) for name in COLUMNS)
                for text, label in zip(texts, labels, strict=True):
                    yield _checked(f"{path} row {row}", text, _named(label, names))
                    row += 1
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} cannot be read as Parquet ({first_cause(error)}); write it again") from error


def _values(path: Path, start: int, name: str, column: pa.Array) -> list[Any]:
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        for row, value in enumerate(column, start):
            try:
                value.as_py()
            except UnicodeDecodeError as error:
                raise ValueError(f"{path} row {row}: {name} is not UTF-8 ({error}); save it as UTF-8") from error
        raise


def _require_types(path: Path, schema: pa.Schema) -> None:
    for name in COLUMNS:
        kind = schema.field(name).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
            continue
        if name == "label" and pa.types.is_integer(kind) and _class_names(schema):
            continue
        if name == "label" and pa.types.is_integer(kind):
            raise ValueError(
                f"{path}: column 'label' holds numbers ({kind}) without a name; "
                "give names, or a ClassLabel feature that holds them"
            )
        if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
            raise ValueError(f"{path}: column {name!r} holds lists ({kind}); {_LIST_ADVICE}")
        raise ValueError(f"{path}: column {name!r} holds {kind}; it needs text")


def _class_names(schema: pa.Schema) -> tuple[str, ...] | None:
    """The names behind the integers of this file's label column, as `datasets` writes them into the schema."""
    written = (schema.metadata or {}).get(b"huggingface")
    feature = json.loads(written).get("info", {}).get("features", {}).get("label", {}) if written else {}
    names = feature.get("names") if isinstance(feature, dict) else None
    return tuple(names) if names else None


def _named(label: Any, names: tuple[str, ...] | None) -> Any:
    return names[label] if isinstance(label, int) and names and 0 <= label < len(names) else label


def _jsonl_rows(path: Path) -> Iterator[dict[str, str]]:
    with pa.input_stream(str(path), compression="detect") as stream:
        try:
            for number, line in enumerate(_lines(stream), start=1):
                if line.strip():
                    yield _json_row(f"{path} line {number}", line)
        except OSError as error:  # of the decompression
            raise ValueError(f"{path} cannot be unpacked ({first_cause(error)}); copy it again") from error


def _lines(stream: pa.NativeFile) -> Iterator[bytes]:
    rest = b""
    while block := stream.read(2**20):
        *whole, rest = (rest + block).split(b"\n")
        yield from whole
    if rest:
        yield rest


def _json_row(where: str, line: bytes) -> dict[str, str]:
    try:
        row = json.loads(line.removeprefix(codecs.BOM_UTF8).decode("utf-8"), object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        raise ValueError(f"{where} is not UTF-8 ({error}); save it as UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not JSON ({error}); each line is one object with text and label") from error
    if not isinstance(row, dict):
        raise ValueError(f"{where} is {shortened(row)}; each line is one object with text and label")
    _require_columns(where, row)
    return _checked(where, row["text"], row["label"])


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} stands there twice")
    return row


def _require_columns(where: str, names: Iterable[str]) -> None:
    names = list(names)
    for column in COLUMNS:
        if names.count(column) != 1:
            what = "is missing" if column not in names else "is there more than once"
            raise ValueError(f"{where}: column {column!r} {what}; there are {', '.join(names) or 'none'}")


def _checked(where: str, text: Any, label: Any) -> dict[str, str]:
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{where}: text = {shortened(text)} holds no text; remove the row or fill it in")
    if isinstance(label, list):
        raise ValueError(f"{where}: label = {shortened(label)} is a list; {_LIST_ADVICE}")
    if isinstance(label, int | float):
        raise ValueError(f"{where}: label = {shortened(label)} is a number without a name; write the name as text")
    if not isinstance(label, str) or not label.strip():
        raise ValueError(f"{where}: label = {shortened(label)} names no component; every paper needs one: math.GR")
    for name, value in zip(COLUMNS, (text, label), strict=True):
        _require_unicode(where, name, value)
    return {"text": text, "label": label}


def _require_unicode(where: str, name: str, value: str) -> None:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"{where}: {name} holds half of a character ({error}); write it whole") from error
