"""What runs share that may be averaged: their condition, its readable name, and conditions that differ in one setting.

A condition is a run's science without what its study varies, such as K and seed: other sources, lengths or batches are
other conditions.
"""

import copy
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from helpers.config import RunConfig, canonical_json, file_name

Settings = dict[str, Any]
"""Settings as nested JSON."""


def shared_settings(config: RunConfig, varied: Iterable[str]) -> Settings:
    """The science that all runs of one grid share; `varied` are the settings that its study varies."""
    return without(config.science(), *varied)


def without(condition: Settings, *settings: str) -> Settings:
    """The same settings without some of them, such as `model.size`."""
    rest = copy.deepcopy(condition)
    for setting in settings:
        *sections, last = setting.split(".")
        part = rest
        for section in sections:
            part = part[section]
        part.pop(last, None)  # which a run without that setting does not have
    return rest


def condition_names(conditions: Sequence[Settings]) -> list[str]:
    """A name for each condition; those that would read alike also name the settings in which they differ."""
    keys = [canonical_json(condition) for condition in conditions]
    distinct = dict(zip(keys, conditions, strict=True))
    names = {}
    for key, condition in distinct.items():
        own = flat_settings(condition)
        alike = [flat_settings(other) for other in distinct.values() if _label(other) == _label(condition)]
        differing = sorted(name for name in own if any(other.get(name) != own[name] for other in alike))
        names[key] = ", ".join([_label(condition), *(f"{name} {own[name]}" for name in differing)])
    return [names[key] for key in keys]


def condition_file_name(name: str) -> str:
    """A condition's name as part of a file name."""
    return "-".join(re.sub(r"_+", "_", file_name(part)) for part in name.split(", "))


def _label(condition: Settings) -> str:
    """What a reader asks first, as far as the study does not vary it."""
    flat = flat_settings(condition)
    words = {
        "data.source": lambda source: Path(source).stem,
        "model.size": str,
        "data.allocation": lambda allocation: f"{allocation.replace('_', ' ')} allocation",
        "data.sampling": lambda sampling: f"{sampling} sampling",
    }
    return ", ".join([word(flat[name]) for name, word in words.items() if name in flat] + _length(flat))


def _length(flat: dict[str, Any]) -> list[str]:
    """How long a condition trains, in tokens where its settings say so."""
    given = {name: flat.get(f"train.{name}") for name in ("epochs", "tokens_per_parameter", "tokens", "steps")}
    if given["epochs"] is not None:
        return [f"{given['epochs']:g} epochs"]
    if given["tokens_per_parameter"] is not None:
        return [f"{given['tokens_per_parameter']:g} tokens a parameter"]
    sizes = [flat.get("train.batch_size"), flat.get("data.window_tokens")]
    if given["tokens"] is None and None not in (given["steps"], *sizes):
        given["tokens"] = given["steps"] * sizes[0] * sizes[1]
    each = " a component" * (flat.get("data.allocation") == "constant_exposure")
    if given["tokens"] is None:
        return [f"{given['steps']:,} steps{each}"] if given["steps"] is not None else []
    return [f"{_short(given['tokens'])} tokens{each}"]


def _short(tokens: int) -> str:
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if tokens >= unit:
            return f"{tokens / unit:.3g}{name}"
    return str(tokens)


def flat_settings(settings: Settings, prefix: str = "") -> dict[str, Any]:
    """Settings by their dotted names, such as `train.steps`."""
    flat = {}
    for name, value in settings.items():
        flat |= flat_settings(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
