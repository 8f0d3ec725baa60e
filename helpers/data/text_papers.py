"""A text source as papers of a token cache: read, cleaned, tokenised batch by batch while the parts are written."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from helpers.config import ARXIV_COMPONENTS, DataConfig
from helpers.data.cache_writer import Batch, NewCache, SplitPapers
from helpers.data.cleaning import KeptPapers, clean
from helpers.data.packing import PAPER_TOKENS, packed
from helpers.data.sources.hub import Load, Report, load_source
from helpers.data.sources.papers import PaperSplit
from helpers.data.sources.stories import is_stories
from helpers.data.tokenizers import PaperTokenizer, load_tokenizer, train_tokenizer, trained_tokens

# 32 papers of 16,000 tokens keep both cores busy in some 100 MB.
_BATCH_PAPERS = 32


def text_papers(data: DataConfig, cache_folder: Path, report: Report, load: Load | None) -> NewCache:
    """The kept papers of `data.source` with their tokenizer. Texts are kept as Arrow files in `cache_folder`.

    `load` stands in for `datasets.load_dataset`. Raises ValueError for a bad source, row or tokenizer, RuntimeError
    when the Hub cannot be read.
    """
    num_tokens = trained_tokens(data.tokenizer)
    tokenizer = load_tokenizer(data.tokenizer) if num_tokens is None else None  # fails before a long download
    source = load_source(data.source, data.max_papers_per_component, cache_folder, report, load)
    cleaned = clean(source.splits, report)
    if tokenizer is None:
        report(f"training a BPE tokenizer of {num_tokens:,} tokens on the train split")
        tokenizer = train_tokenizer(num_tokens, _texts(source.splits["train"], cleaned.splits["train"].rows))
    splits = {name: _tokenised(source.splits[name], kept, tokenizer) for name, kept in cleaned.splits.items()}
    if is_stories(data.source):
        report(f"the stories are packed into papers of {PAPER_TOKENS:,} tokens, an end-of-text token after each story")
        splits = {name: packed(stories, name, tokenizer.bos_id) for name, stories in splits.items()}
    return NewCache(
        origin=source.origin,
        content_sha256=cleaned.content_sha256,
        tokenizer=tokenizer,
        vocab_size=tokenizer.vocab_size,
        bos_id=tokenizer.bos_id,
        components=component_order({label for kept in cleaned.splits.values() for label in kept.labels}),
        splits=splits,
    )


def component_order(labels: set[str]) -> tuple[str, ...]:
    """The listed order when every label is an arXiv component, else alphabetical."""
    if labels <= set(ARXIV_COMPONENTS):
        return tuple(name for name in ARXIV_COMPONENTS if name in labels)
    return tuple(sorted(labels))


def _texts(papers: PaperSplit, rows: np.ndarray) -> Iterator[str]:
    for start in range(0, len(rows), _BATCH_PAPERS):
        yield from (paper.text for paper in papers.read(rows[start : start + _BATCH_PAPERS]))


def _tokenised(papers: PaperSplit, kept: KeptPapers, tokenizer: PaperTokenizer) -> SplitPapers:
    def read(wanted: range) -> Iterator[Batch]:
        for start in range(wanted.start, wanted.stop, _BATCH_PAPERS):
            batch = slice(start, min(start + _BATCH_PAPERS, wanted.stop))
            texts = list(_texts(papers, kept.rows[batch]))
            yield Batch(kept.paper_ids[batch], kept.labels[batch], tokenizer.encode(texts))

    drops = {**papers.drops, **kept.drops}
    return SplitPapers(num_papers=len(kept.rows), read=read, num_chars=kept.num_chars, drops=drops)
