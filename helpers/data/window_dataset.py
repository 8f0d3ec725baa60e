"""WindowDataset: the windows of a run as arrays of token ids, read from one flat memory-mapped array.

`batch(step)`, `dataset[i]` and torch's batched `__getitems__` give the same windows; there is no loader state, so a run
resumes at any step at no cost, and any number of processes sees the same global batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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
    first_B = flat.offsets[windows.paper] + windows.start
    position_T = np.arange(window_tokens)
    place_BT = np.minimum(first_B[:, None] + position_T, len(flat.tokens) - 1)
    return np.where(position_T < windows.length[:, None], flat.tokens[place_BT].astype(np.int64), NO_LOSS)
