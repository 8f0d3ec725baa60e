"""The synthetic source as papers of a token cache: sampled symbols are the tokens."""

from collections.abc import Iterator

import numpy as np

from helpers.config import SYNTHETIC_SOURCE, SyntheticConfig
from helpers.data import hidden_markov as synthetic
from helpers.data.cache_writer import Batch, NewCache, SplitPapers
from helpers.data.token_cache import SPLITS

_BATCH_PAPERS = 256


def synthetic_papers(config: SyntheticConfig) -> NewCache:
    """The papers of every component and split; the last token id is BOS. ValueError when the ids exceed uint16."""
    if config.num_symbols >= 2**16:
        raise ValueError(f"data.synthetic.num_symbols = {config.num_symbols} is not possible; use at most {2**16 - 1}")
    processes = synthetic.processes_digest(config)
    return NewCache(
        origin=SYNTHETIC_SOURCE,
        content_sha256=processes,
        processes_sha256=processes,
        vocab_size=config.num_symbols + 1,
        bos_id=synthetic.bos_id(config),
        components=synthetic.component_names(config),
        splits={split: _split(config, split) for split in SPLITS},
    )


def _split(config: SyntheticConfig, split: str) -> SplitPapers:
    rows: list[tuple[str, str, np.ndarray]] = []
    for component, name in enumerate(synthetic.component_names(config)):
        papers = synthetic.sample_papers(config, split, component)
        rows += [(f"{name}-{split}-{i:05d}", name, tokens) for i, tokens in enumerate(papers)]

    def read(wanted: range) -> Iterator[Batch]:
        for start in range(wanted.start, wanted.stop, _BATCH_PAPERS):
            batch = rows[start : min(start + _BATCH_PAPERS, wanted.stop)]
            yield Batch(*(list(column) for column in zip(*batch, strict=True)))

    return SplitPapers(num_papers=len(rows), read=read)
