"""A preset is a named grid: one config, and the K, seeds and controls to run it with."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from helpers.config import RunConfig
from helpers.data.components import active_components


class ComponentsUnknown(ValueError):
    """The runs depend on components that are not known before the token cache exists."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """The runs of a grid before they are spelled out."""

    description: str
    """One line, shown by `--help` and by the picker."""
    config: RunConfig
    """Every setting of the runs but K, seed, components and shuffling."""
    ks: tuple[int, ...]
    seeds: tuple[int, ...]
    baselines: bool = False
    """Also K = 1 on each component alone, for each seed."""
    shuffle_control: bool = False
    """Also the same K and seeds with the papers' labels permuted."""
    note: str = ""
    """Shown under the plan."""

    def run(self, k: int, seed: int) -> RunConfig:
        """The run of this preset at K = k with this seed."""
        return dataclasses.replace(self.config, k=k, seed=seed)


def grid_runs(preset: Preset, num_tokens: Mapping[str, int | None] | None) -> Iterator[RunConfig]:
    """Every run of a preset, each once: the grid by K then seed, the baselines, the control.

    `num_tokens` names the source's components with their train tokens (None where only the cache could tell), and is
    None itself if not even the names are known. ComponentsUnknown if the baselines need what is not known yet.
    """
    grid = [preset.run(k, seed) for k, seed in itertools.product(preset.ks, preset.seeds)]
    baselines = _baselines(preset, num_tokens) if preset.baselines else []
    control = [_with_data(config, shuffle_labels=True) for config in grid] if preset.shuffle_control else []
    yield from {config.run_id: config for config in [*grid, *baselines, *control]}.values()


def _baselines(preset: Preset, num_tokens: Mapping[str, int | None] | None) -> list[RunConfig]:
    """K = 1 on each component and seed, without those that a K = 1 run of the grid already is."""
    sizes_decide = preset.config.data.order == "smallest_first"
    if num_tokens is None or (sizes_decide and None in num_tokens.values()):
        raise ComponentsUnknown(
            f"the baselines of source {preset.config.data.source!r} depend on its components, which are not known "
            "before the token cache exists; build it first: python -m helpers fetch"
        )
    sizes = {name: tokens or 0 for name, tokens in num_tokens.items()}
    baselines = []
    for seed in preset.seeds:
        in_grid = active_components(preset.run(1, seed), sizes) if 1 in preset.ks else ()
        others = [name for name in sizes if name not in in_grid]
        baselines += [_with_data(preset.run(1, seed), components=(name,)) for name in others]
    return baselines


def _with_data(config: RunConfig, **changes: object) -> RunConfig:
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **changes))
