"""Which window comes when: a pure function of (seed, step), for training of any length, with nothing to save.

A window is (component, paper, start, length): `length` tokens of one paper. It is shorter than the window size only at
the end of a paper in `epoch` sampling, and for the last window of a run, which is cut so that the run consumes exactly
its number of training tokens.
"""

import abc
import functools
from dataclasses import dataclass

import numpy as np

from helpers.config import DataConfig
from helpers.counter_rng import Stream, integers_below, permutation, words
from helpers.data.components import JoinedPools, Selection


@dataclass(frozen=True, kw_only=True)
class Windows:
    """B windows; each field is int64 [B]. `component` counts the active ones, `paper` is a row of the split's index."""

    component: np.ndarray
    paper: np.ndarray
    start: np.ndarray
    length: np.ndarray


@dataclass(frozen=True, kw_only=True)
class WindowOrder(abc.ABC):
    """The sequence of windows of a run: `batch_size` of them from number `step * batch_size` on make a step's batch."""

    selection: Selection
    window_tokens: int
    batch_size: int
    seed: int
    num_tokens: int
    """Training tokens of the whole run."""

    @property
    @abc.abstractmethod
    def num_windows(self) -> int:
        """Windows that hold num_tokens tokens."""

    @abc.abstractmethod
    def tokens_before(self, step: int) -> int:
        """Training tokens that the steps before `step` consume."""

    @abc.abstractmethod
    def _draw(self, step: int, count: int) -> Windows:
        """The first `count` windows of a step, uncut."""

    @property
    def num_steps(self) -> int:
        return -(-self.num_windows // self.batch_size)

    def of_step(self, step: int) -> Windows:
        """The global batch of one step; the last batch of a run may be smaller. IndexError beyond the run."""
        if not 0 <= step < self.num_steps:
            raise IndexError(f"step {step} is outside the run's {self.num_steps} steps")
        windows = self._draw(step, min(self.batch_size, self.num_windows - step * self.batch_size))
        if step == self.num_steps - 1:
            windows.length[-1] = self.num_tokens - self.tokens_before(step) - windows.length[:-1].sum()
        return windows


@dataclass(frozen=True, kw_only=True)
class UniformOrder(WindowOrder):
    """Component uniform, then paper uniform, then offset uniform (seed document, section 1)."""

    @property
    def num_windows(self) -> int:
        return -(-self.num_tokens // self.window_tokens)

    def tokens_before(self, step: int) -> int:
        return min(step * self.batch_size * self.window_tokens, self.num_tokens)

    def _draw(self, step: int, count: int) -> Windows:
        words_B3 = words(self.seed, Stream.WINDOWS, 3 * count, counter=step).reshape(count, 3)
        component_B = integers_below(len(self.selection.pools), words_B3[:, 0])
        return draw_windows(self.selection.joined, component_B, words_B3[:, 1:], self.window_tokens)


@dataclass(frozen=True, kw_only=True)
class EpochOrder(WindowOrder):
    """Every token of the selection once an epoch: papers cut into windows, in a new order each epoch."""

    @functools.cached_property
    def _windows_before(self) -> np.ndarray:
        """[P + 1] how many windows of an epoch lie in the papers before each."""
        return np.concatenate([[0], (-(-self.selection.joined.length // self.window_tokens)).cumsum()])

    @functools.cached_property
    def _lengths(self) -> np.ndarray:
        """int32 [W] tokens of each window of an epoch, in the papers' order."""
        return self._windows(np.arange(self.windows_per_epoch)).length.astype(np.int32)

    @property
    def windows_per_epoch(self) -> int:
        return int(self._windows_before[-1])

    @functools.cached_property
    def num_windows(self) -> int:
        epochs, rest = divmod(self.num_tokens, self.selection.unique_tokens)
        partial = int(np.searchsorted(self._tokens_in_epoch(epochs), rest)) + 1 if rest else 0
        return epochs * self.windows_per_epoch + partial

    def tokens_before(self, step: int) -> int:
        epoch, position = divmod(min(step * self.batch_size, self.num_windows), self.windows_per_epoch)
        within = int(self._lengths[self._order(epoch)[:position]].sum()) if position else 0
        return min(epoch * self.selection.unique_tokens + within, self.num_tokens)

    def _draw(self, step: int, count: int) -> Windows:
        number_B = np.arange(step * self.batch_size, step * self.batch_size + count)
        epoch_B, position_B = np.divmod(number_B, self.windows_per_epoch)
        chunk_B = np.empty_like(number_B)
        for epoch in np.unique(epoch_B):
            chunk_B[epoch_B == epoch] = self._order(int(epoch))[position_B[epoch_B == epoch]]
        return self._windows(chunk_B)

    def _windows(self, chunk_B: np.ndarray) -> Windows:
        """The windows of an epoch by their number in the papers' order."""
        joined = self.selection.joined
        piece_B = np.searchsorted(self._windows_before, chunk_B, side="right") - 1
        start_B = (chunk_B - self._windows_before[piece_B]) * self.window_tokens
        return Windows(
            component=joined.component[piece_B],
            paper=joined.paper[piece_B],
            start=start_B,
            length=np.minimum(self.window_tokens, joined.length[piece_B] - start_B),
        )

    def _order(self, epoch: int) -> np.ndarray:
        return _epoch_order(self.seed, epoch, self.windows_per_epoch)

    def _tokens_in_epoch(self, epoch: int) -> np.ndarray:
        """Tokens of an epoch up to and with each of its windows, in its order."""
        return self._lengths[self._order(epoch)].cumsum()


@functools.lru_cache(maxsize=2)
def _epoch_order(seed: int, epoch: int, num_windows: int) -> np.ndarray:
    return permutation(seed, Stream.EPOCH, num_windows, counter=epoch)


def draw_windows(pools: JoinedPools, component_B: np.ndarray, words_B2: np.ndarray, window_tokens: int) -> Windows:
    """Whole windows: a paper uniform in the component's pool, and a start uniform among those that fit in it."""
    paper_B = pools.first[component_B] + integers_below(np.diff(pools.first)[component_B], words_B2[:, 0])
    return Windows(
        component=component_B,
        paper=pools.paper[paper_B],
        start=integers_below(pools.length[paper_B] - window_tokens + 1, words_B2[:, 1]),
        length=np.full(len(component_B), window_tokens),
    )


def window_order(data: DataConfig, batch_size: int, seed: int, selection: Selection, num_tokens: int) -> WindowOrder:
    """The windows of a run of `num_tokens`, in the order that `data.sampling` names."""
    kind = EpochOrder if data.sampling == "epoch" else UniformOrder
    return kind(
        selection=selection,
        window_tokens=data.window_tokens,
        batch_size=batch_size,
        seed=seed,
        num_tokens=num_tokens,
    )
