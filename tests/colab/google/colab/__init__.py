"""A stand-in of Colab's module for a notebook that is executed: FAKE_COLAB is `works`, `raises` or `errno107`.

Drive is a folder below FAKE_CONTENT. Under `errno107` it mounts, and then takes no file that a run delivers.
"""

import errno
import os
import shutil
import types
from pathlib import Path

from helpers.notebook import setup

setup.CONTENT = Path(os.environ["FAKE_CONTENT"])
_copyfile = shutil.copyfile


def _mount(place: str) -> None:
    if os.environ["FAKE_COLAB"] == "raises":
        raise ValueError("mount failed")
    (Path(place) / "MyDrive").mkdir(parents=True, exist_ok=True)
    if os.environ["FAKE_COLAB"] == "errno107":
        shutil.copyfile = _disconnected


def _disconnected(source: Path, target: Path) -> Path:
    if setup.CONTENT / "drive" in Path(target).parents:
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN), str(target))
    return _copyfile(source, target)


drive = types.SimpleNamespace(mount=_mount)
