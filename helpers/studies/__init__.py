"""The studies and their presets, by name. Nothing else knows how many there are."""

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path

from helpers.config import DataConfig, RunConfig
from helpers.data.sources import SOURCES, find_source
from helpers.errors import did_you_mean
from helpers.settings import apply_overrides, field_value
from helpers.studies.activation import STUDY as ACTIVATION
from helpers.studies.ergodic import STUDY as ERGODIC
from helpers.studies.length import STUDY as LENGTH
from helpers.studies.preset import Components, Preset
from helpers.studies.samples import STUDY as SAMPLES
from helpers.studies.study import Study

STUDIES: tuple[Study, ...] = (ERGODIC, ACTIVATION, LENGTH, SAMPLES)


def find_study(name: str) -> Study:
    """ValueError for an unknown name."""
    for study in STUDIES:
        if study.name == name:
            return study
    names = [study.name for study in STUDIES]
    raise ValueError(f"study = {name!r} is unknown; the studies are {', '.join(names)}{did_you_mean(name, names)}")


def find_preset(
    study: str,
    name: str,
    source: str = "",
    tokenizer: str = "",
    overrides: Iterable[str] = (),
    only: Iterable[str] = (),
) -> Preset:
    """A study's preset with another source or tokenizer (empty: the preset's own) and each `a.b=value` applied.

    An axis that is set has that value alone. `only` then chooses values of axes, each choice such as k=1,4.
    ValueError for an unknown study, preset or field.
    """
    presets = find_study(study).presets
    if name not in presets:
        raise ValueError(
            f"preset = {name!r} is unknown; the presets of {study} are {', '.join(presets)}"
            f"{did_you_mean(name, presets)}"
        )
    chosen = [f"data.source={source}"] * bool(source) + [f"data.tokenizer={tokenizer}"] * bool(tokenizer)
    overrides = [*chosen, *map(_keep_study, overrides)]
    preset = presets[name].pinned(overrides)
    config = _with_absolute_paths(apply_overrides(preset.config, overrides))
    for override in overrides:
        _require_used(override, config.data)
    return dataclasses.replace(preset, config=config).only(only)


def preset_of(config: RunConfig) -> Preset:
    """A grid of one run."""
    study = find_study(config.study)
    axes = {axis: (field_value(config, axis),) for axis in study.axes}
    return Preset(description="one planned run", config=config, axes=axes)


def known_components(data: DataConfig) -> Components | None:
    """The component names of a source that can be told without its papers, sizes unknown; None where only they tell."""
    names = find_source(data).component_names(data)
    return dict.fromkeys(names) if names else None


def _keep_study(override: str) -> str:
    if override.partition("=")[0].strip() == "study":
        raise ValueError(f"override {override!r}: the study has its own option; override such as train.steps=500")
    return override


def _require_used(override: str, data: DataConfig) -> None:
    field = override.partition("=")[0].strip()
    for name in data.unused:
        if field == f"data.{name}" or field.startswith(f"data.{name}."):
            raise ValueError(f"override {override!r}: {field} has no part in a run with source = {data.source!r}")


def _with_absolute_paths(config: RunConfig) -> RunConfig:
    """Local files named from the root, because a run's notebook is executed in another folder."""
    changes = {}
    for field in ("source", "tokenizer"):
        name = getattr(config.data, field)
        path = Path(os.path.expanduser(name))
        if name not in SOURCES and path.exists():
            changes[field] = str(path.absolute())
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **changes))
