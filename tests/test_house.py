"""The plan of the house, over the syntax trees: which room may import which, and that no study is known below."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.repository import ROOT
from helpers.studies import STUDIES

PACKAGE = ROOT / "helpers"
FLOORS = (
    ("ground",), ("data",), ("models",), ("runs",), ("evaluation", "analysis"), ("training",), ("grid",),
    ("studies.preset",), ("studies.study",), tuple(f"studies.{study.name}" for study in STUDIES), ("studies",),
    ("notebook", "__main__"),
)  # fmt: skip
"""From below: a room imports from its own and from lower floors; rooms of one floor do not know each other."""


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path) for path in modules()}


def imported(tree: ast.AST) -> Iterator[str]:
    """The modules of the package that are imported anywhere in a tree."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("helpers"):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in NAMES else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("helpers"))


def room_of(module: str) -> str:
    parts = module.removeprefix("helpers").removeprefix(".").split(".")
    if parts[0] == "studies":
        room = ".".join(parts[:2])
        return room if any(room in floor for floor in FLOORS) else "studies"
    return parts[0] if any(parts[0] in floor for floor in FLOORS) else "ground"


def floor_of(room: str) -> int:
    return next(number for number, floor in enumerate(FLOORS) if room in floor)


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_run_one_way(path):
    own = room_of(name_of(path))
    for module in imported(ast.parse(path.read_text(encoding="utf-8"))):
        other = room_of(module)
        assert other == own or floor_of(other) < floor_of(own), f"{own} may not import {module}"


def test_no_module_is_in_a_circle():
    """Imports at the head of modules; those within functions are there because they load a library that takes
    seconds."""
    heads = {}
    for path in modules():
        body = ast.Module(body=ast.parse(path.read_text(encoding="utf-8")).body, type_ignores=[])
        body.body = [node for node in body.body if isinstance(node, ast.Import | ast.ImportFrom)]
        heads[name_of(path)] = set(imported(body))
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join((*way, module))
        if module not in done:
            for other in heads.get(module, ()):
                visit(other, (*way, module))
            done.add(module)

    for module in heads:
        visit(module, ())


def test_the_package_needs_neither_tests_nor_benchmarks():
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not any(name.split(".")[0] in ("tests", "benchmarks") for name in names), path
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert "benchmarks/" not in node.value and "tests/" not in node.value, path


def test_the_study_of_a_run_has_no_default():
    """Nothing below the studies knows one by its name."""
    config = ast.parse((PACKAGE / "config.py").read_text(encoding="utf-8"))
    names = {study.name for study in STUDIES} - {"activation"}  # which is a setting of a model too
    found = [node.value for node in ast.walk(config) if isinstance(node, ast.Constant) and node.value in names]
    assert found == []
