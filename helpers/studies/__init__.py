"""The studies and their presets, by name."""

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from helpers.config import ARXIV_COMPONENTS, ARXIV_SOURCE, SYNTHETIC_SOURCE, DataConfig, RunConfig
from helpers.data.hidden_markov import component_names
from helpers.data.sources.stories import TINYSTORIES_SOURCE, is_stories, story_component
from helpers.settings import apply_overrides
from helpers.studies.activation import presets as activation
from helpers.studies.ergodic import presets as ergodic
from helpers.studies.ergodic.mixtures import Mixtures
from helpers.studies.preset import Preset

STUDIES: dict[str, ModuleType] = {"ergodic": ergodic, "activation": activation}


def find_study(name: str) -> ModuleType:
    """The module of a study. ValueError for an unknown name.

    It has PRESETS, the NOTEBOOK of a run, PARAMETERS (the config's field of each parameter of that notebook), the
    notebook and parameters of its ANALYSIS, `analyse`, and `predict` where runs are held out.
    """
    if name not in STUDIES:
        raise ValueError(f"study = {name!r} is unknown; the studies are {', '.join(STUDIES)}")
    return STUDIES[name]


def find_preset(study: str, name: str, source: str = "", tokenizer: str = "", overrides: Iterable[str] = ()) -> Preset:
    """A study's preset with another source or tokenizer (empty: the preset's own) and each `a.b=value` applied.

    A size that is set is the only one: it takes the place of those that a grid over K varies.
    ValueError for an unknown study, preset or field.
    """
    presets = find_study(study).PRESETS
    if name not in presets:
        raise ValueError(f"preset = {name!r} is unknown; the presets of {study} are {', '.join(presets)}")
    choices = [f"data.source={source}"] * bool(source) + [f"data.tokenizer={tokenizer}"] * bool(tokenizer)
    given = [_grid_keeps_k_and_seed(override) for override in overrides]
    config = apply_overrides(presets[name].config, [*choices, *given])
    preset = dataclasses.replace(presets[name], config=_with_absolute_paths(config))
    has_size = any(override.partition("=")[0].strip() == "model.size" for override in given)
    return dataclasses.replace(preset, sizes=()) if has_size and isinstance(preset, Mixtures) else preset


def known_components(data: DataConfig) -> dict[str, int | None] | None:
    """The component names of a source that can be told without its papers, sizes unknown; None for local papers."""
    if is_stories(data.source):
        return {story_component(data.source): None}
    names = {ARXIV_SOURCE: ARXIV_COMPONENTS, SYNTHETIC_SOURCE: component_names(data.synthetic)}.get(data.source)
    return dict.fromkeys(names) if names else None


def _grid_keeps_k_and_seed(override: str) -> str:
    name = override.partition("=")[0].strip()
    if name in ("k", "seed", "study"):
        raise ValueError(f"override {override!r}: {name} is chosen by its own option; override such as train.steps=500")
    return override


def _with_absolute_paths(config: RunConfig) -> RunConfig:
    """Local files named from the root, because a run's notebook is executed in another folder."""
    builtin = (ARXIV_SOURCE, SYNTHETIC_SOURCE, TINYSTORIES_SOURCE)
    changes = {}
    for field in ("source", "tokenizer"):
        path = Path(os.path.expanduser(getattr(config.data, field)))
        if str(path) not in builtin and path.exists():
            changes[field] = str(path.absolute())
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **changes))
