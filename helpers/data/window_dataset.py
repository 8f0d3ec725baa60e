"""WindowDataset: the windows of a run as arrays of token ids, read from one flat memory-mapped array.

`batch(step)`, `dataset[i]` and torch's batched `__getitems__` give the same windows; there is no loader state, so a run
resumes at any step at no cost, and any number of processes sees the same global batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from helpers.data.flat_tokens import FlatTokens
from helpers.data.window_order import WindowOrder, Windows

NO_LOSS = -100  # torch's default ignore_index


@dataclass(frozen=True, kw_only=True)
class WindowBatch:
    """Token ids [B, T] int64; a position beyond its window's length holds NO_LOSS."""

    tokens: np.ndarray
    windows: Windows

    @property
    def num_tokens(self) -> int:
        return int(self.windows.length.sum())


@dataclass(frozen=True, kw_only=True)
class WindowDataset:
    """The windows of one run, counted from 0 over all its steps."""

    flat: FlatTokens
    order: WindowOrder

    def __len__(self) -> int:
        return self.order.num_windows

    def batch(self, step: int) -> WindowBatch:
        """The global batch of a step."""
        windows = self.order.of_step(step)
        return WindowBatch(tokens=read_windows(self.flat, windows, self.order.window_tokens), windows=windows)

    def __getitem__(self, number: int) -> np.ndarray:
        """Window `number`: token ids [T]."""
        return self.__getitems__([number])[0]

    def __getitems__(self, numbers: Sequence[int]) -> list[np.ndarray]:
        steps = {number: divmod(range(len(self))[number], self.order.batch_size) for number in numbers}
        batches = {step: self.batch(step).tokens for step in {step for step, _ in steps.values()}}
        return [batches[steps[number][0]][steps[number][1]] for number in numbers]


def read_windows(flat: FlatTokens, windows: Windows, window_tokens: int) -> np.ndarray:
    """Token ids [B, T] int64 of `windows`, NO_LOSS beyond each window's length."""
    tokens = np.asarray(flat.tokens)  # as a plain array: a memmap makes a new memmap of each index
    first_B = flat.offsets[windows.paper] + windows.start
    if first_B.max(initial=0) + window_tokens <= len(tokens):  # each row is copied as one piece
        tokens_BT = sliding_window_view(tokens, window_tokens)[first_B].astype(np.int64)
    else:  # a short window at the very end of the split
        place_BT = np.minimum(first_B[:, None] + np.arange(window_tokens), len(tokens) - 1)
        tokens_BT = tokens[place_BT].astype(np.int64)
    if windows.length.min(initial=window_tokens) < window_tokens:
        tokens_BT[np.arange(window_tokens) >= windows.length[:, None]] = NO_LOSS
    return tokens_BT
