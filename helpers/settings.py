"""Settings from text and from JSON, checked against the fields and types of the config's dataclasses."""

import dataclasses
import math
import re
import types
import typing
from collections.abc import Iterable
from typing import Any, Literal

from helpers.config import RunConfig


def config_difference(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """The settings in which two config dicts differ, one line each: `train.steps: 100 -> 200`."""
    lines = []
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            lines += config_difference(a, b, f"{prefix}{key}.")
        elif a != b:
            lines.append(f"{prefix}{key}: {a} -> {b}")
    return lines


def apply_overrides(config: RunConfig, overrides: Iterable[str]) -> RunConfig:
    """`config` with each `a.b=value` applied.

    Raises ValueError for an unknown field, naming the fields there are, and for a value of the wrong type.
    """
    changes: dict[str, Any] = {}
    for override in overrides:
        path, separator, text = override.partition("=")
        if not separator:
            raise ValueError(f"override {override!r} has no '='; write it as train.steps=500")
        *parents, name = path.strip().split(".")
        node, place = config, changes
        for parent in parents:
            node, place = _field(node, parent, path), place.setdefault(parent, {})
        if dataclasses.is_dataclass(_field(node, name, path)):
            raise ValueError(f"override {path!r} names a group of fields: {_field_names(_field(node, name, path))}")
        place[name] = _parse(text.strip(), typing.get_type_hints(type(node))[name], path)
    return _replace(config, changes)


def from_json(kind: type, value: Any, where: str = "config") -> Any:
    """The dataclass `kind` from what `config.to_json` wrote.

    ValueError names an unknown field or a value of the wrong type.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be an object, not {value!r}")
    hints = typing.get_type_hints(kind)
    unknown = sorted(value.keys() - hints.keys())
    if unknown:
        raise ValueError(f"{where}.{unknown[0]} is not a field; the fields are {', '.join(hints)}")
    loaded = {}
    for name, item in value.items():
        if dataclasses.is_dataclass(hints[name]):
            loaded[name] = from_json(hints[name], item, f"{where}.{name}")
        else:
            loaded[name] = tuple(item) if isinstance(item, list) else item
            if not _is_of_type(loaded[name], hints[name]):
                raise ValueError(f"{where}.{name} = {item!r}: expected {_describe(hints[name])}")
    return kind(**loaded)


def replace_field(config: Any, path: str, value: Any) -> Any:
    """`config` with the field `a.b` replaced by a value of its type."""
    name, _, rest = path.partition(".")
    return dataclasses.replace(config, **{name: replace_field(getattr(config, name), rest, value) if rest else value})


def _replace(config: Any, changes: dict[str, Any]) -> Any:
    nested = {
        name: _replace(getattr(config, name), change) if isinstance(change, dict) else change
        for name, change in changes.items()
    }
    return dataclasses.replace(config, **nested)


def _field(node: Any, name: str, path: str) -> Any:
    if not dataclasses.is_dataclass(node) or name not in _field_names(node):
        legal = ", ".join(_field_names(node)) if dataclasses.is_dataclass(node) else "none: it is a value"
        raise ValueError(f"unknown field {name!r} in {path!r}; the fields here are {legal}")
    return getattr(node, name)


def _field_names(node: Any) -> list[str]:
    return [f.name for f in dataclasses.fields(node)]


def _options(hint: Any) -> tuple[Any, ...]:
    """The members of a union, or the hint alone."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _parse(text: str, hint: Any, path: str) -> Any:
    for option in _options(hint):
        if option is type(None) and text.lower() == "none":
            return None
        if option is bool and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if typing.get_origin(option) is Literal and text in typing.get_args(option):
            return text
        if typing.get_origin(option) is tuple and _is_text(text):
            return tuple(word.strip() for word in text.split(",") if word.strip())
        if option is str and _is_text(text):
            return text
        if option in (int, float):
            try:
                number = option(text.replace("_", ""))
            except ValueError:
                continue
            if _is_finite(number):
                return number
    raise ValueError(f"{path} = {text!r}: expected {_describe(hint)}")


def _is_of_type(value: Any, hint: Any) -> bool:
    for option in _options(hint):
        if typing.get_origin(option) is Literal:
            if value in typing.get_args(option):
                return True
        elif typing.get_origin(option) is tuple:
            if isinstance(value, tuple) and all(_is_text(item) for item in value):
                return True
        elif option is float:
            if type(value) in (int, float) and _is_finite(value):
                return True
        elif option is str:
            if _is_text(value):
                return True
        elif type(value) is option:
            return True
    return False


def _is_text(value: Any) -> bool:
    """Whether `value` is text that can be written to a file and stand in a path."""
    return isinstance(value, str) and "\0" not in value and not re.search("[\ud800-\udfff]", value)


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # a whole number that no float can hold
        return False


def _describe(hint: Any) -> str:
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "none"}
    parts = []
    for option in _options(hint):
        if typing.get_origin(option) is Literal:
            parts.append("one of " + ", ".join(map(str, typing.get_args(option))))
        elif typing.get_origin(option) is tuple:
            parts.append("names separated by commas")
        else:
            parts.append(words[option])
    return " or ".join(parts)
