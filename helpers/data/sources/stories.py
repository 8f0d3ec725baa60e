"""Sources of short stories: TinyStories on the Hub (Eldan & Li 2023, arXiv:2305.07759), or a text file in its form.

A text file holds the stories with <|endoftext|> between them and has no splits of its own: a story belongs to test
when the SHA-256 of its text says so, one in twenty. So every machine holds out the same stories, whatever stands
before them in the file, and equal stories are always on the same side. Text behind the last separator is a story
like the others: whether it was cut there, the file does not tell.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.data.sources import files as local_files

TINYSTORIES_SOURCE = "tinystories"
HUB_REPOSITORY, HUB_REVISION = "roneneldan/TinyStories", "f54c09fd23315a6f9c86f9dc80f725de7d8f9c64"
SEPARATOR = "<|endoftext|>"
HELD_OUT_ONE_IN = 20
FILE_SPLITS = ("train", "test")

_CHUNK_CHARS = 2**20


def is_stories(source: str) -> bool:
    """Whether `source` gives stories, which are shorter than a window, rather than papers: told by its name alone."""
    return source == TINYSTORIES_SOURCE or source.endswith(".txt")


def story_component(source: str) -> str:
    """The one component of a source of stories: `tinystories`, or the text file's name without .txt."""
    return Path(source).stem


def story_identity(source: str) -> dict[str, Any]:
    """What names the stories of `source` in a cache_id; ValueError for a file that does not exist."""
    if source == TINYSTORIES_SOURCE:
        return {"hub": HUB_REPOSITORY, "revision": HUB_REVISION}
    path = story_file(source)
    return {"component": story_component(source), "files": local_files.content_sha256({"stories": [path]})}


def story_file(source: str) -> Path:
    """The text file `source`; ValueError when there is none."""
    path = Path(os.path.expanduser(source))
    if not path.is_file():
        raise ValueError(f"source = {source!r} is no file; use tinystories, or a text file with {SEPARATOR} in it")
    return path


def require_stories(path: Path) -> None:
    """Raises ValueError for a file that is empty, not UTF-8, without a separator, or without a story for a split."""
    local_files.require_utf8({"stories": [path]})
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
