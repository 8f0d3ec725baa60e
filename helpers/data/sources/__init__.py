"""Where papers come from: a module for each source, and which of them a name means."""

from helpers.config import ARXIV_SOURCE, SYNTHETIC_SOURCE, TINYSTORIES_SOURCE, URNS_SOURCE, WIKITEXT_SOURCE
from helpers.data.sources import arxiv, files, story_file, synthetic, tinystories, urns, wikitext
from helpers.data.sources.source import Source

SOURCES: dict[str, Source] = {
    ARXIV_SOURCE: arxiv.SOURCE,
    TINYSTORIES_SOURCE: tinystories.SOURCE,
    SYNTHETIC_SOURCE: synthetic.SOURCE,
    WIKITEXT_SOURCE: wikitext.SOURCE,
    URNS_SOURCE: urns.SOURCE,
}


def find_source(name: str) -> Source:
    """The source of `data.source`: one of SOURCES by its name, or a path by its form."""
    if name in SOURCES:
        return SOURCES[name]
    if name.endswith(wikitext.SUFFIXES):
        return wikitext.FILE_SOURCE
    return story_file.SOURCE if name.endswith(".txt") else files.SOURCE
