"""The name of a token cache: readable words and a hash of everything that decides its content."""

import hashlib
from typing import Any

from helpers.config import DataConfig, canonical_json, file_name, is_path
from helpers.data.packing import packing_request
from helpers.data.sources import find_source
from helpers.data.tokenizer_spec import tokenizer_identity, trained_tokens

# Raised whenever the same request would give other tokens or another layout.
_PIPELINE = 1


def cache_id(data: DataConfig) -> str:
    """The name of the cache that `data` asks for, without network.

    Local files count by their content. Raises ValueError for a source or tokenizer that cannot be.
    """
    digest = hashlib.sha256(canonical_json(cache_request(data)).encode()).hexdigest()[:10]
    return "-".join([*_readable_words(data), digest])


def cache_request(data: DataConfig) -> dict[str, Any]:
    """Everything that decides the content of a cache, as JSON types."""
    source = find_source(data)
    request = {"pipeline": _PIPELINE, "source": source.identity(data)}
    if source.make:
        return request
    limit, tokenizer = data.max_papers_per_component, tokenizer_identity(data.tokenizer)
    request |= {"max_papers_per_component": limit, "tokenizer": tokenizer}
    if data.near_duplicates == "keep":
        request["near_duplicates"] = "keep"
    if data.bos_token:
        request["bos_token"] = data.bos_token
    if data.max_paper_tokens:
        request["max_paper_tokens"] = data.max_paper_tokens
    return request | ({"packing": packing_request()} if source.packs else {})


def _readable_words(data: DataConfig) -> list[str]:
    source = find_source(data)
    if source.make or (trained_tokens(data.tokenizer) is None and is_path(data.tokenizer)):
        return [source.word]  # a tokenizer's own file says where it lies, not what it is
    return [source.word, file_name(data.tokenizer.rsplit("/", 1)[-1])]
