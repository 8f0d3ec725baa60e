"""What is worth keeping of a storage in one small file, and the ways to take it home."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

from helpers.grid.text import size
from helpers.notebook.setup import on_colab, survives
from helpers.storage import Storage, publish

ARCHIVE = "results.zip"
_FOLDERS = ("results", "predictions", "fig", "tables")
_FILES = ("report.html", "report.md")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can name: equal contents give equal archives


def save_archive(storage: Storage) -> Path:
    """Publish results, figures, tables and report as `results.zip`. ValueError if there is none of them."""
    files = list(_worth_keeping(storage.root))
    if not files:
        raise ValueError(f"{storage.root} holds no result yet, so there is nothing to save; train a run first")

    def write(temporary: Path) -> None:
        with zipfile.ZipFile(temporary, "w") as archive:
            for file in files:
                entry = zipfile.ZipInfo(file.relative_to(storage.root).as_posix(), _EPOCH)
                archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)

    return publish(storage.root / ARCHIVE, write)


def save(storage: Storage, *, interactive: bool) -> str:
    """Make the archive, offer it as a download on Colab, and say in words where everything is."""
    archive = save_archive(storage)
    if interactive and on_colab():
        from google.colab import files

        files.download(str(archive))
    return "\n".join(
        [
            f"results, figures, tables, report: {archive} ({size(archive.stat().st_size)})",
            f"checkpoints and snapshots: {storage.root / 'runs'}",
            f"all of it lies {survives(storage)}",
            *(["by hand: the folder icon at the left, then the file's menu, Download"] if on_colab() else []),
        ]
    )


def _worth_keeping(root: Path) -> Iterator[Path]:
    """The files of the archive by name. What begins with a dot is being written."""
    for folder in _FOLDERS:
        yield from sorted(path for path in (root / folder).glob("*") if path.is_file() and path.name[0] != ".")
    yield from (root / name for name in _FILES if (root / name).is_file())
