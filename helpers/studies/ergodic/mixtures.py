"""Grids over K: mixtures of K components, each component alone, and the same with shuffled labels."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from helpers.config import RunConfig
from helpers.data.components import active_components
from helpers.settings import replace_field
from helpers.studies.preset import ComponentsUnknown, Preset


@dataclass(frozen=True, kw_only=True)
class Mixtures(Preset):
    """Every K with every seed, and what they are compared with."""

    ks: tuple[int, ...]
    baselines: bool = False
    """Also K = 1 on each component alone, for each seed."""
    shuffle_control: bool = False
    """Also the same K and seeds with the papers' labels permuted."""
    sizes: tuple[str, ...] = ()
    """All of that with each of these models, the dear ones last. Empty: with the config's own."""

    def runs(self, num_tokens: Mapping[str, int | None] | None) -> Iterator[RunConfig]:
        """The grid by K then seed, the baselines, the control; size by size."""
        if self.sizes:
            for size in self.sizes:
                config = replace_field(self.config, "model.size", size)
                yield from dataclasses.replace(self, config=config, sizes=()).runs(num_tokens)
            return
        grid = [self.run(k, seed) for k, seed in itertools.product(self.ks, self.seeds)]
        baselines = self._baselines(num_tokens) if self.baselines else []
        control = [_with_data(config, shuffle_labels=True) for config in grid] if self.shuffle_control else []
        yield from {config.run_id: config for config in [*grid, *baselines, *control]}.values()

    def _baselines(self, num_tokens: Mapping[str, int | None] | None) -> list[RunConfig]:
        """K = 1 on each component and seed, without those that a K = 1 run of the grid already is."""
        sizes_decide = self.config.data.order == "smallest_first"
        if num_tokens is None or (sizes_decide and None in num_tokens.values()):
            raise ComponentsUnknown(
                f"the baselines of source {self.config.data.source!r} depend on its components, which are not known "
                "before the token cache exists; build it first: python -m helpers fetch"
            )
        sizes = {name: tokens or 0 for name, tokens in num_tokens.items()}
        baselines = []
        for seed in self.seeds:
            in_grid = active_components(self.run(1, seed), sizes) if 1 in self.ks else ()
            others = [name for name in sizes if name not in in_grid]
            baselines += [_with_data(self.run(1, seed), components=(name,)) for name in others]
        return baselines


def _with_data(config: RunConfig, **changes: object) -> RunConfig:
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **changes))
