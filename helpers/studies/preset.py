"""A preset is a named grid: a config and its axes, from which its runs follow, and what they are compared with."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from helpers.config import RunConfig
from helpers.data.sources import find_source
from helpers.errors import did_you_mean
from helpers.models.families import count_non_embedding
from helpers.settings import field_value, parse_field, replace_fields, split_override

Components = Mapping[str, int | None]
"""The components of a source with their usable train tokens, None where only the token cache could tell."""
Companions = Callable[[Sequence[RunConfig], Components | None], Iterable[RunConfig]]
"""(runs of the grid, components as far as they are known) -> the runs that those are compared with."""


class ComponentsUnknown(ValueError):
    """The runs depend on components that are not known before the token cache exists."""


def no_companions(grid: Sequence[RunConfig], components: Components | None) -> Iterable[RunConfig]:
    return ()


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Every combination of the axes' values, and the companions of those runs."""

    description: str
    """One line, shown by `--help` and by the picker."""
    config: RunConfig
    """Every setting that the runs share."""
    axes: Mapping[str, tuple]
    """The settings that vary, such as `k` or `model.size`, each with its values."""
    companions: Companions = no_companions
    held_out: Mapping[str, tuple] = field(default_factory=dict)
    """Values of axes whose runs may start only when what the other runs predict of them is written."""
    note: str = ""
    """Shown under the plan."""

    @property
    def grid(self) -> list[RunConfig]:
        """The runs of the axes alone, the last axis varying first. ValueError for a K that the source cannot have."""
        names = find_source(self.config.data).component_names(self.config.data)
        most = max(self.axes.get("k", (self.config.k,)))
        if names and most > len(names):
            there = f"{len(names)} component{'s' * (len(names) > 1)}"
            raise ValueError(f"k = {most} is not possible: {self.config.data.source} has {there}")
        values = (dict(zip(self.axes, point, strict=True)) for point in itertools.product(*self.axes.values()))
        return [replace_fields(self.config, point) for point in values]

    def runs(self, components: Components | None) -> list[RunConfig]:
        """Every run once, the costly models last. ComponentsUnknown if they depend on what is not known yet."""
        grid = self.grid
        runs: dict[str, RunConfig] = {}
        for config in [*grid, *self.companions(grid, components)]:
            runs.setdefault(config.run_id, config)
        return sorted(runs.values(), key=lambda config: count_non_embedding(config.model))

    def at(self, **values: Any) -> RunConfig:
        """The run with these values of axes whose names have no dot, such as k=4 and seed=0."""
        return replace_fields(self.config, values)

    def is_held_out(self, config: RunConfig) -> bool:
        return any(field_value(config, axis) in values for axis, values in self.held_out.items())

    def pinned(self, overrides: Iterable[str]) -> "Preset":
        """The same where each axis that is set by an override `axis=value` has this value alone."""
        texts = dict(map(split_override, overrides))
        values = {axis: (parse_field(self.config, axis, texts[axis]),) for axis in self.axes if axis in texts}
        return dataclasses.replace(self, axes={**self.axes, **values})

    def only(self, choices: Iterable[str]) -> "Preset":
        """The part of the grid at chosen values of its axes, each choice such as k=1,4.

        ValueError for what is no axis, or a value that the axis does not have.
        """
        axes = dict(self.axes)
        for choice in choices:
            axis, text = split_override(choice)
            if axis not in axes:
                raise ValueError(
                    f"only {choice!r} is not possible: the axes of this preset are {', '.join(self.axes)}"
                    f"{did_you_mean(axis, self.axes)}"
                )
            legal = ", ".join(map(str, self.axes[axis]))
            values = tuple(parse_field(self.config, axis, word) for word in text.split(",") if word.strip())
            missing = [value for value in values if value not in self.axes[axis]] if values else [text]
            if missing:
                raise ValueError(
                    f"only {choice!r} is not possible: {axis} is one of {legal} in this preset; "
                    f"--set {axis}={missing[0]} makes a grid of that value alone"
                )
            axes[axis] = tuple(value for value in self.axes[axis] if value in values)
        return dataclasses.replace(self, axes=axes)

    def without_held_out(self) -> "Preset":
        """The runs that are not held out. ValueError where none is."""
        if not self.held_out:
            raise ValueError("--anchors-only is not possible: this preset holds no runs out; leave the option out")
        kept = {axis: tuple(v for v in self.axes[axis] if v not in out) for axis, out in self.held_out.items()}
        return dataclasses.replace(self, axes={**self.axes, **kept}, held_out={})
