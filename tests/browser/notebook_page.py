"""A notebook in a browser, driven as its reader drives it: run all, run a cell, look at it."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import nbformat

from helpers.repository import ROOT
from tests.browser.front_ends import FrontEnd
from tests.browser.server import Server, serve

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

START_S, RUN_S = 90, 180
"""Limits, far above what a start and a Run all take on two busy cores."""
WIDTH, HEIGHT = 1400, 1000

BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
"""The only address outside of this machine that a notebook may ask for; here it is answered with an empty picture."""
_EMPTY_PICTURE = "<svg xmlns='http://www.w3.org/2000/svg' width='100' height='20'/>"

WIDTHS = """async pictures => {
    const widths = [];
    for (const picture of pictures) {
        await picture.decode().catch(() => {});
        widths.push(picture.naturalWidth);
    }
    return widths;
}"""
"""The natural width of each picture once it is loaded; 0 if it cannot be."""


class NotebookPage:
    """One open notebook. `complaints` collects what the page or its server reported as an error, `foreign` the
    requests that left this machine."""

    def __init__(self, page: "Page", front_end: FrontEnd, server: Server, path: Path) -> None:
        self.page, self.front_end, self.server, self.path = page, front_end, server, path
        self.cells = nbformat.read(server.folder / path, as_version=4).cells
        self.complaints: list[str] = []
        self.foreign: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(f"{error}\n{error.stack}"))
        page.on("console", self._note_error)
        page.on("response", self._note_refusal)
        page.on("request", self._note_foreign)
        page.route(BADGE, lambda route: route.fulfill(body=_EMPTY_PICTURE, content_type="image/svg+xml"))

    def open(self) -> None:
        """Load the page and wait until its kernel is idle."""
        self.page.goto(f"{self.server.url}/{self.front_end.address.format(path=self.path)}")
        self.wait(f"() => {self.front_end.ready}", limit_s=START_S)

    def wait(self, function: str, argument: object = None, limit_s: float = RUN_S) -> Any:
        """What the JavaScript `function` of `argument` returns, as soon as that is true."""
        return self.page.wait_for_function(function, arg=argument, timeout=1000 * limit_s).json_value()

    def run_all(self) -> None:
        """Run every cell and wait for the last. AssertionError with the traceback if one fails."""
        code = [index for index, cell in enumerate(self.cells) if cell.cell_type == "code"]
        self.page.evaluate(self.front_end.run_all)
        self._wait_until_run(code[-1], None)

    def start(self, cell_id: str) -> int | None:
        """Begin to run a cell; the number of its run before this one."""
        index = self._index(cell_id)
        before = self.page.evaluate(self.front_end.cells)[index]["execution_count"]
        self.page.evaluate(self.front_end.run_cell, index)
        return before

    def finish(self, cell_id: str, before: int | None) -> None:
        """Wait for the end of a cell that `start` began. AssertionError with the traceback if it fails."""
        self._wait_until_run(self._index(cell_id), before)

    def cell(self, cell_id: str) -> "Locator":
        """Scroll to a cell: a front end may leave out what nobody sees."""
        index = self._index(cell_id)
        self.page.evaluate(self.front_end.show_cell, index)
        cell = self.page.locator(self.front_end.cell.format(index=index, nth=index + 1))
        cell.wait_for(timeout=1000 * START_S)
        return cell

    def picture_widths(self) -> dict[str, int]:
        """The pixels across each picture of the notebook, by its cell and place; 0 if it could not be loaded."""
        widths = {}
        for cell in self.cells:
            pictures = self.cell(cell.id).locator("img")
            found = pictures.evaluate_all(WIDTHS)
            widths |= {f"{cell.id} {place}": width for place, width in enumerate(found)}
        return widths

    def _index(self, cell_id: str) -> int:
        return [cell.id for cell in self.cells].index(cell_id)

    def _wait_until_run(self, index: int, before: int | None) -> None:
        errors = self.wait(
            f"""([index, before]) => {{
                const cells = {self.front_end.cells};
                const errors = cells.flatMap(cell => cell.outputs ?? []).filter(one => one.output_type === "error");
                const count = cells[index].execution_count;
                return (errors.length || (count !== null && count !== before)) && JSON.stringify(errors);
            }}""",
            [index, before],
        )
        tracebacks = ["\n".join(error["traceback"]) for error in json.loads(errors)]
        assert not tracebacks, "\n".join(tracebacks)

    def _note_error(self, message: Any) -> None:
        if message.type == "error" and not any(words in message.text for words in self.front_end.own_errors):
            self.complaints.append(message.text)

    def _note_refusal(self, response: Any) -> None:
        if response.status >= 400:
            self.complaints.append(f"{response.status} {response.url}")

    def _note_foreign(self, request: Any) -> None:
        if is_foreign(request.url) and request.url != BADGE:
            self.foreign.append(request.url)


def is_foreign(address: str) -> bool:
    """Whether a request for it leaves this machine."""
    parts = urlsplit(address)
    return parts.scheme not in ("data", "blob", "file", "about") and parts.hostname != "127.0.0.1"


@contextmanager
def open_notebook(
    browser: "Browser", front_end: FrontEnd, notebook: Path, folder: Path, parameters: dict[str, object]
) -> Iterator[NotebookPage]:
    """A copy of one of the repository's notebooks in `folder`, with other `parameters`: its server, and a page that
    is not loaded yet."""
    copy_notebook(notebook, folder / "repository", parameters)
    with serve(front_end, folder / "repository", folder / "server") as server:
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        try:
            yield NotebookPage(page, front_end, server, notebook.relative_to(ROOT))
        finally:
            page.close()


def copy_notebook(notebook: Path, folder: Path, parameters: dict[str, object]) -> None:
    """Copy a notebook and the pictures that it shows, with `parameters` in its parameters cell."""
    shutil.copytree(ROOT / "fig", folder / "fig")
    (folder / "helpers").symlink_to(ROOT / "helpers")
    content = nbformat.read(notebook, as_version=4)
    (cell,) = [cell for cell in content.cells if "parameters" in cell.metadata.get("tags", [])]
    for name, value in parameters.items():
        line = re.compile(rf"^({name}: \w+ =) .*?(  # .*)?$", re.MULTILINE)
        assert line.search(cell.source), f"{notebook.name} has no parameter {name}"
        cell.source = line.sub(lambda match, value=value: f"{match[1]} {value!r}{match[2] or ''}", cell.source)
    copy = folder / notebook.relative_to(ROOT)
    copy.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(content, copy)
