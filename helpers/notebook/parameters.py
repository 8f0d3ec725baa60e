"""The parameters of a notebook: whoever set them, a person, papermill or a scheduler, each has the type it says."""

import sys
from types import ModuleType
from typing import Any

_WANTED = {
    int: "a whole number, such as {name} = 4",
    float: "a number, such as {name} = 0.5",
    str: 'text in quotes, such as {name} = ""',
    bool: "{name} = True or {name} = False, without quotes",
}


def check_parameters(notebook: ModuleType | None = None) -> None:
    """ValueError, a sentence for each, when names in capitals hold something else than their annotation says.

    Those of the notebook that is running, which is the module `__main__`.
    """
    notebook = notebook or sys.modules["__main__"]
    annotations = getattr(notebook, "__annotations__", {})
    faults = [
        f"{name} = {value!r} is {_kind(value)}; set {_WANTED[wanted].format(name=name)}"
        for name, wanted in annotations.items()
        if name.isupper() and wanted in _WANTED and not _is_of(value := getattr(notebook, name, None), wanted)
    ]
    if faults:
        raise ValueError(". ".join(faults))


def _is_of(value: Any, wanted: type) -> bool:
    if wanted is float:
        return type(value) in (int, float)
    return type(value) is wanted  # True is an int to Python, and no number of components


def _kind(value: Any) -> str:
    names = {str: "text", bool: "true or false", float: "a number with a point", int: "a number", type(None): "nothing"}
    return names.get(type(value), f"a {type(value).__name__}")
