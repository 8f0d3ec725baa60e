"""One local file of short texts, its samples: a .jsonl with UltraChat's `messages` or a `text` in each line, or a .txt
with blank lines between them.

A sample belongs to test when the SHA-256 of its text says so, one in five: whatever stands before it in the file.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.config import DataConfig
from helpers.data.file_content import content_sha256, require_utf8
from helpers.data.sources.source import Load, Report, Source
from helpers.data.sources.ultrachat import first_user_turn

if TYPE_CHECKING:
    from helpers.data.papers import TextSource

HELD_OUT_ONE_IN = 5
FILE_SPLITS = ("train", "test")
_KINDS = (".jsonl", ".txt")


def read(data: DataConfig, cache_folder: Path, report: Report, load: Load) -> "TextSource":
    """The samples of a file, split by their hash; ValueError names what cannot be read."""
    from helpers.data.papers import TextSource, story_splits

    path = sample_file(data.source)
    require_utf8([path])
    for split in FILE_SPLITS:
        if not any(True for _ in Samples(path=path, split=split)):
            raise ValueError(
                f"{path} has no sample for {split}; one in {HELD_OUT_ONE_IN} is held out, use a larger file"
            )
    rows = {split: Samples(path=path, split=split) for split in FILE_SPLITS}
    (component,) = _component_names(data)
    splits = story_splits(rows, component=component, cache_folder=cache_folder, limit=data.max_papers_per_component)
    return TextSource(origin=f"local file {path.name}", splits=splits)


def sample_file(source: str) -> Path:
    """The file `source`; ValueError when there is none of a kind that can be read."""
    path = Path(os.path.expanduser(source))
    if path.suffix not in _KINDS or not path.is_file():
        raise ValueError(
            f"source = {source!r} is no file of samples; use ultrachat, sentences, a .jsonl with text or messages in "
            "each line, or a .txt with blank lines between the samples"
        )
    return path


@dataclass(frozen=True, kw_only=True)
class Samples:
    """The samples of one split of a file as rows with a column text, in order."""

    path: Path
    split: str

    def __iter__(self) -> Iterator[dict[str, str]]:
        texts = _json_texts(self.path) if self.path.suffix == ".jsonl" else _paragraphs(self.path)
        for text in texts:
            if text.strip() and is_held_out(text) == (self.split == "test"):
                yield {"text": text}


def is_held_out(text: str) -> bool:
    """Whether a sample belongs to test, by the first 8 bytes of the SHA-256 of its stripped text."""
    return int.from_bytes(hashlib.sha256(text.strip().encode()).digest()[:8], "big") % HELD_OUT_ONE_IN == 0


def _paragraphs(path: Path) -> Iterator[str]:
    lines: list[str] = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            if line.strip():
                lines.append(line)
            elif lines:
                yield "".join(lines)
                lines = []
    if lines:
        yield "".join(lines)


def _json_texts(path: Path) -> Iterator[str]:
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            where = f"{path} line {number}"
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{where} is no JSON ({error}); each line is one object") from error
            if not isinstance(row, dict) or ("text" not in row and "messages" not in row):
                raise ValueError(f"{where} has neither text nor messages; give each line one of them")
            text = row["text"] if "text" in row else first_user_turn(row, where)
            if not isinstance(text, str):
                raise ValueError(f"{where}: text = {text!r:.40} is no text; write it as a string")
            yield text


def _component_names(data: DataConfig) -> tuple[str, ...]:
    return (Path(data.source).stem,)


def _identity(data: DataConfig) -> dict[str, Any]:
    (component,) = _component_names(data)
    files = content_sha256({"samples": [sample_file(data.source)]})
    return {"component": component, "held_out_one_in": HELD_OUT_ONE_IN, "files": files}


SOURCE = Source(word="samples", identity=_identity, component_names=_component_names, read=read)
