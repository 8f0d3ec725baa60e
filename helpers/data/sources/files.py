"""Parquet and JSONL files on this machine: which file holds which split; and what identifies a file's content."""

import functools
import os
from pathlib import Path

from helpers.storage import file_sha256

_SPLIT_WORDS = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}
_KINDS = {".parquet": "parquet", ".jsonl": "json"}
_EXAMPLE = "train.parquet, validation.parquet, test.parquet (or .jsonl)"


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


def content_sha256(files: dict[str, list[Path]]) -> dict[str, list[str]]:
    """The SHA-256 of every file, by split: it names the content and not its place."""
    return {split: [_file_sha256(path, *_version(path)) for path in paths] for split, paths in files.items()}


def require_utf8(files: dict[str, list[Path]]) -> None:
    """Raises ValueError with file and line where a text file is not UTF-8 (a Parquet file is checked row by row)."""
    for path in (path for paths in files.values() for path in paths if path.suffix != ".parquet"):
        with open(path, "rb") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    line.decode("utf-8")
                except UnicodeDecodeError as error:
                    raise ValueError(f"{path} line {number} is not UTF-8 ({error}); save it as UTF-8") from error


def _split_of(file: Path) -> str | None:
    """`train-00000-of-00002.parquet` -> `train`; the word must end there, so `training_notes.jsonl` is no split."""
    for split, words in _SPLIT_WORDS.items():
        for word in words:
            rest = file.stem.removeprefix(word)
            if rest != file.stem and not rest[:1].isalpha():
                return split
    return None


def _version(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


@functools.lru_cache(maxsize=256)
def _file_sha256(path: Path, size: int, modified_ns: int) -> str:
    """Hashed once for each version of a file: a plan of many runs asks for the same cache many times."""
    return file_sha256(path)
