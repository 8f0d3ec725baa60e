"""An embedded source with a known answer at every length of context: each document is drawn from an urn of its own.

A Polya urn: the n-th token of a document is, with n - 1 tokens drawn and A balls at the start, one of the earlier
ones again with probability (n - 1) / (n - 1 + A), and otherwise a symbol that is uniform among V. In other words,
symbols are independent with frequencies of the document's own, which are drawn from a Dirichlet distribution with A / V
at each symbol. So

    p(next = a | n tokens, of which n_a are a) = (n_a + A / V) / (n + A)

for the last n tokens of a document, whichever n: an ideal reader's loss is exact both for all tokens before and for the
last W alone, and every further token is worth something, less and less. Nothing but whole numbers is drawn, so the
documents are the same on every machine.
"""

import hashlib
from collections.abc import Iterator

import numpy as np

from helpers.config import SPLITS, URNS_SOURCE, DataConfig
from helpers.counter_rng import Stream, integers_below, salt_of, words
from helpers.data.new_cache import Batch, NewCache, SplitPapers
from helpers.data.sources.source import Source

NUM_SYMBOLS, NUM_BALLS = 32, 8
DOCUMENT_TOKENS = 1_300
NUM_DOCUMENTS = {"train": 1_000, "validation": 64, "test": 64}
BOS = NUM_SYMBOLS
_BATCH_DOCUMENTS = 250


def documents(split: str) -> np.ndarray:
    """Tokens [N documents, DOCUMENT_TOKENS] of a split, int64."""
    shape = (NUM_DOCUMENTS[split], DOCUMENT_TOKENS)
    salt, count = salt_of(f"{URNS_SOURCE} {split}"), 2 * shape[0] * shape[1]
    ball_NT, symbol_NT = words(0, Stream.WINDOWS, count, salt=salt).reshape(2, *shape)
    tokens_NT = integers_below(NUM_SYMBOLS, symbol_NT)
    for n in range(1, DOCUMENT_TOKENS):
        drawn_N = integers_below(n + NUM_BALLS, ball_NT[:, n])
        again_N = drawn_N < n
        tokens_NT[again_N, n] = tokens_NT[again_N, drawn_N[again_N]]
    return tokens_NT


def ideal_loss(tokens_BT: np.ndarray, window: int | None = None) -> np.ndarray:
    """Loss [B, T - 1] in nats of an ideal reader on each token behind the first, given all tokens before it, or the
    last `window` of them; every row is of one document."""
    seen_BTV = np.cumsum(np.eye(NUM_SYMBOLS)[tokens_BT], axis=1)
    counts_BTV = seen_BTV[:, :-1].copy()
    if window is not None:
        counts_BTV[:, window:] -= seen_BTV[:, : max(0, counts_BTV.shape[1] - window)]
    numbers_BTV = counts_BTV + NUM_BALLS / NUM_SYMBOLS
    next_BT1 = tokens_BT[:, 1:, None]
    likely_BT = np.take_along_axis(numbers_BTV, next_BT1, axis=2)[..., 0] / numbers_BTV.sum(axis=2)
    return -np.log(likely_BT)


def make(data: DataConfig) -> NewCache:
    """The documents of every split; the last token id is BOS."""
    tokens = {split: documents(split) for split in SPLITS}
    digest = hashlib.sha256(b"".join(tokens[split].astype("<u2").tobytes() for split in SPLITS)).hexdigest()
    return NewCache(
        origin=URNS_SOURCE,
        content_sha256=digest,
        vocab_size=NUM_SYMBOLS + 1,
        bos_id=BOS,
        components=(URNS_SOURCE,),
        splits={split: _split(split, tokens[split].astype(np.uint16)) for split in SPLITS},
    )


def _split(split: str, tokens_NT: np.ndarray) -> SplitPapers:
    def read(wanted: range) -> Iterator[Batch]:
        for start in range(wanted.start, wanted.stop, _BATCH_DOCUMENTS):
            rows = range(start, min(start + _BATCH_DOCUMENTS, wanted.stop))
            yield Batch([f"{split}-{row:05d}" for row in rows], [URNS_SOURCE] * len(rows), list(tokens_NT[rows]))

    return SplitPapers(num_papers=len(tokens_NT), read=read)


_DRAWN = {"symbols": NUM_SYMBOLS, "balls": NUM_BALLS, "tokens": DOCUMENT_TOKENS, "documents": NUM_DOCUMENTS}
SOURCE = Source(
    word=URNS_SOURCE,
    identity=lambda data: {URNS_SOURCE: _DRAWN},
    component_names=lambda data: (URNS_SOURCE,),
    vocab_size=lambda data: NUM_SYMBOLS + 1,
    make=make,
)
