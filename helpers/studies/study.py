"""What a study is to everything else: one experiment, its presets, what its runs do, what is made of their results."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from helpers.config import RunConfig
from helpers.grid.status_table import GRID
from helpers.runs.status import RunStatus
from helpers.storage import Storage
from helpers.studies.preset import Components, Preset

if TYPE_CHECKING:
    from helpers.training.recipe import Recipe


def windows() -> "Recipe":
    """The default: windows in, cross entropy out, XE measured at the end."""
    from helpers.training.recipe import WINDOWS  # imports torch

    return WINDOWS


class PlanNote(Protocol):
    """What a study says under a plan."""

    def __call__(
        self, runs: Sequence[RunConfig], storage: Storage, *, measure: bool, seed_deviation: float | None = None
    ) -> str:
        """`measure`: whether time may be spent on reading results. `seed_deviation`: the standard deviation of XE
        between seeds to reckon with, in nats per token. ValueError if the runs cannot be compared."""
        ...


def no_note(runs: Sequence[RunConfig], storage: Storage, *, measure: bool, seed_deviation: float | None = None) -> str:
    if seed_deviation is not None:
        raise ValueError("--seed-deviation is not possible: this study calculates no power before runs; leave it out")
    return ""


def no_progress(runs: Sequence[RunStatus], storage: Storage) -> str:
    return ""


def seeds_of_the_first(runs: Sequence[RunConfig], components: Components | None) -> list[RunConfig]:
    """The runs that differ from the first in their seed alone."""
    alike = [dataclasses.replace(config, seed=runs[0].seed) == runs[0] for config in runs]
    return [config for config, is_alike in zip(runs, alike, strict=True) if is_alike]


def nothing_first(
    anchors: Sequence[RunConfig], held_out: Sequence[RunConfig], storage: Storage, report: Callable[[str], None]
) -> str | None:
    return None


@dataclass(frozen=True, kw_only=True)
class Study:
    """One experiment. Everything that is not here is shared by all studies."""

    name: str
    question: str
    """One line."""
    presets: Mapping[str, Preset]
    axes: tuple[str, ...]
    """What every preset varies, such as k and seed: the notebook has a parameter for each."""
    compared: tuple[str, ...] = ()
    """What companions vary beside: a condition leaves out these and the axes."""
    notebook: str
    """That trains one run, and the grid."""
    analyse: Callable[[Storage], list[Path]]
    """Tables, figures and a report of every result in a storage; their paths. ValueError if there is no result."""
    answer: str = ""
    """The file in `tables/` in which `analyse` says in words what was found; empty: there is none."""
    headline: str = ""
    """The figure in `fig/` that shows it, where the runs suffice for it."""
    recipe: Callable[[], "Recipe"] = windows
    """What its runs do in the shared loop; imported when the first one is trained."""
    role_of: Callable[[RunConfig], str] = lambda config: GRID
    """What a run is for: the grid, or a comparison."""
    noise_cell: Callable[[Sequence[RunConfig], Components | None], list[RunConfig]] = seeds_of_the_first
    """The runs of one cell of a grid, which differ in nothing but their seed: they come first, for what they differ by
    is the noise that every difference has to leave."""
    plan_note: PlanNote = no_note
    progress: Callable[[Sequence[RunStatus], Storage], str] = no_progress
    """What `status` says of runs below the table, from the storage alone: what was measured on the way, time left."""
    before_held_out: Callable[
        [Sequence[RunConfig], Sequence[RunConfig], Storage, Callable[[str], None]], str | None
    ] = nothing_first
    """(anchors, held-out runs, storage, report): writes what must stand before the held-out runs start. None, or why
    they have to wait."""

    @property
    def parameters(self) -> dict[str, str]:
        """The notebook's parameter of each axis, such as SIZE for model.size."""
        return {axis.rpartition(".")[2].upper(): axis for axis in self.axes}

    @property
    def varied(self) -> tuple[str, ...]:
        """The settings that do not make another condition."""
        return ("study", *self.axes, *self.compared)
