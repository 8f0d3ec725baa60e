"""Debian's Chromium, cut off from every other machine."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = "chromium"


@contextmanager
def launch() -> Iterator["Browser"]:
    """A browser without a window, in which only this machine's own names resolve."""
    from playwright.sync_api import sync_playwright

    only_here = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which(CHROMIUM), args=["--no-sandbox", "--disable-gpu", only_here]
        )
        try:
            yield browser
        finally:
            browser.close()
