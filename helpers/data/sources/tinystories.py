"""TinyStories on the Hugging Face Hub (Eldan & Li 2023, arXiv:2305.07759): one component of short stories."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.config import TINYSTORIES_SOURCE, DataConfig
from helpers.data.sources.source import Load, Report, Source

if TYPE_CHECKING:
    from helpers.data.papers import TextSource

HUB_REPOSITORY, HUB_REVISION = "roneneldan/TinyStories", "f54c09fd23315a6f9c86f9dc80f725de7d8f9c64"
_INSTEAD = (
    "source = synthetic needs no download, and a path to a text file reads your own stories, with "
    "<|endoftext|> between them (--source on the command line, SOURCE in a notebook)"
)


def read(data: DataConfig, cache_folder: Path, report: Report, load: Load) -> "TextSource":
    """The stories with the Hub's validation split as `test`, on which runs are evaluated; RuntimeError without it."""
    from helpers.data.papers import TextSource, hub_failure, story_splits

    limit = data.max_papers_per_component
    try:
        loaded = load(
            path=HUB_REPOSITORY, revision=HUB_REVISION, cache_dir=str(cache_folder), streaming=limit is not None
        )
        splits = story_splits(
            {"train": loaded["train"], "test": loaded["validation"]},
            component=TINYSTORIES_SOURCE,
            cache_folder=cache_folder,
            limit=limit,
        )
    except Exception as error:  # a loader fails in its own ways: network, schema, a full disk
        raise hub_failure(HUB_REPOSITORY, error, _INSTEAD) from error
    return TextSource(origin=f"{HUB_REPOSITORY}@{HUB_REVISION[:7]}", splits=splits)


def _identity(data: DataConfig) -> dict[str, Any]:
    return {"hub": HUB_REPOSITORY, "revision": HUB_REVISION}


SOURCE = Source(
    word=TINYSTORIES_SOURCE,
    identity=_identity,
    component_names=lambda data: (TINYSTORIES_SOURCE,),
    read=read,
    packs=True,
)
