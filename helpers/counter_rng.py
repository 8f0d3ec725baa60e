"""Random numbers as a pure function of (seed, stream, counter): there is no generator state to save or to restore.

Philox4x64 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") maps a 128-bit key and a 256-bit counter
to random bits. Only its raw words are used, which NumPy keeps the same in every version.
"""

import hashlib
from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What the numbers are for; one stream never overlaps another."""

    WINDOWS = 1
    EPOCH = 2
    SHUFFLE = 3
    ALLOCATION = 4
    EVALUATION = 5
    WEIGHTS = 6
    DROPOUT = 7
    NOISE = 8


def salt_of(name: str) -> int:
    """A 64-bit salt that names a component, whatever its place among the others."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def words(seed: int, stream: Stream, count: int, *, counter: int = 0, salt: int = 0) -> np.ndarray:
    """`count` random uint64 words."""
    generator = np.random.Philox(key=[seed, stream], counter=[0, counter, salt, 0])
    return generator.random_raw(count)


def integers_below(limit: np.ndarray | int, words_N: np.ndarray) -> np.ndarray:
    """Uniform int64 [N] in [0, limit) from random words; the bias is below limit / 2**53."""
    return np.floor((words_N >> np.uint64(11)) * 2.0**-53 * limit).astype(np.int64)


def permutation(seed: int, stream: Stream, size: int, *, counter: int = 0, salt: int = 0) -> np.ndarray:
    """A random permutation of 0 .. size - 1 (int64)."""
    return np.argsort(words(seed, stream, size, counter=counter, salt=salt), kind="stable")


def torch_seed(seed: int, stream: Stream, *, counter: int = 0, salt: int = 0) -> int:
    """A 63-bit seed for a library generator."""
    return int(words(seed, stream, 1, counter=counter, salt=salt)[0] >> np.uint64(1))
