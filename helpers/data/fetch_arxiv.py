"""Papers -> token cache: read the source, drop repeats, tokenise, publish as Parquet.

    python -m helpers fetch --source arxiv --tokenizer EleutherAI/pythia-70m --storage outputs

A cache is named by what was asked for, never by where it lies, and is built once: a second call opens it, and a call
after an interruption goes on with the first part that is missing. The full arXiv set is 1.65 GB of text and about
500 million tokens.
"""

import hashlib
import shutil
from collections.abc import Callable
from typing import Any

from helpers.config import ARXIV_SOURCE, SYNTHETIC_SOURCE, DataConfig, canonical_json, file_name, is_path, to_json
from helpers.data.cache_writer import write_cache
from helpers.data.packing import packing_request
from helpers.data.sources import files as local_files
from helpers.data.sources.stories import TINYSTORIES_SOURCE, is_stories, story_identity
from helpers.data.sources.synthetic import synthetic_papers
from helpers.data.token_cache import MANIFEST, SPLITS, TokenCache, open_cache, read_manifest, wrong_sizes
from helpers.data.tokenizers import tokenizer_identity, trained_tokens
from helpers.locks import in_turn
from helpers.storage import Storage, remove_leftovers

Report = Callable[[str], None]

# Raised whenever the same request would give other tokens or another layout.
_PIPELINE = 1


def cache_id(data: DataConfig) -> str:
    """The name of the cache that `data` asks for, without network: readable words and a hash of the request.

    Local files count by their content. Raises ValueError for a source or tokenizer that cannot be.
    """
    digest = hashlib.sha256(canonical_json(cache_request(data)).encode()).hexdigest()[:10]
    return "-".join([*_readable_words(data), digest])


def cache_request(data: DataConfig) -> dict[str, Any]:
    """Everything that decides the content of a cache, as JSON types."""
    if data.source == SYNTHETIC_SOURCE:
        return {"pipeline": _PIPELINE, "source": {"synthetic": to_json(data.synthetic)}}
    request = {
        "pipeline": _PIPELINE,
        "source": _source_identity(data.source),
        "max_papers_per_component": data.max_papers_per_component,
        "tokenizer": tokenizer_identity(data.tokenizer),
    }
    return request | ({"packing": packing_request()} if is_stories(data.source) else {})


def ensure_cache(
    data: DataConfig, storage: Storage, report: Report = print, load: Callable[..., Any] | None = None
) -> TokenCache:
    """The published cache of `data`, built first when there is none; one process of a machine at a time builds it.

    What was found, dropped and chosen goes to `report`. `load` stands in for `datasets.load_dataset`. Raises
    ValueError for a bad source, row or tokenizer before anything is written, and RuntimeError when the Hub cannot be
    read or the storage cannot be written; finished parts are kept and the next call goes on from there.
    """
    identity = cache_id(data)
    if cache := open_cache(storage, identity):
        for place in (cache.folder, *(cache.folder / split for split in SPLITS)):
            remove_leftovers(place)  # of a build that was killed
        return cache
    with in_turn(storage.lock(identity), f"the build of token cache {identity}", report):
        return open_cache(storage, identity) or _build(data, identity, storage, report, load)


def _build(
    data: DataConfig, identity: str, storage: Storage, report: Report, load: Callable[..., Any] | None
) -> TokenCache:
    texts = storage.scratch / "papers" / identity  # as large as the source; kept for the next call if this one ends
    if data.source == SYNTHETIC_SOURCE:
        new = synthetic_papers(data.synthetic)
    else:
        from helpers.data.text_papers import text_papers  # `datasets` takes seconds to import: only to build a cache

        new = text_papers(data, texts, report, load)
    _withdraw(storage, identity, report)
    write_cache(storage, identity, cache_request(data), new)
    cache = open_cache(storage, identity)
    if cache is None:
        raise RuntimeError(f"{storage.cache(identity)} does not read back as it was written; check the storage")
    shutil.rmtree(texts, ignore_errors=True)
    report(_describe(cache))
    return cache


def _readable_words(data: DataConfig) -> list[str]:
    if data.source == SYNTHETIC_SOURCE:
        return ["synthetic"]
    words = [data.source if data.source in (ARXIV_SOURCE, TINYSTORIES_SOURCE) else "local"]
    if trained_tokens(data.tokenizer) is None and is_path(data.tokenizer):
        return words  # a file's own name says where it lies, not what it is
    return [*words, file_name(data.tokenizer.rsplit("/", 1)[-1])]


def _source_identity(source: str) -> dict[str, Any]:
    if source == ARXIV_SOURCE:
        return {"hub": "ccdv/arxiv-classification", "config": "no_ref"}
    if is_stories(source):
        return story_identity(source)
    return {"files": local_files.content_sha256(local_files.split_files(source))}


def _withdraw(storage: Storage, identity: str, report: Report) -> None:
    """Take back the manifest of a damaged cache, so that no one opens it while its parts are written again."""
    folder = storage.cache(identity)
    if damaged := read_manifest(storage, identity):
        for fault in wrong_sizes(damaged):
            report(f"{fault}: it is written again")
    if folder.exists():
        (folder / MANIFEST).unlink(missing_ok=True)
        for place in [folder, *(child for child in folder.iterdir() if child.is_dir())]:
            if place.is_symlink():
                raise ValueError(f"{place} is a link, and a cache is not written through one; remove it")
            remove_leftovers(place)


def _describe(cache: TokenCache) -> str:
    counts = ", ".join(
        f"{split} {facts['papers']:,} papers with {facts['tokens']:,} tokens"
        for split, facts in cache.manifest["splits"].items()
    )
    return f"token cache {cache.cache_id}: {counts}; {len(cache.components)} components"
