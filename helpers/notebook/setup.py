"""Where a notebook runs, and where its results go: Drive on Colab, the output folder on Kaggle, a folder elsewhere."""

import os
from collections.abc import Callable
from pathlib import Path

from helpers.environment import quiet_libraries
from helpers.storage import Storage, is_url

CONTENT = Path("/content")
"""Colab's local disk, which ends with the session."""
DRIVE_FOLDER = "MyDrive/ergodic-scaling"
KAGGLE = Path("/kaggle/working")
"""What Kaggle keeps of a session, up to 20 GB, with a saved version."""


def open_storage(
    path: str, *, interactive: bool, must_exist: bool = False, report: Callable[[str], None] = print
) -> Storage:
    """The storage at `path`; empty: a Drive folder on Colab when interactive, the output folder on Kaggle, else the
    local folder `outputs`.

    A Drive that cannot be mounted or written to is reported, with what is used instead. ValueError for a `path` that
    cannot be written to, that lies on a Drive that is not mounted, or, if it must exist, that nothing was trained into.
    """
    quiet_libraries()
    scratch = CONTENT / "scratch"
    if is_url(path) and on_colab() and not must_exist:
        return Storage.at(path, scratch)
    if is_url(path) or not on_colab():
        root = path or (KAGGLE / "outputs" if on_kaggle() else "outputs")
        return Storage.existing(root) if must_exist else Storage.at(root)
    if path:
        _require_mounted(Path(path), interactive)
        if must_exist:
            Storage.existing(path)
        return Storage.at(path, scratch)
    if interactive:
        try:
            _mount_drive()
            return Storage.at(_drive() / DRIVE_FOLDER, scratch)
        except Exception as error:  # Colab documents no error type: a refused dialog, a time-out, a full Drive
            report(f"Drive cannot be used ({error}). Results go to {CONTENT / 'outputs'} instead.")
    return Storage.at(CONTENT / "outputs", scratch)


def survives(storage: Storage) -> str:
    """Whether what is in a storage outlives the session, in words."""
    if storage.store:
        return "in an object store, which stays"
    if on_kaggle() and KAGGLE in storage.root.parents:
        return "Kaggle keeps them when a version is saved: Save Version, or persistence of files in the settings"
    if not on_colab():
        return "on this machine's disk, which stays"
    if _drive() in storage.root.parents:
        return "on Drive, which survives a disconnect"
    return "on Colab's own disk, which does not survive a disconnect"


def on_colab() -> bool:
    try:
        import google.colab  # noqa: F401
    except ImportError:
        return False
    return True


def on_kaggle() -> bool:
    return "KAGGLE_KERNEL_RUN_TYPE" in os.environ


def _drive() -> Path:
    return CONTENT / "drive"


def _mount_drive() -> None:
    from google.colab import drive

    drive.mount(str(_drive()))


def _require_mounted(path: Path, interactive: bool) -> None:
    """A path below an unmounted Drive would be a local folder that ends with the session."""
    if _drive() not in path.parents or (_drive() / "MyDrive").is_dir():
        return
    if not interactive:
        raise ValueError(f"storage = {str(path)!r} lies on a Drive that is not mounted; mount it or use another")
    _mount_drive()
