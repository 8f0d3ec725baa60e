"""The repository: where it lies, and its public address, which stands in the README, the notebooks and here."""

import re
import subprocess
from pathlib import Path

from helpers.storage import publish_text

REPOSITORY = "OWNER/NAME"
"""The public address on GitHub; `python -m helpers repository` sets it wherever it stands."""
ROOT = Path(__file__).resolve().parents[1]
"""The working directory of the notebooks that a program executes."""
NOTEBOOK_FOLDERS = (ROOT, ROOT / "studies")
"""Where the notebooks of the repository lie. No other is executed: a notebook is a program."""

_NAME = r"[A-Za-z0-9-]+/[A-Za-z0-9._-]+"


def set_repository(name: str = "", root: Path = ROOT) -> list[Path]:
    """Write the address `owner/name` (empty: that of the git remote `origin`) wherever it stands; the changed files.

    ValueError for a name of another form, or without a remote.
    """
    name = name or _remote(root)
    if not re.fullmatch(_NAME, name):
        raise ValueError(f"repository = {name!r} is not of the form owner/name, such as octocat/ergodic-scaling")
    code = root / "helpers/repository.py"
    old = re.search(r'^REPOSITORY = "(.+)"', code.read_text(encoding="utf-8"), re.MULTILINE)[1]
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
    pages = [root / "README.md", *root.glob("studies/*.md")]
    return [path for path in (root / "helpers/repository.py", *pages, *notebooks) if path.exists()]


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
