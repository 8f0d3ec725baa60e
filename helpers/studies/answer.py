"""What a study's results say, as its analysis wrote it: for the end of a command and of a notebook."""

import os
from collections.abc import Sequence
from pathlib import Path

from helpers.storage import Storage
from helpers.studies.study import Study


def answer_of(study: Study, storage: Storage) -> str:
    """The answer as Markdown; empty where the analysis has not written one."""
    path = storage.table(study.answer) if study.answer else None
    return path.read_text(encoding="utf-8") if path and path.exists() else ""


def headline_of(study: Study, storage: Storage) -> Path | None:
    """The figure that shows the answer, if the runs sufficed for it."""
    path = storage.figure(study.headline) if study.headline else None
    return path if path and path.exists() else None


def made_line(storage: Storage, made: Sequence[Path]) -> str:
    """How many files were written where, and the report by its path."""
    folders = sorted({os.path.relpath(path.parent, storage.root) for path in made} - {"."})
    line = f"{len(made)} files in {storage.address}: {', '.join(f'{folder}/' for folder in folders)}"
    report = [path for path in made if path.name == "report.html"]
    return "\n".join([line, *(f"report: {path}" for path in report)])
