"""What an analysis wrote, shown in a notebook: the answer first, pictures with words for those who do not see them."""

import base64
import html
import os
import re
from collections.abc import Sequence
from pathlib import Path

from helpers.notebook.run_view import small_png
from helpers.notebook.setup import on_colab
from helpers.repository import ROOT
from helpers.storage import Storage
from helpers.studies import find_study
from helpers.studies.answer import answer_of, headline_of

WIDTH, BROAD = 740, 1100
"""Pixels across of a figure of one panel, and of one of several."""
_PANELS = 1.6
"""Of width to height, from which on a figure has several panels."""


def show_answer(study: str, storage: Storage) -> list[Path]:
    """Analyse the results of a study, and show what they say: words, the figure, the report. The files made.

    ValueError where there is no result yet.
    """
    from IPython.display import HTML, Markdown, display

    found = find_study(study)
    print("reading the results ...", flush=True)
    made = found.analyse(storage)
    picture = headline_of(found, storage)
    display(Markdown(below_a_heading(answer_of(found, storage))))
    if picture:
        show_picture(picture)
    report = next((path for path in made if path.name == "report.html"), None)
    if report:
        display(HTML(report_link(report, ROOT / found.notebook)))
    return made


def show_files(made: Sequence[Path], *names: str) -> None:
    """Show figures and tables among the files made, by their names, those of every condition."""
    from IPython.display import Markdown, display

    for name in names:
        for path in (path for path in made if path.stem == name or path.stem.startswith(f"{name}-")):
            if path.suffix == ".png":
                show_picture(path)
            elif path.suffix == ".md":
                display(Markdown(below_a_heading(path.read_text(encoding="utf-8"))))


def show_picture(path: Path, alt: str = "") -> None:
    """A figure, with words in its place: what `alt` says, else its name and where its numbers are."""
    from IPython.display import display

    words = alt or f"{path.stem.replace('_', ' ')}; the numbers are in fig/{path.stem}.csv"
    data = base64.b64encode(small_png(path, _width(path))).decode("ascii")
    display({"image/png": data, "text/plain": words}, metadata={"image/png": {"alt": words}}, raw=True)


def below_a_heading(text: str) -> str:
    """Markdown of a file as it stands below a section's heading: its own headings are small."""
    return re.sub(r"^(#{1,2}) ", r"##\1 ", text, flags=re.MULTILINE)


def report_link(report: Path, notebook: Path) -> str:
    """A link that the notebook's own page opens; on Colab, which serves no files, the path."""
    if on_colab():
        return f"The report: <code>{html.escape(str(report))}</code> (Files, at the left: Download, and open it)"
    place = os.path.relpath(report, notebook.parent)
    return f'The report: <a href="{html.escape(place)}" target="_blank">{html.escape(place)}</a>'


def _width(path: Path) -> int:
    from PIL import Image

    with Image.open(path) as image:
        return BROAD if image.width > _PANELS * image.height else WIDTH
