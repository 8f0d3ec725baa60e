"""A stand-in of google.colab in the test's own process; the package below it is one for a kernel."""

import sys
import types
from pathlib import Path

import pytest

from helpers.notebook import setup

FOLDER = Path(__file__).parent
"""To be put on the path of a kernel."""


def install(monkeypatch: pytest.MonkeyPatch, content: Path) -> types.SimpleNamespace:
    """Make this process look like Colab with its disk at `content`. What is returned lists the `mounts` and
    `downloads`; its `fails` is what mounting raises."""
    fake = types.SimpleNamespace(mounts=[], downloads=[], fails=None)

    def mount(place: str) -> None:
        fake.mounts.append(place)
        if fake.fails:
            raise fake.fails
        (content / "drive/MyDrive").mkdir(parents=True, exist_ok=True)

    module = types.ModuleType("google.colab")
    module.drive = types.SimpleNamespace(mount=mount)
    module.files = types.SimpleNamespace(download=fake.downloads.append)
    google = types.ModuleType("google")
    google.colab = module
    monkeypatch.setitem(sys.modules, "google", google)
    monkeypatch.setitem(sys.modules, "google.colab", module)
    monkeypatch.setattr(setup, "CONTENT", content)
    return fake
