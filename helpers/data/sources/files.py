"""Papers in Parquet or JSONL files on this machine (`split_files` says which, `rows` reads them)."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.config import DataConfig
from helpers.data.file_content import content_sha256
from helpers.data.sources.source import Load, Report, Source
from helpers.data.sources.split_files import split_files, unread_files

if TYPE_CHECKING:
    from helpers.data.papers import TextSource


def read(data: DataConfig, cache_folder: Path, report: Report, load: Load) -> "TextSource":
    """The papers of local files; ValueError names the file and row that cannot be read. `load` has no part in it."""
    from helpers.data.papers import TextSource, generated_split

    files = split_files(data.source)
    if unread := unread_files(data.source, files):
        report(f"not read, for their names belong to no split: {', '.join(unread)}")
    limit = data.max_papers_per_component
    splits = {
        name: generated_split(name, _rows, {"paths": tuple(map(str, paths)), "limit": limit}, cache_folder)
        for name, paths in files.items()
    }
    names = ", ".join(path.name for paths in files.values() for path in paths)
    return TextSource(origin=f"local files {names}", splits=splits)


def _rows(paths: tuple[str, ...], limit: int | None) -> Iterator[dict[str, str]]:
    """The rows of the files, one file at a time; with a limit, at most so many of each label.

    A tuple, for `datasets` calls a generator once for each item of a list.
    """
    from helpers.data.sources.rows import read_rows

    taken: dict[str, int] = {}
    for path in paths:
        for row in read_rows(Path(path)):
            label = row["label"].strip()
            taken[label] = taken.get(label, 0) + 1
            if limit is None or taken[label] <= limit:
                yield row
    if not taken:
        raise ValueError(f"{', '.join(paths)}: no row; a split needs papers")


def _identity(data: DataConfig) -> dict[str, Any]:
    return {"files": content_sha256(split_files(data.source))}


SOURCE = Source(word="local", identity=_identity, component_names=lambda data: None, read=read)
