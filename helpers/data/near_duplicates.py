"""Papers that nearly repeat a held-out one: another version of it, or the same with a sentence more.

MinHash (Broder 1997, "On the resemblance and containment of documents") over all stretches of 16 bytes of the
normalised text. Two papers count as near duplicates when 0.7 of their 128 minima agree, an estimate of the Jaccard
similarity of their stretches with a standard deviation of at most 0.044; papers about the same matter stay below 0.2.
Pairs are looked for in 32 bands of 4 minima each (Leskovec, Rajaraman and Ullman, section 3.4): a pair of similarity
0.7 shares a band with probability 0.9998. Only the signatures of the held-out papers are kept in memory.
"""

from collections.abc import Sequence

import numpy as np
import rensa

NUM_MINIMA = 128
BANDS = 32
SIMILARITY = 0.7
SEED = 0
_HALVINGS = 4
_STRETCH_BYTES = 2**_HALVINGS
_MULTIPLIER = 0x9E3779B97F4A7C15  # odd, its bits well mixed: 2^64 divided by the golden ratio
_WORD = 2**64
_NONE = 2**32 - 1


def signatures(texts: Sequence[str]) -> np.ndarray:
    """The minima of each text, uint32 [N, NUM_MINIMA]; _NONE throughout for a text below 16 bytes."""
    stretches = [_stretches(text.encode("utf-8", "surrogatepass")) for text in texts]
    offsets = np.cumsum([0, *map(len, stretches)]).tolist()
    flat = np.concatenate(stretches) if stretches else np.empty(0, np.uint64)
    rows = rensa.RMinHash.digest_matrix_from_flat_token_hashes(flat, offsets, NUM_MINIMA, SEED).to_rows()
    return np.array(rows, np.uint32).reshape(len(texts), NUM_MINIMA)


class HeldOut:
    """The signatures of the held-out papers, to be asked which others are near one of them."""

    def __init__(self) -> None:
        self._signatures = np.empty((0, NUM_MINIMA), np.uint32)
        self._order = np.empty((BANDS, 0), np.int64)
        self._keys = np.empty((BANDS, 0), np.uint64)

    def add(self, signed: Sequence[np.ndarray]) -> None:
        """Each uint32 [N, NUM_MINIMA]."""
        signatures = np.concatenate([self._signatures, *signed])
        self._signatures = signatures[(signatures != _NONE).any(axis=1)]
        keys = _band_keys(self._signatures)
        self._order = np.argsort(keys, axis=1, kind="stable")
        self._keys = np.take_along_axis(keys, self._order, axis=1)

    def near(self, signed: np.ndarray) -> np.ndarray:
        """int64: the rows of `signed`, uint32 [N, NUM_MINIMA], that are near a held-out paper. Texts below 16 bytes
        are near none."""
        keys = _band_keys(signed)
        found = set()
        for band in range(BANDS):
            first = np.searchsorted(self._keys[band], keys[band], side="left")
            last = np.searchsorted(self._keys[band], keys[band], side="right")
            for row in np.flatnonzero(last > first):
                if row not in found:
                    candidates = self._signatures[self._order[band, first[row] : last[row]]]
                    if (np.mean(candidates == signed[row], axis=1) >= SIMILARITY).any():
                        found.add(int(row))
        return np.array(sorted(found), np.int64)


def _stretches(text: bytes) -> np.ndarray:
    """A hash of every 16 bytes that follow each other, uint64 [N - 15]: polynomials, from halves put together."""
    hashes, multiplier = np.frombuffer(text, np.uint8).astype(np.uint64) + 1, _MULTIPLIER
    for half in (2**halving for halving in range(_HALVINGS)):
        hashes = hashes[:-half] * np.uint64(multiplier) + hashes[half:]
        multiplier = multiplier * multiplier % _WORD
    return hashes


def _band_keys(signed: np.ndarray) -> np.ndarray:
    """One number for the minima of each band, uint64 [BANDS, N]."""
    words = np.ascontiguousarray(signed).view(np.uint64).reshape(len(signed), BANDS, NUM_MINIMA // BANDS // 2)
    keys = words[..., 0]
    for place in range(1, words.shape[2]):
        keys = keys * np.uint64(_MULTIPLIER) + words[..., place]
    return np.ascontiguousarray(keys.T)
