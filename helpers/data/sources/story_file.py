"""A text file of short stories in the form of TinyStories: <|endoftext|> between them, and no splits of its own.

A story belongs to test when the SHA-256 of its text says so, one in twenty. So every machine holds out the same
stories, whatever stands before them in the file, and equal stories are always on the same side. Text behind the last
separator is a story like the others: whether it was cut there, the file does not tell.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.config import DataConfig
from helpers.data.file_content import content_sha256, require_utf8
from helpers.data.sources.source import Load, Report, Source

if TYPE_CHECKING:
    from helpers.data.papers import TextSource

SEPARATOR = "<|endoftext|>"
HELD_OUT_ONE_IN = 20
FILE_SPLITS = ("train", "test")

_CHUNK_CHARS = 2**20


def read(data: DataConfig, cache_folder: Path, report: Report, load: Load) -> "TextSource":
    """The stories of a text file, split by `is_held_out`; ValueError for a file that cannot be read as stories."""
    from helpers.data.papers import TextSource, story_splits

    path = story_file(data.source)
    require_stories(path)
    rows = {split: FileStories(path=path, split=split) for split in FILE_SPLITS}
    (component,) = _component_names(data)
    splits = story_splits(rows, component=component, cache_folder=cache_folder, limit=data.max_papers_per_component)
    return TextSource(origin=f"local file {path.name}", splits=splits)


def story_file(source: str) -> Path:
    """The text file `source`; ValueError when there is none."""
    path = Path(os.path.expanduser(source))
    if not path.is_file():
        raise ValueError(f"source = {source!r} is no file; use tinystories, or a text file with {SEPARATOR} in it")
    return path


def require_stories(path: Path) -> None:
    """Raises ValueError for a file that is empty, not UTF-8, without a separator, or without a story for a split."""
    require_utf8([path])
    with open(path, "rb") as lines:
        if not any(SEPARATOR.encode() in line for line in lines):
            what = f"has no {SEPARATOR}" if path.stat().st_size else "is empty"
            raise ValueError(f"{path} {what}; put {SEPARATOR} between the stories")
    for split in FILE_SPLITS:
        if not any(row["text"].strip() for row in FileStories(path=path, split=split)):
            raise ValueError(
                f"{path} has no story for {split}: one story in {HELD_OUT_ONE_IN} is held out for test, by its hash; "
                "use a file of some hundred stories"
            )


def is_held_out(story: str) -> bool:
    """Whether a story of a text file belongs to test, by the first 8 bytes of the SHA-256 of its stripped text."""
    digest = hashlib.sha256(story.strip().encode()).digest()
    return int.from_bytes(digest[:8], "big") % HELD_OUT_ONE_IN == 0


@dataclass(frozen=True, kw_only=True)
class FileStories:
    """The stories of one split of a text file as rows with a column text, in order; some may be blank."""

    path: Path
    split: str
    """One of FILE_SPLITS."""

    def __iter__(self) -> Iterator[dict[str, str]]:
        for story in _pieces(self.path):
            if is_held_out(story) == (self.split == "test"):
                yield {"text": story}


def _pieces(path: Path) -> Iterator[str]:
    """What stands between the separators, a chunk of the file in memory at a time."""
    rest = ""
    with open(path, encoding="utf-8") as file:
        while chunk := file.read(_CHUNK_CHARS):
            *whole, rest = (rest + chunk).split(SEPARATOR)
            yield from whole
    if rest.strip():
        yield rest


def _component_names(data: DataConfig) -> tuple[str, ...]:
    """The file's name without .txt."""
    return (Path(data.source).stem,)


def _identity(data: DataConfig) -> dict[str, Any]:
    (component,) = _component_names(data)
    return {"component": component, "files": content_sha256({"stories": [story_file(data.source)]})}


SOURCE = Source(word="local", identity=_identity, component_names=_component_names, read=read, packs=True)
