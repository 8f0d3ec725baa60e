"""WikiText-103 (Merity et al. 2016, arXiv 1609.07843) in its raw form: one component of Wikipedia articles.

On the Hub a row is a line: a paragraph, or a heading ` = Title = ` with two signs more for each lower level. An article
is what stands from one title to the next: it is the document, so that nothing is read across the end of one. A local
file of the same form has no splits: an article is held out by the SHA-256 of its text.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.config import SPLITS, WIKITEXT_SOURCE, DataConfig
from helpers.data.file_content import content_sha256, require_utf8
from helpers.data.sources.source import Load, Report, Source

if TYPE_CHECKING:
    from helpers.data.papers import TextSource

HUB_REPOSITORY, HUB_CONFIG = "Salesforce/wikitext", "wikitext-103-raw-v1"
SUFFIXES = (".raw", ".raw.txt")
"""Of a local file, such as the published wiki.train.raw."""
HELD_OUT_ONE_IN = 10
"""Articles of a local file: one in ten is validation, and one in ten test."""
_TITLE = re.compile(r"\s*= [^=].*[^=] =\s*|\s*= [^=] =\s*")
_INSTEAD = "--source wiki.train.raw reads a local file of this form, and --source urns needs no text at all"


def articles(lines: Iterable[str]) -> Iterator[str]:
    """The articles of lines, each with its title; what stands before the first title is one too. None is blank."""
    gathered: list[str] = []
    for line in lines:
        if _TITLE.fullmatch(line):
            yield from _whole(gathered)
            gathered = []
        gathered.append(line)
    yield from _whole(gathered)


def _whole(lines: list[str]) -> Iterator[str]:
    text = "\n".join(line.strip() for line in lines if line.strip())
    if text:
        yield text


@dataclass(frozen=True, kw_only=True)
class HubArticles:
    """The articles of one split of the Hub's data set, as rows with a column text."""

    lines: Iterable[Mapping[str, Any]]

    def __iter__(self) -> Iterator[dict[str, str]]:
        return ({"text": text} for text in articles(row["text"] for row in self.lines))


@dataclass(frozen=True, kw_only=True)
class FileArticles:
    """The articles of one split of a local file, as rows with a column text."""

    path: Path
    split: str

    def __iter__(self) -> Iterator[dict[str, str]]:
        with open(self.path, encoding="utf-8") as lines:
            yield from ({"text": text} for text in articles(lines) if split_of(text) == self.split)


def split_of(article: str) -> str:
    """Of an article in a local file, by the first 8 bytes of the SHA-256 of its text."""
    number = int.from_bytes(hashlib.sha256(article.encode()).digest()[:8], "big") % HELD_OUT_ONE_IN
    return {0: "test", 1: "validation"}.get(number, "train")


def read(data: DataConfig, cache_folder: Path, report: Report, load: Load) -> "TextSource":
    """The articles of the Hub; RuntimeError when it cannot be read."""
    from helpers.data.papers import TextSource, hub_failure, story_splits

    limit = data.max_papers_per_component
    try:
        loaded = load(path=HUB_REPOSITORY, name=HUB_CONFIG, cache_dir=str(cache_folder), streaming=limit is not None)
        rows = {split: HubArticles(lines=loaded[split]) for split in SPLITS}
        splits = story_splits(rows, component=WIKITEXT_SOURCE, cache_folder=cache_folder, limit=limit)
    except Exception as error:  # a loader fails in its own ways: network, schema, a full disk
        raise hub_failure(HUB_REPOSITORY, error, _INSTEAD) from error
    return TextSource(origin=f"{HUB_REPOSITORY}, {HUB_CONFIG}", splits=splits)


def read_file(data: DataConfig, cache_folder: Path, report: Report, load: Load) -> "TextSource":
    """The articles of a local file; ValueError if there is none for a split."""
    from helpers.data.papers import TextSource, story_splits

    path = _file(data)
    require_utf8([path])
    rows = {split: FileArticles(path=path, split=split) for split in SPLITS}
    for split in SPLITS:
        if not any(rows[split]):
            raise ValueError(
                f"{path} has no article for {split}: one in {HELD_OUT_ONE_IN} is held out for it, by its hash; use a "
                "file of some dozen articles, each below a line such as ' = Title = '"
            )
    (component,) = _component_names(data)
    splits = story_splits(rows, component=component, cache_folder=cache_folder, limit=data.max_papers_per_component)
    return TextSource(origin=f"local file {path.name}", splits=splits)


def _file(data: DataConfig) -> Path:
    path = Path(os.path.expanduser(data.source))
    if not path.is_file():
        raise ValueError(f"source = {data.source!r} is no file; use wikitext, or a file such as wiki.train.raw")
    return path


def _component_names(data: DataConfig) -> tuple[str, ...]:
    """The file's name up to its first dot."""
    return (Path(data.source).name.partition(".")[0] or WIKITEXT_SOURCE,)


SOURCE = Source(
    word=WIKITEXT_SOURCE,
    identity=lambda data: {"hub": HUB_REPOSITORY, "config": HUB_CONFIG, "rows": "articles"},
    component_names=lambda data: (WIKITEXT_SOURCE,),
    read=read,
)
FILE_SOURCE = Source(
    word="local",
    identity=lambda data: {"articles": _component_names(data)[0], "files": content_sha256({"articles": [_file(data)]})},
    component_names=_component_names,
    read=read_file,
)
