"""Windows as they are read, token by token, from papers of every length, also at the very end of a split."""

import numpy as np
import pytest

from helpers.data.flat_tokens import FlatTokens
from helpers.data.window_dataset import NO_LOSS, read_windows
from helpers.data.window_order import Windows


@pytest.mark.parametrize("most_tokens", [50, 120, 1_000])
@pytest.mark.parametrize("reaches_the_end", [False, True])
def test_each_token_is_that_of_its_paper(most_tokens: int, reaches_the_end: bool) -> None:
    rng = np.random.default_rng(most_tokens)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(most_tokens // 2, most_tokens + 1, 40))])
    flat = FlatTokens(tokens=rng.integers(60_000, size=offsets[-1]).astype(np.uint16), offsets=offsets)
    paper = rng.integers(39, size=64)
    paper[-1] = 39 if reaches_the_end else 0
    sizes = np.diff(offsets)[paper]
    start = rng.integers(np.maximum(sizes - 99, 1))
    start[-1] = sizes[-1] - 3 if reaches_the_end else 0
    windows = Windows(component=paper * 0, paper=paper, start=start, length=np.minimum(100, sizes - start))
    found = read_windows(flat, windows, 100)
    assert found.dtype == np.int64 and found.shape == (64, 100)
    for row, number, first, length in zip(found, paper, start, windows.length, strict=True):
        tokens = flat.tokens[offsets[number] : offsets[number + 1]][first : first + length].tolist()
        assert row.tolist() == tokens + [NO_LOSS] * (100 - length)
