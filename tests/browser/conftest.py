"""A browser, notebooks open in it, and pictures of what it showed."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from helpers.analysis.figures import STYLE
from helpers.repository import ROOT
from tests.browser.chromium import CHROMIUM, launch
from tests.browser.front_ends import FRONT_ENDS, FrontEnd
from tests.browser.notebook_page import NotebookPage, open_notebook

if TYPE_CHECKING:
    from playwright.sync_api import Browser

Open = Callable[..., NotebookPage]
"""(front_end, notebook, **parameters): a copy of the notebook, open and ready to run."""

Keep = Callable[[NotebookPage, str], None]
"""(page, name): keep a picture of what the page shows."""

OPENED: pytest.StashKey[list[NotebookPage]] = pytest.StashKey()
LOG_LINES = 60


@pytest.fixture(autouse=True)
def figures_of_full_size(monkeypatch):
    """As a reader gets them; other tests draw them small."""
    monkeypatch.setitem(STYLE, "savefig.dpi", 200)


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Not for the whole session: while Playwright runs, no other test could use asyncio."""
    pytest.importorskip("playwright", reason="no Playwright here: `make test-browser` installs it")
    if not shutil.which(CHROMIUM):  # a package of the system, which pip cannot install: all other tests do without
        pytest.skip(f"no {CHROMIUM} on this machine: install Debian's package chromium")
    with launch() as browser:
        yield browser


@pytest.fixture(params=FRONT_ENDS, ids=lambda front_end: front_end.name)
def front_end(request: pytest.FixtureRequest) -> FrontEnd:
    if not request.param.python.exists():  # an environment of its own, which make builds
        pytest.skip(f"no {request.param.python.relative_to(ROOT)}: `make test-browser` installs it")
    return request.param


@pytest.fixture
def screenshots() -> Path:
    """The folder of the pictures: `$SCREENSHOTS`, or build/screenshots."""
    folder = Path(os.environ.get("SCREENSHOTS") or ROOT / "build/screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def keep(screenshots: Path) -> Keep:
    def keep_one(page: NotebookPage, name: str) -> None:
        page.page.screenshot(path=screenshots / f"{page.path.stem}-{page.front_end.name}-{name}.png")

    return keep_one


@pytest.fixture
def open_page(request: pytest.FixtureRequest, browser: "Browser", tmp_path: Path, screenshots: Path) -> Iterator[Open]:
    request.node.stash[OPENED] = opened = []
    with ExitStack() as stack:

        def open_one(front_end: FrontEnd, notebook: Path, **parameters: object) -> NotebookPage:
            folder = tmp_path / f"{front_end.name}-{len(opened)}"
            page = stack.enter_context(open_notebook(browser, front_end, notebook, folder, parameters))
            opened.append(page)
            page.open()
            return page

        yield open_one


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    """A test that fails shows the page as it then was, and what its server and kernel said."""
    report = yield
    if report.failed:
        for page in item.stash.get(OPENED, []):
            log = page.server.log.read_text(encoding="utf-8", errors="replace").splitlines()
            report.sections += [
                ("the page", _photograph(page, item.funcargs["screenshots"])),
                ("what the page complained of", "\n".join(page.complaints)),
                ("the server's log", "\n".join(log[-LOG_LINES:])),
            ]
    return report


def _photograph(page: NotebookPage, folder: Path) -> str:
    """The path of a picture of the page, or why there is none: what failed the test may have ended the page too."""
    from playwright.sync_api import Error

    path = folder / f"failed-{page.path.stem}-{page.front_end.name}.png"
    try:
        page.page.screenshot(path=path)
    except Error as error:
        return f"no picture: {error}"
    return str(path)
