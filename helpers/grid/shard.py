"""A fixed share of a grid, for tabs and machines that work at once: no lock exists that all of them would see."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from helpers.config import RunConfig, canonical_json
from helpers.models.families import count_non_embedding


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Share `number` of `count`, counted from 1. Each run is in exactly one, whatever is done already."""

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """The shard `text`, such as 2/3; the whole grid for an empty text. ValueError for anything else."""
        if not text:
            return WHOLE
        match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text.strip())
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise ValueError(f"shard = {text!r} is not possible; use i/n with i from 1 to n, such as 2/3")
        return cls(number=int(match[1]), count=int(match[2]))

    def __str__(self) -> str:
        return "the whole grid" if self.count == 1 else f"shard {self.number}/{self.count}"

    def of(self, configs: Iterable[RunConfig]) -> list[RunConfig]:
        """The runs of this shard in the order of `configs`. ValueError if the grid has fewer runs than shards.

        They are dealt out by model size, K, and what else differs but for the seed, so that the shards of a grid differ
        by one run at most, in total and of each kind. A run keeps its shard as long as the set of runs stays, in
        whatever order a process lists them.
        """
        configs = list(configs)
        if len(configs) < self.count:
            raise ValueError(f"{self} is not possible: the grid has {len(configs)} runs; use at most as many shards")
        dealt = sorted(configs, key=_kind)[self.number - 1 :: self.count]
        mine = {config.run_id for config in dealt}
        return [config for config in configs if config.run_id in mine]


WHOLE = Shard()


def _kind(config: RunConfig) -> tuple:
    """Equal for runs that differ in their seed alone, but for the last of its parts."""
    but_for_seed = canonical_json({**config.science(), "seed": None})
    return count_non_embedding(config.model), config.k, but_for_seed, config.run_id
