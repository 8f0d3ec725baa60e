"""The two environments are what they claim to be."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.repository import ROOT
from tests.browser.front_ends import COLAB_PYTHON

pytestmark = pytest.mark.browser


def test_colab_pins_win_over_the_packages_of_the_project():
    if not COLAB_PYTHON.exists():  # Colab's pins, in an environment of their own that only make builds
        pytest.skip(f"no {COLAB_PYTHON.relative_to(ROOT)}: `make test-browser` installs it")
    lines = (ROOT / "tests/browser/colab.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    code = f"import json, importlib.metadata as m; print(json.dumps({{name: m.version(name) for name in {[*pins]}}}))"
    found = subprocess.run([COLAB_PYTHON, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(found.stdout) == pins
    where = subprocess.run(
        [COLAB_PYTHON, "-c", "import torch; print(torch.__file__)"], capture_output=True, text=True, check=True
    )
    assert Path(where.stdout).resolve().is_relative_to(Path(sys.prefix).resolve())
