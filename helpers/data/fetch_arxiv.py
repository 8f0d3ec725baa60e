"""Papers -> token cache, of every source: read them, drop repeats, tokenise, publish as Parquet.

    python -m helpers fetch --source arxiv --tokenizer EleutherAI/pythia-70m --storage outputs

A cache is named by what was asked for (`cache_id`), never by where it lies, and is built once: a second call opens it,
and a call after an interruption goes on with the first part that is missing. The full arXiv set is 1.65 GB of text and
about 500 million tokens.
"""

import shutil

from helpers.config import SPLITS, DataConfig
from helpers.data.cache_id import cache_id, cache_request
from helpers.data.sources import find_source
from helpers.data.sources.source import Load, Report
from helpers.data.token_cache import MANIFEST, TokenCache, open_cache, read_manifest, wrong_sizes
from helpers.locks import in_turn
from helpers.storage import Storage, remove_leftovers


def ensure_cache(data: DataConfig, storage: Storage, report: Report = print, load: Load | None = None) -> TokenCache:
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


def _build(data: DataConfig, identity: str, storage: Storage, report: Report, load: Load | None) -> TokenCache:
    from helpers.data.cache_writer import write_cache  # with `datasets`, seconds to import: only to build a cache

    source = find_source(data)
    texts = storage.scratch / "papers" / identity  # as large as the source; kept for the next call if this one ends
    if source.make:
        new = source.make(data)
    else:
        from helpers.data.text_papers import text_papers

        new = text_papers(data, source, texts, report, load)
    _withdraw(storage, identity, report)
    write_cache(storage, identity, cache_request(data), new)
    _deliver(storage, identity)
    cache = open_cache(storage, identity)
    if cache is None:
        raise RuntimeError(f"{storage.cache(identity)} does not read back as it was written; check the storage")
    shutil.rmtree(texts, ignore_errors=True)
    report(_describe(cache))
    return cache


def _deliver(storage: Storage, identity: str) -> None:
    """To an object store, of which the storage is a mirror: the manifest last, which names the other files."""
    folder = storage.cache(identity)
    try:
        storage.delivered(sorted(folder.rglob("*.parquet")) + sorted(folder.glob("tokenizer.json")))
        storage.delivered([folder / MANIFEST])
    except OSError as error:
        raise RuntimeError(
            f"token cache {identity} could not be put into {storage.address} ({error.strerror or error}). It is whole "
            "on this machine: run the same again when the storage is back"
        ) from error


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
