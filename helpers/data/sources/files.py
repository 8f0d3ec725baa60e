"""Papers in Parquet or JSONL files on this machine: which file holds which split, and the papers in them."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.config import DataConfig
from helpers.data.file_content import content_sha256, require_utf8
from helpers.data.sources.source import Load, Report, Source

if TYPE_CHECKING:
    from helpers.data.papers import TextSource

_SPLIT_WORDS = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}
_KINDS = {".parquet": "parquet", ".jsonl": "json"}
_EXAMPLE = "train.parquet, validation.parquet, test.parquet (or .jsonl)"


def read(data: DataConfig, cache_folder: Path, report: Report, load: Load) -> "TextSource":
    """The papers of local files; ValueError names the file or row that cannot be read."""
    from datasets.exceptions import DatasetGenerationError

    from helpers.data.papers import TextSource, first_cause, paper_splits

    files, limit = split_files(data.source), data.max_papers_per_component
    # A Parquet file is checked row by row.
    require_utf8(path for paths in files.values() for path in paths if path.suffix != ".parquet")
    names = ", ".join(path.name for paths in files.values() for path in paths)
    try:
        loaded = load(
            path=builder_name(files),
            data_files={split: [str(path) for path in paths] for split, paths in files.items()},
            cache_dir=str(cache_folder),
            streaming=limit is not None,
        )
        splits = paper_splits(loaded, cache_folder=cache_folder, limit=limit)
    except (ValueError, DatasetGenerationError) as error:
        raise ValueError(f"source = {data.source!r} could not be read from {names}: {first_cause(error)}") from error
    return TextSource(origin=f"local files {names}", splits=splits)


def split_files(source: str) -> dict[str, list[Path]]:
    """The files of each split of `source`, found by the first word of their names and sorted.

    A folder gives its Parquet or JSONL files; a file gives itself and the files of its kind beside it. Raises
    ValueError when there are none, when both kinds are there, or when train or test is missing.
    """
    place = Path(os.path.expanduser(source))
    if not place.exists():
        raise ValueError(
            f"source = {source!r} does not exist; use arxiv, synthetic, tinystories, a .txt file of stories, "
            f"or a folder of papers: {_EXAMPLE}"
        )
    kinds = [place.suffix] if place.is_file() else list(_KINDS)
    folder = place.parent if place.is_file() else place
    files = sorted(file for file in folder.iterdir() if file.suffix in kinds and _split_of(file))
    if place.is_file() and place not in files:
        raise ValueError(f"source = {source!r} is no file of a split; use names such as {_EXAMPLE}")
    if len({file.suffix for file in files}) > 1:
        raise ValueError(f"source = {source!r} holds both Parquet and JSONL files; name one, or keep one kind there")
    splits = {split: [file for file in files if _split_of(file) == split] for split in _SPLIT_WORDS}
    for split in ("train", "test"):
        if not splits[split]:
            raise ValueError(f"source = {source!r} has no {split} split; it needs {_EXAMPLE}")
    return {split: paths for split, paths in splits.items() if paths}


def builder_name(files: dict[str, list[Path]]) -> str:
    """What `datasets.load_dataset` calls the reader of these files: `parquet` or `json`."""
    return _KINDS[files["train"][0].suffix]


def _split_of(file: Path) -> str | None:
    """`train-00000-of-00002.parquet` -> `train`; the word must end there, so `training_notes.jsonl` is no split."""
    for split, words in _SPLIT_WORDS.items():
        for word in words:
            rest = file.stem.removeprefix(word)
            if rest != file.stem and not rest[:1].isalpha():
                return split
    return None


def _identity(data: DataConfig) -> dict[str, Any]:
    return {"files": content_sha256(split_files(data.source))}


SOURCE = Source(word="local", identity=_identity, component_names=lambda data: None, read=read)
