"""What the runs of a condition do not suffice for, each with the command that would bring it."""

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from helpers.analysis.conditions import flat_settings, shared_settings
from helpers.analysis.estimates import LEAST_RUNS_OF_A_BAND
from helpers.repository import ROOT
from helpers.storage import Storage
from helpers.studies.ergodic import tables
from helpers.studies.ergodic.condition import Condition
from helpers.studies.ergodic.presets import PRESETS
from helpers.studies.ergodic.report.design import missing_baselines
from helpers.studies.ergodic.results import Results
from helpers.studies.ergodic.roles import CONTROL, VARIED, Comparisons


@dataclass(frozen=True, kw_only=True)
class Missing:
    what: str
    """A sentence without its full stop: what there is not, and what could be said with it."""
    command: str


Commands = Callable[..., str]
"""(*changes, verb="grid") -> the command that runs a condition's preset with further options."""


def missing(storage: Storage, results: Results, own: Condition) -> list[Missing]:
    """What would say more of one condition, the cheapest first."""
    say = _commands(storage, results, own.name)
    finders = (_cells, _baselines, _seeds, _control, _allocation, _sizes)
    return [found for finder in finders for found in finder(results, own, say)]


def _cells(results: Results, own: Condition, say: Commands) -> Iterator[Missing]:
    gone = tables.missing(results, own.name)
    if len(gone):
        names = ", ".join(f"K = {k} seed {seed}" for k, seed in zip(gone["k"], gone["seed"], strict=True))
        yield Missing(what=f"Cells of the grid without a run: {names}", command=say())


def _baselines(results: Results, own: Condition, say: Commands) -> Iterator[Missing]:
    gone = missing_baselines(results, own.name)
    if gone.empty:
        return
    seed, component = gone.iloc[0]
    what = f"Runs on one component alone, without which no run is matched ({len(gone)} missing"
    if _has_baselines(_nearest(results.settings[own.name])[0]):
        yield Missing(what=f"{what})", command=say())
    else:
        alone = (f"--set k=1 --set seed={seed}", f"--set data.components={_plain(component)}")
        yield Missing(what=f"{what}; the first one, and so each)", command=say(*alone, verb="train"))


def _seeds(results: Results, own: Condition, say: Commands) -> Iterator[Missing]:
    seeds = sorted(map(int, set(results.runs_of(own.name)["seed"])))
    if len(seeds) < LEAST_RUNS_OF_A_BAND:
        further = next(seed for seed in range(len(seeds) + 1) if seed not in seeds)
        what = f"A further seed: from {len(seeds)} an interval is wide, and a curve has no band"
        yield Missing(what=what, command=say(f"--set seed={further}"))


def _control(results: Results, own: Condition, say: Commands) -> Iterator[Missing]:
    if results.of(own.name, CONTROL)[0].empty:
        what = "The control with shuffled labels: whether more text alone would move XE"
        yield Missing(what=what, command=say("--set data.shuffle_labels=true"))


def _allocation(results: Results, own: Condition, say: Commands) -> Iterator[Missing]:
    allocations = set(results.runs_of(own.name)["allocation"])
    if allocations == {"full"} and len(results.alike_but_for(own.name, "data.allocation")) < 2:
        what = "The same with as many unique tokens at every K: whether repetition explains the rest"
        yield Missing(what=what, command=say("--set data.allocation=constant_unique"))


def _sizes(results: Results, own: Condition, say: Commands) -> Iterator[Missing]:
    if len(results.alike_but_for(own.name, "model.size")) < 2:
        (size,) = set(results.runs_of(own.name)["size"])
        sizes = list(PRESETS["demo"].config.model.SIZES)
        larger = sizes[min(sizes.index(size) + 1, len(sizes) - 2)] if size in sizes else "14m"
        yield Missing(what="A second model size: what capacity does", command=say(f"--set model.size={larger}"))


def _commands(storage: Storage, results: Results, condition: str) -> Commands:
    """Commands that run a condition again: the nearest preset, and each setting that differs from it."""
    name, differing = _nearest(results.settings[condition])
    sets = [f"--set {setting}={_plain(_words(value))}" for setting, value in differing.items()]
    root = storage.root
    place = root.relative_to(ROOT) if root.is_relative_to(ROOT) else root

    def say(*changes: str, verb: str = "grid") -> str:
        changed = {change.partition("=")[0] for change in changes}
        kept = [one for one in sets if one.partition("=")[0] not in changed]
        options = [f"--preset {name}", f"--storage {shlex.quote(str(place))}", *kept, *changes]
        return f"python -m helpers {verb} {' '.join(options)}"

    return say


def _nearest(settings: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The preset that differs least from the settings of a condition, and what differs with the condition's value."""
    wanted = flat_settings(settings)
    differing = {
        name: {key: value for key, value in wanted.items() if planned.get(key, value) != value}
        for name, preset in PRESETS.items()
        for planned in [flat_settings(shared_settings(preset.config, VARIED))]
    }
    # Of presets that differ alike, one that plans the baselines.
    name = min(differing, key=lambda name: (len(differing[name]), not _has_baselines(name)))
    return name, differing[name]


def _has_baselines(name: str) -> bool:
    companions = PRESETS[name].companions
    return isinstance(companions, Comparisons) and companions.baselines


def _plain(word: str) -> str:
    """A word as a shell takes it; in the place of one that could be markup, or of a path whose beginning no result
    tells, its reader's own."""
    return word if re.fullmatch(r"[\w.,+-]+", word) else "YOURS"


def _words(value: Any) -> str:
    """A value as `--set` takes it."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
