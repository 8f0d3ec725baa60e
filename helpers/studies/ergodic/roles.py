"""What a run over K is for, and the runs that the grid is compared with."""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from helpers.config import RunConfig
from helpers.data.components import active_components
from helpers.grid.status_table import GRID
from helpers.studies.preset import Components, ComponentsUnknown

BASELINE, CONTROL = "baseline", "control"
AXES = ("k", "seed")
COMPARED = ("data.components", "data.shuffle_labels")
"""What baselines and controls vary beside the axes."""
VARIED = ("study", *AXES, *COMPARED)
"""What does not make another condition."""


def role_of(config: RunConfig) -> str:
    """The grid, a baseline (one named component, alone), or the control (shuffled labels)."""
    if config.data.shuffle_labels:
        return CONTROL
    return BASELINE if config.data.components and config.k == 1 else GRID


def noise_cell(runs: Sequence[RunConfig], components: Components | None) -> list[RunConfig]:
    """The runs at several seeds on the same components, the cheapest such cell; empty where no cell has two seeds, or
    the components are not known yet.

    Under `rotate` a K has other components at every seed, so that these are mostly runs on one component: the grid's
    own at one seed, baselines at the others.
    """
    cells: dict[tuple[str, frozenset[str]], list[RunConfig]] = {}
    for config in runs:
        if (active := _active(config, components)) and not config.data.shuffle_labels:
            alike = dataclasses.replace(config, seed=0, data=dataclasses.replace(config.data, components=()))
            cells.setdefault((alike.run_id, frozenset(active)), []).append(config)
    several = [cell for cell in cells.values() if len({config.seed for config in cell}) > 1]
    return min(several, key=lambda cell: cell[0].k, default=[])


def _active(config: RunConfig, components: Components | None) -> tuple[str, ...]:
    """The components of a run, as far as they can be told."""
    if config.data.components:
        return config.data.components
    try:
        return active_components(config, _known(components, config))
    except ComponentsUnknown:
        return ()


@dataclass(frozen=True, kw_only=True)
class Comparisons:
    """The companions of a grid over K."""

    baselines: bool = False
    """K = 1 on each component alone, for each seed."""
    shuffle_control: bool = False
    """The same K and seeds with the papers' labels permuted."""

    def __call__(self, grid: Sequence[RunConfig], components: Components | None) -> Iterable[RunConfig]:
        if self.baselines:
            yield from _baselines(grid, components)
        if self.shuffle_control:
            yield from (_with_data(config, shuffle_labels=True) for config in grid)


def _baselines(grid: Sequence[RunConfig], components: Components | None) -> Iterable[RunConfig]:
    """K = 1 on each component that holds a window, without those that a K = 1 run of the grid is on already.

    Where the grid names its components, on those alone.
    """
    named = {name for config in grid for name in config.data.components}
    in_grid = set(grid)
    for alone in dict.fromkeys(_with_data(dataclasses.replace(config, k=1), components=()) for config in grid):
        sizes = dict.fromkeys(sorted(named), 1) or _known(components, alone)
        first = active_components(alone, sizes) if alone in in_grid else ()
        yield from (_with_data(alone, components=(name,)) for name in sizes if name not in first and sizes[name])


def _known(components: Components | None, config: RunConfig) -> dict[str, int]:
    """The components with their train tokens; where only their order counts, with 1 for tokens that are not known."""
    sizes_decide = config.data.order == "smallest_first"
    if components is None or (sizes_decide and None in components.values()):
        raise ComponentsUnknown(
            f"the baselines of source {config.data.source!r} depend on its components, which are not known "
            "before the token cache exists; build it first: python -m helpers fetch"
        )
    return {name: 1 if tokens is None else tokens for name, tokens in components.items()}


def _with_data(config: RunConfig, **changes: object) -> RunConfig:
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **changes))
