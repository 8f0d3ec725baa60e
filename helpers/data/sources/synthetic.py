"""The synthetic source as papers of a token cache: sampled symbols are the tokens."""

from collections.abc import Iterator

import numpy as np

from helpers.config import SPLITS, SYNTHETIC_SOURCE, DataConfig, SyntheticConfig, to_json
from helpers.data import hidden_markov
from helpers.data.new_cache import Batch, NewCache, SplitPapers
from helpers.data.sources.source import Source

_BATCH_PAPERS = 256


def make(data: DataConfig) -> NewCache:
    """The papers of every component and split; the last token id is BOS. ValueError when the ids exceed uint16."""
    config = data.synthetic
    if config.num_symbols >= 2**16:
        raise ValueError(f"data.synthetic.num_symbols = {config.num_symbols} is not possible; use at most {2**16 - 1}")
    processes = hidden_markov.processes_digest(config)
    return NewCache(
        origin=SYNTHETIC_SOURCE,
        content_sha256=processes,
        processes_sha256=processes,
        vocab_size=config.num_symbols + 1,
        bos_id=hidden_markov.bos_id(config),
        components=hidden_markov.component_names(config),
        splits={split: _split(config, split) for split in SPLITS},
    )


def _split(config: SyntheticConfig, split: str) -> SplitPapers:
    rows: list[tuple[str, str, np.ndarray]] = []
    for component, name in enumerate(hidden_markov.component_names(config)):
        papers = hidden_markov.sample_papers(config, split, component)
        rows += [(f"{name}-{split}-{i:05d}", name, tokens) for i, tokens in enumerate(papers)]

    def read(wanted: range) -> Iterator[Batch]:
        for start in range(wanted.start, wanted.stop, _BATCH_PAPERS):
            batch = rows[start : min(start + _BATCH_PAPERS, wanted.stop)]
            yield Batch(*(list(column) for column in zip(*batch, strict=True)))

    return SplitPapers(num_papers=len(rows), read=read)


SOURCE = Source(
    word=SYNTHETIC_SOURCE,
    identity=lambda data: {"synthetic": to_json(data.synthetic)},
    component_names=lambda data: hidden_markov.component_names(data.synthetic),
    make=make,
    vocab_size=lambda data: data.synthetic.num_symbols + 1,
)
