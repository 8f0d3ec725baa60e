"""What a source of papers is to everyone else."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.config import DataConfig
from helpers.data.new_cache import NewCache
from helpers.data.tokenizer_spec import known_vocab_size

if TYPE_CHECKING:
    from helpers.data.papers import TextSource

Report = Callable[[str], None]
Load = Callable[..., Mapping[str, Any]]
"""`datasets.load_dataset`, or a stand-in of the same shape."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """How the papers of a source are named, read and told apart; nothing heavy is imported before they are read."""

    word: str
    """Stands for the source in the name of a cache."""
    identity: Callable[[DataConfig], dict[str, Any]]
    """What decides which papers it gives, as JSON types and without network: local files count by their content.
    ValueError for a source that cannot be."""
    component_names: Callable[[DataConfig], tuple[str, ...] | None]
    """The components, as far as they can be told without the papers; None if only those tell."""
    read: Callable[[DataConfig, Path, Report, Load], "TextSource"] | None = None
    """(data, folder for Arrow files, report, load): the papers of a text source, at most `max_papers_per_component` of
    each label and split. ValueError for a bad source, RuntimeError when the Hub cannot be read."""
    make: Callable[[DataConfig], NewCache] | None = None
    """The papers of a source that gives tokens: neither a tokenizer nor a limit of papers has a say."""
    vocab_size: Callable[[DataConfig], int | None] = lambda data: known_vocab_size(data.tokenizer)
    """Token ids, as far as they can be told without the papers."""
    packs: bool = False
    """Whether its texts are shorter than a window, and are joined into papers (`packing`)."""
