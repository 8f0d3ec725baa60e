"""A text source as papers of a token cache: read, cleaned, tokenised batch by batch while the parts are written."""

from collections.abc import Iterator
from pathlib import Path

import datasets
import numpy as np

from helpers.config import ARXIV_COMPONENTS, SPLITS, DataConfig
from helpers.data.cleaning import KeptPapers, clean
from helpers.data.new_cache import Batch, NewCache, SplitPapers
from helpers.data.packing import PAPER_TOKENS, packed
from helpers.data.papers import PaperSplit, TextSource
from helpers.data.sources.source import Load, Report, Source
from helpers.data.tokenizer_spec import trained_tokens
from helpers.data.tokenizers import PaperTokenizer, load_tokenizer, train_tokenizer

# 32 papers of 16,000 tokens keep both cores busy in some 100 MB.
_BATCH_PAPERS = 32


def text_papers(
    data: DataConfig, source: Source, cache_folder: Path, report: Report, load: Load | None = None
) -> NewCache:
    """The kept papers of a text source with their tokenizer. Texts are kept as Arrow files in `cache_folder`.

    `load` stands in for `datasets.load_dataset`. Raises ValueError for a bad source, row or tokenizer, RuntimeError
    when the Hub cannot be read.
    """
    num_tokens = trained_tokens(data.tokenizer)
    tokenizer = (
        load_tokenizer(data.tokenizer, data.bos_token) if num_tokens is None else None
    )  # fails before a long download
    texts = _read(data, source, cache_folder, report, load)
    cleaned = clean(texts.splits, report, drop_near_duplicates=data.near_duplicates == "drop")
    if tokenizer is None:
        report(f"training a BPE tokenizer of {num_tokens:,} tokens on the train split")
        tokenizer = train_tokenizer(num_tokens, _texts(texts.splits["train"], cleaned.splits["train"].rows))
    splits = {
        name: _tokenised(texts.splits[name], kept, tokenizer, data.max_paper_tokens)
        for name, kept in cleaned.splits.items()
    }
    if source.packs:
        report(f"the stories are packed into papers of {PAPER_TOKENS:,} tokens, an end-of-text token after each story")
        splits = {name: packed(stories, name, tokenizer.bos_id) for name, stories in splits.items()}
    return NewCache(
        origin=texts.origin,
        content_sha256=cleaned.content_sha256,
        tokenizer=tokenizer,
        vocab_size=tokenizer.vocab_size,
        bos_id=tokenizer.bos_id,
        components=component_order({label for kept in cleaned.splits.values() for label in kept.labels}),
        splits=splits,
    )


def _read(data: DataConfig, source: Source, cache_folder: Path, report: Report, load: Load | None) -> TextSource:
    texts = source.read(data, cache_folder, report, load or datasets.load_dataset)
    for split in SPLITS:
        if split not in texts.splits:
            report(f"{texts.origin} has no {split} split: nothing can be evaluated on it")
    return texts


def component_order(labels: set[str]) -> tuple[str, ...]:
    """The listed order when every label is an arXiv component, else alphabetical."""
    if labels <= set(ARXIV_COMPONENTS):
        return tuple(name for name in ARXIV_COMPONENTS if name in labels)
    return tuple(sorted(labels))


def _texts(papers: PaperSplit, rows: np.ndarray) -> Iterator[str]:
    for start in range(0, len(rows), _BATCH_PAPERS):
        yield from (paper.text for paper in papers.read(rows[start : start + _BATCH_PAPERS]))


def _tokenised(papers: PaperSplit, kept: KeptPapers, tokenizer: PaperTokenizer, most: int | None) -> SplitPapers:
    """Papers as their first `most` tokens; None: whole."""

    def read(wanted: range) -> Iterator[Batch]:
        for start in range(wanted.start, wanted.stop, _BATCH_PAPERS):
            batch = slice(start, min(start + _BATCH_PAPERS, wanted.stop))
            texts = list(_texts(papers, kept.rows[batch]))
            tokens = [paper[:most] for paper in tokenizer.encode(texts)]
            yield Batch(kept.paper_ids[batch], kept.labels[batch], tokens)

    drops = {**papers.drops, **kept.drops}
    return SplitPapers(num_papers=len(kept.rows), read=read, num_chars=kept.num_chars, drops=drops, notes=kept.notes)
