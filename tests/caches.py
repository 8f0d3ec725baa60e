"""A token cache in memory, for tests of what is chosen from it."""

from dataclasses import dataclass

import numpy as np

from helpers.data.flat_tokens import FlatTokens
from helpers.data.paper_index import PaperIndex


@dataclass(frozen=True)
class MemoryCache:
    """Papers of given lengths; token n of the whole split has id n, so that every token can be told from all others."""

    lengths: dict[str, list[int]]

    @property
    def components(self) -> tuple[str, ...]:
        return tuple(self.lengths)

    def index(self, split: str) -> PaperIndex:
        names = [name for name, lengths in self.lengths.items() for _ in lengths]
        return PaperIndex(
            paper_ids=np.array([f"{split}-{name}-{row}" for row, name in enumerate(names)]),
            component=np.array([self.components.index(name) for name in names], dtype=np.int32),
            num_tokens=np.array([length for lengths in self.lengths.values() for length in lengths], dtype=np.int64),
        )

    def flat(self) -> FlatTokens:
        offsets = np.concatenate([[0], self.index("train").num_tokens.cumsum()])
        return FlatTokens(tokens=np.arange(offsets[-1], dtype=np.uint32), offsets=offsets)
