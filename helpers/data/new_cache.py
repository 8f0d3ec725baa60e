"""What a source gives to be written as a token cache: the papers of each split, tokenised when they are read."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from helpers.data.tokenizers import PaperTokenizer


class Batch(NamedTuple):
    """Some papers of one split, in order."""

    paper_ids: list[str]
    categories: list[str]
    tokens: list[np.ndarray]


@dataclass(frozen=True, kw_only=True)
class SplitPapers:
    """The papers of one split, ready to be written."""

    num_papers: int
    """As they are read; packed into longer ones, fewer are written."""
    read: Callable[[range], Iterator[Batch]]
    """The tokenised papers of a range of rows, the same at every call."""
    part_papers: int | None = None
    """A part holds at most so many; None: PART_PAPERS."""
    num_chars: np.ndarray | None = None
    """int64 [N], where papers may be long: a part ends before it holds more than PART_CHARS."""
    drops: Mapping[str, int] = field(default_factory=dict)
    """Papers of the source that were left out, by reason."""
    notes: Mapping[str, int] = field(default_factory=dict)
    """What else was counted while they were read."""


@dataclass(frozen=True, kw_only=True)
class NewCache:
    """Everything a cache will hold."""

    origin: str
    """Where the papers came from, in words."""
    content_sha256: str
    """Names the content; parts that an earlier build made of other content are written again."""
    vocab_size: int
    bos_id: int
    components: tuple[str, ...]
    splits: Mapping[str, SplitPapers]
    tokenizer: "PaperTokenizer | None" = None
    processes_sha256: str | None = None
    """Of the synthetic source's processes."""


def token_dtype(vocab_size: int) -> np.dtype:
    return np.dtype(np.uint16 if vocab_size <= 2**16 else np.uint32)
