"""A preset is a named grid: the settings that its runs share, and which runs they are."""

import abc
import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from helpers.config import RunConfig


class ComponentsUnknown(ValueError):
    """The runs depend on components that are not known before the token cache exists."""


@dataclass(frozen=True, kw_only=True)
class Preset(abc.ABC):
    """The runs of a grid before they are spelled out; what varies over them is its study's."""

    description: str
    """One line, shown by `--help` and by the picker."""
    config: RunConfig
    """Every setting that the runs share."""
    seeds: tuple[int, ...]
    note: str = ""
    """Shown under the plan."""

    @abc.abstractmethod
    def runs(self, num_tokens: Mapping[str, int | None] | None) -> Iterator[RunConfig]:
        """Every run, each once.

        `num_tokens` names the source's components with their train tokens (None where only the cache could tell), and
        is None itself if not even the names are known. ComponentsUnknown if the runs depend on what is not known yet.
        """

    def run(self, k: int, seed: int) -> RunConfig:
        """The run of the shared settings at K = k with this seed."""
        return dataclasses.replace(self.config, k=k, seed=seed)

    def choose(self, **choices: tuple) -> "Preset":
        """A part of the grid: other `seeds`, or what else its study varies. ValueError for what it does not."""
        unknown = [name for name in choices if not hasattr(self, name)]
        if unknown:
            raise ValueError(f"study {self.config.study} has no {unknown[0]} to choose; leave that option out")
        return dataclasses.replace(self, **choices)

    def is_held_out(self, config: RunConfig) -> bool:
        """Whether a run may start only when what the others predict for it is written."""
        return False
