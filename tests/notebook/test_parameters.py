"""Whoever sets a notebook's parameters, one that has another type is named in a sentence."""

import re
import types

import pytest

from helpers.notebook.parameters import check_parameters

TYPES = {"K": int, "LR": float, "SOURCE": str, "RUN_GRID": bool}


def notebook(**values) -> types.ModuleType:
    module = types.ModuleType("a notebook")
    module.__annotations__ = {**TYPES, "frame": int}  # a reader's own name is his
    vars(module).update({"K": 4, "LR": 0.5, "SOURCE": "", "RUN_GRID": False, "frame": "x"} | values)
    return module


def test_parameters_of_their_types_pass():
    check_parameters(notebook())
    check_parameters(notebook(LR=1, K=0, SOURCE="x", RUN_GRID=True))
    check_parameters(types.ModuleType("without annotations"))


WRONG = [
    ("K", "2", "K = '2' is text; set a whole number, such as K = 4"),
    ("K", 2.0, "K = 2.0 is a number with a point; set a whole number, such as K = 4"),
    ("K", True, "K = True is true or false; set a whole number, such as K = 4"),
    ("K", [1, 2], "K = [1, 2] is a list; set a whole number, such as K = 4"),
    ("RUN_GRID", "False", "RUN_GRID = 'False' is text; set RUN_GRID = True or RUN_GRID = False, without quotes"),
    ("RUN_GRID", 0, "RUN_GRID = 0 is a number; set RUN_GRID = True"),
    ("SOURCE", None, 'SOURCE = None is nothing; set text in quotes, such as SOURCE = ""'),
    ("LR", "1e-3", "LR = '1e-3' is text; set a number, such as LR = 0.5"),
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG, ids=[f"{name}={value!r}" for name, value, _ in WRONG])
def test_another_type_is_named_with_a_legal_value(name, value, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        check_parameters(notebook(**{name: value}))


def test_each_wrong_one_has_its_sentence():
    with pytest.raises(ValueError, match=r"K = '2' is text; .* RUN_GRID = 'no' is text"):
        check_parameters(notebook(K="2", RUN_GRID="no"))
