"""Where papers come from: a module for each source, and which of them a name means."""

from helpers.config import (
    ARXIV_SOURCE,
    SENTENCES_SOURCE,
    SYNTHETIC_SOURCE,
    TINYSTORIES_SOURCE,
    ULTRACHAT_SOURCE,
    URNS_SOURCE,
    WIKITEXT_SOURCE,
    DataConfig,
)
from helpers.data.sources import (
    arxiv,
    files,
    sample_file,
    sentences,
    story_file,
    synthetic,
    tinystories,
    ultrachat,
    urns,
    wikitext,
)
from helpers.data.sources.source import Source

SOURCES: dict[str, Source] = {
    ARXIV_SOURCE: arxiv.SOURCE,
    TINYSTORIES_SOURCE: tinystories.SOURCE,
    ULTRACHAT_SOURCE: ultrachat.SOURCE,
    SYNTHETIC_SOURCE: synthetic.SOURCE,
    WIKITEXT_SOURCE: wikitext.SOURCE,
    URNS_SOURCE: urns.SOURCE,
    SENTENCES_SOURCE: sentences.SOURCE,
}


def find_source(data: DataConfig) -> Source:
    """The source of `data.source`: one of SOURCES by its name, or a path by its form and by what is read of it."""
    if data.source in SOURCES:
        return SOURCES[data.source]
    if data.sampling == "stream":
        return sample_file.SOURCE
    if data.source.endswith(wikitext.SUFFIXES):
        return wikitext.FILE_SOURCE
    return story_file.SOURCE if data.source.endswith(".txt") else files.SOURCE
