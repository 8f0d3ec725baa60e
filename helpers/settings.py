"""Settings from text and from JSON, checked against the fields and types of the config's dataclasses."""

import dataclasses
import functools
import json
import math
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from helpers.config import RunConfig
from helpers.errors import did_you_mean
from helpers.model_config import MODEL_CONFIGS, PythiaConfig, model_config_of, model_of_size

MODEL_SIZE = "model.size"
"""The setting that also chooses the family of the model, and with it the other fields of `model`."""
_RETIRED = {PythiaConfig: {"activation": "gelu"}}
"""Fields that older files have, with the only value that they had."""


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
    """`config` with each `a.b=value` applied, all at once.

    Raises ValueError for an unknown field, naming the fields there are, and for a value of the wrong type.
    """
    texts = dict(map(split_override, overrides))
    sections = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    if MODEL_SIZE in texts:  # first, for it decides which fields the model has
        sections["model"] = model_of_size(texts[MODEL_SIZE], config.model)
    values = {path: _parse(text, _hint(sections, path), path) for path, text in texts.items()}
    return _replace(config, sections, values)


def replace_fields(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """`config` with fields such as `train.steps` replaced by values of their types, all at once."""
    sections = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    if MODEL_SIZE in values:
        sections["model"] = model_of_size(values[MODEL_SIZE], config.model)
    for path, value in values.items():
        hint = _hint(sections, path)
        if not _is_of_type(value, hint):
            raise ValueError(f"{path} = {value!r}: expected {_describe(hint)}")
    return _replace(config, sections, values)


def field_value(config: Any, path: str) -> Any:
    """The value of a field such as `train.steps`, None where the model's family has no such field."""
    for name in path.split("."):
        config = getattr(config, name, None)
    return config


def split_override(override: str) -> tuple[str, str]:
    """Field and text of `a.b=value`."""
    path, separator, text = override.partition("=")
    if not separator:
        raise ValueError(f"override {override!r} has no '='; write it as train.steps=500")
    return path.strip(), text.strip()


def parse_field(config: RunConfig, path: str, text: str) -> Any:
    """The value that `text` is for the field `path`. ValueError for an unknown field, or a value of a wrong type."""
    if path == MODEL_SIZE:
        return model_of_size(text, config.model).size
    sections = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return _parse(text, _hint(sections, path), path)


def from_json(kind: type, value: Any, where: str = "config") -> Any:
    """The dataclass `kind` from what `config.to_json` wrote, by this version or an earlier one.

    ValueError names an unknown field or a value of the wrong type.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be an object, not {value!r}")
    if kind in MODEL_CONFIGS:
        kind = model_config_of(value.get("size"))
    hints = _hints(kind)
    retired = {name for name, only in _RETIRED.get(kind, {}).items() if value.get(name) == only}
    unknown = sorted(value.keys() - hints.keys() - retired)
    if unknown:
        raise ValueError(f"{where}.{unknown[0]} is not a field; the fields are {', '.join(hints)}")
    loaded = {}
    for name, item in value.items():
        if name in retired:
            continue
        section = next((option for option in _options(hints[name]) if dataclasses.is_dataclass(option)), None)
        if section and not (item is None and type(None) in _options(hints[name])):
            loaded[name] = from_json(section, item, f"{where}.{name}")
        else:
            loaded[name] = tuple(item) if isinstance(item, list) else item
            if not _is_of_type(loaded[name], hints[name]):
                raise ValueError(f"{where}.{name} = {item!r}: expected {_describe(hints[name])}")
    missing = [f.name for f in dataclasses.fields(kind) if f.name not in loaded and _has_no_default(f)]
    if missing:
        raise ValueError(f"{where}.{missing[0]} is missing")
    return kind(**loaded)


def _has_no_default(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _replace(config: RunConfig, sections: Mapping[str, Any], values: Mapping[str, Any]) -> RunConfig:
    """`sections` of `config`, each with its values replaced, and checked once all of them are."""
    nested: dict[str, Any] = {}
    for path, value in values.items():
        *parents, name = path.split(".")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = value
    changed = {name: _with(sections[name], change) for name, change in nested.items()}
    return dataclasses.replace(config, **changed)


def _with(node: Any, change: Any) -> Any:
    if not isinstance(change, dict):
        return change
    return dataclasses.replace(node, **{name: _with(getattr(node, name), inner) for name, inner in change.items()})


def _hint(sections: Mapping[str, Any], path: str) -> Any:
    """The type of the field `path`. ValueError for one that there is not, or a group of fields."""
    first, *rest = path.split(".")
    if first not in sections:
        raise ValueError(f"unknown field {first!r} in {path!r}; the fields here are {', '.join(sections)}")
    node, hint = sections[first], _hints(RunConfig)[first]
    for name in rest:
        if not dataclasses.is_dataclass(node) or name not in _hints(type(node)):
            raise ValueError(f"unknown field {name!r} in {path!r}; {_fields_here(node, name)}")
        node, hint = getattr(node, name), _hints(type(node))[name]
    if dataclasses.is_dataclass(node):
        raise ValueError(f"override {path!r} names a group of fields: {', '.join(_hints(type(node)))}")
    return hint


def _fields_here(node: Any, name: str) -> str:
    """What could have been meant, where there is no field `name`."""
    if not dataclasses.is_dataclass(node):
        return "the fields here are none: it is a value"
    legal = f"the fields here are {', '.join(_hints(type(node)))}{did_you_mean(name, _hints(type(node)))}"
    others = [kind for kind in MODEL_CONFIGS if type(node) in MODEL_CONFIGS and name in _hints(kind)]
    sizes = [size for kind in others for size in kind.SIZES]
    return f"{legal} ({name} belongs to models of size {', '.join(sizes)})" if sizes else legal


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    """The types of a dataclass's fields."""
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


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
            return tuple(_parse(word, typing.get_args(option)[0], path) for word in _words(text, path))
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


def _words(text: str, path: str) -> Sequence[str]:
    """The items of a list: with commas between, or in JSON where an item holds a comma."""
    if not text.startswith("["):
        return [word.strip() for word in text.split(",") if word.strip()]
    try:
        return [item if isinstance(item, str) else json.dumps(item) for item in json.loads(text)]
    except ValueError as error:
        raise ValueError(f'{path} = {text!r} is not a JSON list ({error}); write it as ["a, b", "c"]') from error


def _is_of_type(value: Any, hint: Any) -> bool:
    for option in _options(hint):
        if typing.get_origin(option) is Literal:
            if value in typing.get_args(option):
                return True
        elif typing.get_origin(option) is tuple:
            if isinstance(value, tuple) and all(_is_of_type(item, typing.get_args(option)[0]) for item in value):
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
    items = {str: "names", int: "whole numbers", float: "numbers"}
    parts = []
    for option in _options(hint):
        if typing.get_origin(option) is Literal:
            parts.append("one of " + ", ".join(map(str, typing.get_args(option))))
        elif typing.get_origin(option) is tuple:
            parts.append(f"{items[typing.get_args(option)[0]]} separated by commas")
        elif dataclasses.is_dataclass(option):
            parts.append(f"a section with the fields {', '.join(item.name for item in dataclasses.fields(option))}")
        else:
            parts.append(words[option])
    return " or ".join(parts)
