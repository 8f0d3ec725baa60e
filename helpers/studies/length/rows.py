"""Training rows: W + 1 tokens of one stream of documents, W of them inputs and W targets, and none of them padding.

The stream holds BOS, a document, BOS, the next one. It is cut into rows, so that every token is a target once an epoch.
Row r reads positions r W .. (r + 1) W - 1 and is to tell those one later.

B rows of a batch, W inputs of a row.
"""

import functools
from dataclasses import dataclass

import numpy as np

from helpers.config import RunConfig
from helpers.counter_rng import Stream, integers_below, permutation, salt_of, words
from helpers.data.flat_tokens import FlatTokens
from helpers.training.run import Run

_SALT = salt_of("rows of a stream")


@dataclass(frozen=True, kw_only=True)
class TokenStream:
    """Documents of a split behind each other, BOS before each; they may be empty."""

    flat: FlatTokens
    documents: np.ndarray
    """Their rows in `flat`, in the order of the stream."""
    bos_id: int

    @functools.cached_property
    def starts(self) -> np.ndarray:
        """int64 [documents + 1] where each BOS stands, and the length of the stream."""
        lengths = np.diff(self.flat.offsets)[self.documents]
        return np.concatenate([[0], (lengths + 1).cumsum()])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def read(self, first_B: np.ndarray, num_tokens: int) -> np.ndarray:
        """Token ids [B, num_tokens] int64 from positions `first_B` on."""
        place_BT = np.asarray(first_B)[:, None] + np.arange(num_tokens)
        document_BT = np.searchsorted(self.starts, place_BT, side="right") - 1
        within_BT = place_BT - self.starts[document_BT] - 1
        at_BT = self.flat.offsets[self.documents[document_BT]] + within_BT
        tokens_BT = self.flat.tokens[np.clip(at_BT, 0, len(self.flat.tokens) - 1)].astype(np.int64)
        return np.where(within_BT < 0, self.bos_id, tokens_BT)

    def begins_between(self, after_B: np.ndarray, up_to_B: np.ndarray) -> np.ndarray:
        """Whether a document begins at a position above `after_B` and up to `up_to_B`: bool [B]."""
        last = len(self.starts) - 1  # the end of the stream is no beginning
        before = np.searchsorted(self.starts[:last], after_B, side="right")
        return np.searchsorted(self.starts[:last], up_to_B, side="right") > before


@dataclass(frozen=True, kw_only=True)
class Batch:
    rows: np.ndarray
    """Token ids [B, W + 1] int64."""
    continues: np.ndarray
    """bool [B]: whether a row goes on where the row at its place in the batch before ended, within one document."""


def batch_of(run: Run, step: int) -> Batch:
    """The rows of a step: a function of (seed, step). Contiguous at each place of the batch under `carried`, else in an
    order that is new each epoch."""
    config, window = run.config, run.config.data.window_tokens
    stream = TokenStream(flat=run.dataset.flat, documents=run.selection.joined.paper, bos_id=run.cache.bos_id)
    num_rows = (len(stream) - 1) // window
    if num_rows < config.train.batch_size:
        raise ValueError(
            f"the train split holds {num_rows} rows of data.window_tokens = {window}, fewer than train.batch_size = "
            f"{config.train.batch_size}; use a smaller batch or more text"
        )
    if config.stream.state == "carried":
        row_B, is_first_B = _lanes(config, step, num_rows)
    else:
        row_B, is_first_B = _shuffled(config, step, num_rows), np.ones(config.train.batch_size, dtype=bool)
    first_B = row_B * window
    continues_B = ~is_first_B & ~stream.begins_between(first_B - window, first_B)
    return Batch(rows=stream.read(first_B, window + 1), continues=continues_B)


def _shuffled(config: RunConfig, step: int, num_rows: int) -> np.ndarray:
    number_B = np.arange(step * config.train.batch_size, (step + 1) * config.train.batch_size)
    epoch_B, place_B = np.divmod(number_B, num_rows)
    row_B = np.empty_like(number_B)
    for epoch in np.unique(epoch_B):
        row_B[epoch_B == epoch] = _epoch_order(config.seed, int(epoch), num_rows)[place_B[epoch_B == epoch]]
    return row_B


@functools.lru_cache(maxsize=2)
def _epoch_order(seed: int, epoch: int, num_rows: int) -> np.ndarray:
    return permutation(seed, Stream.EPOCH, num_rows, counter=epoch, salt=_SALT)


def _lanes(config: RunConfig, step: int, num_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Each place of the batch reads its own part of the stream again and again, from a row of the seed's choosing: the
    rows of a step, and whether each is the first of its part or of the run."""
    batch_size = config.train.batch_size
    per_lane = num_rows // batch_size
    begun_B = integers_below(per_lane, words(config.seed, Stream.EPOCH, batch_size, salt=_SALT))
    place_B = (begun_B + step) % per_lane
    return np.arange(batch_size) * per_lane + place_B, (place_B == 0) | (step == 0)
