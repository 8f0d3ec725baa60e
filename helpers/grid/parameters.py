"""A run as the parameters of its notebook, checked before anything is executed."""

import dataclasses
import functools
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from helpers.config import RunConfig
from helpers.settings import replace_field
from helpers.storage import Storage

K_AND_SEED = {"K": "k", "SEED": "seed"}
"""The parameters that are a field of the config each, in a notebook whose grid runs over K."""


def run_parameters(
    config: RunConfig, base: RunConfig, preset: str, storage: Storage, fields: Mapping[str, str] = K_AND_SEED
) -> dict[str, Any]:
    """The parameters with which the notebook arrives at `config`; `base` is the study's own config of `preset`.

    `fields` names the config's field of each parameter that the notebook has for one; the rest are overrides.
    """
    fields = fields | {"SOURCE": "data.source", "TOKENIZER": "data.tokenizer"}
    values = {name: functools.reduce(getattr, path.split("."), config) for name, path in fields.items()}
    for name, path in fields.items():
        base = replace_field(base, path, values[name])
    return {
        "PRESET": preset,
        **values,
        "STORAGE": str(storage.root),
        "OVERRIDES": shlex.join(overrides_between(base, config)),
        "RUN_GRID": False,
        "INTERACTIVE": False,
    }


def overrides_between(base: Any, config: Any, prefix: str = "") -> list[str]:
    """The `a.b=value` that turn one config into the other: `apply_overrides(base, them) == config`."""
    overrides = []
    for field in dataclasses.fields(base):
        old, new = getattr(base, field.name), getattr(config, field.name)
        if dataclasses.is_dataclass(old):
            overrides += overrides_between(old, new, f"{prefix}{field.name}.")
        elif old != new:
            overrides.append(f"{prefix}{field.name}={','.join(new) if isinstance(new, tuple) else new}")
    return overrides


def check_parameters(notebook: Path, parameters: dict[str, Any]) -> None:
    """ValueError for a parameter that `notebook` does not have, or one of another type: papermill itself only warns."""
    import papermill  # slow to import, and not needed to plan

    known = papermill.inspect_notebook(str(notebook))
    for name, value in parameters.items():
        if name not in known:
            raise ValueError(f"parameter {name} is unknown to {notebook.name}; its parameters are {', '.join(known)}")
        expected = known[name]["inferred_type_name"].strip()
        if type(value).__name__ != expected:
            raise ValueError(f"parameter {name} = {value!r} of {notebook.name} must be of type {expected}")
