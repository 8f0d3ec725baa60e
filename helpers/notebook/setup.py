"""Where a notebook runs, and where its results go: Drive on Colab, a folder elsewhere."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from helpers.storage import Storage, publish_text

REPOSITORY = "OWNER/NAME"
"""The public address on GitHub; `python -m helpers repository` sets it here, in the README and in every notebook."""

ROOT = Path(__file__).parents[2]
CONTENT = Path("/content")
"""Colab's local disk, which ends with the session."""
DRIVE_FOLDER = "MyDrive/ergodic-scaling"

_NAME = r"[A-Za-z0-9-]+/[A-Za-z0-9._-]+"


def open_storage(path: str, *, interactive: bool, report: Callable[[str], None] = print) -> Storage:
    """The storage at `path`; empty: a Drive folder on Colab when interactive, else the local folder `outputs`.

    A Drive that cannot be mounted or written to is reported, with what is used instead. ValueError for a `path` that
    cannot be written to, or that lies on a Drive that is not mounted.
    """
    quiet_libraries()
    if not on_colab():
        return Storage.at(path or "outputs")
    scratch = CONTENT / "scratch"
    if path:
        _require_mounted(Path(path), interactive)
        return Storage.at(path, scratch)
    if interactive:
        try:
            _mount_drive()
            return Storage.at(_drive() / DRIVE_FOLDER, scratch)
        except Exception as error:  # Colab documents no error type: a refused dialog, a time-out, a full Drive
            report(f"Drive cannot be used ({error}). Results go to {CONTENT / 'outputs'} instead.")
    return Storage.at(CONTENT / "outputs", scratch)


def survives(root: Path) -> str:
    """Whether what is in `root` outlives the session, in words."""
    if not on_colab():
        return "on this machine's disk, which stays"
    if _drive() in root.parents:
        return "on Drive, which survives a disconnect"
    return "on Colab's own disk, which does not survive a disconnect"


def quiet_libraries() -> None:
    """Keep libraries from printing on success; a level that the user has set stays. Call before they are imported."""
    levels = {
        "TRANSFORMERS_VERBOSITY": "error", "DATASETS_VERBOSITY": "error", "ACCELERATE_LOG_LEVEL": "ERROR",
        "TF_CPP_MIN_LOG_LEVEL": "3", "TOKENIZERS_PARALLELISM": "true",
    }  # fmt: skip
    for name, level in levels.items():
        os.environ.setdefault(name, level)


def on_colab() -> bool:
    try:
        import google.colab  # noqa: F401
    except ImportError:
        return False
    return True


def set_repository(name: str = "", root: Path = ROOT) -> list[Path]:
    """Write the address `owner/name` (empty: that of the git remote `origin`) wherever it stands; the changed files.

    ValueError for a name of another form, or without a remote.
    """
    name = name or _remote(root)
    if not re.fullmatch(_NAME, name):
        raise ValueError(f"repository = {name!r} is not of the form owner/name, such as octocat/ergodic-scaling")
    setup = root / "helpers/notebook/setup.py"
    old = re.search(r'^REPOSITORY = "(.+)"', setup.read_text(encoding="utf-8"), re.MULTILINE)[1]
    changed = []
    for path in address_files(root):
        text = path.read_text(encoding="utf-8")
        replaced = replace_address(text, old, name)
        if replaced != text:
            changed.append(publish_text(path, replaced))
    return changed


def address_files(root: Path = ROOT) -> list[Path]:
    """Every file that holds the repository's address."""
    notebooks = [*root.glob("*.ipynb"), *root.glob("studies/*.ipynb")]
    return [path for path in (root / "helpers/notebook/setup.py", root / "README.md", *notebooks) if path.exists()]


def replace_address(text: str, old: str, new: str) -> str:
    """`text` with the repository `old` in GitHub and Colab addresses and in the constant replaced by `new`."""
    before = r"(github\.com/|colab\.research\.google\.com/github/|REPOSITORY = \")"
    return re.sub(rf"{before}{re.escape(old)}(?![\w-])", rf"\g<1>{new}", text)


def _remote(root: Path) -> str:
    command = ["git", "-C", str(root), "remote", "get-url", "origin"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    match = re.search(rf"[:/]({_NAME}?)(\.git)?/?$", found.stdout.strip())
    if not match:
        raise ValueError("no git remote 'origin' names it; give the address: python -m helpers repository OWNER/NAME")
    return match[1]


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
