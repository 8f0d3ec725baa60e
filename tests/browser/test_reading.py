"""What is read rather than run: the analysis with its figures, and the report without any network."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from helpers.repository import ROOT
from helpers.storage import Storage
from helpers.studies.ergodic.analyse import analyse
from tests.browser.conftest import Keep, Open
from tests.browser.front_ends import FrontEnd
from tests.browser.notebook_page import WIDTH, WIDTHS, is_foreign
from tests.simulated_results import simulate_baselines, simulate_grid

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """The results of a whole grid."""
    storage = Storage.at(tmp_path / "storage")
    simulate_grid(storage)
    simulate_baselines(storage)
    return storage


def test_analysis_shows_its_figures(open_page: Open, front_end: FrontEnd, storage: Storage, keep: Keep):
    page = open_page(front_end, ROOT / "analysis.ipynb", STORAGE=str(storage.root))
    page.run_all()
    widths = page.picture_widths()
    assert len(widths) >= 4 and all(width > 0 for width in widths.values()), widths
    page.cell(max(widths, key=widths.get).split()[0])
    keep(page, "widest-figure")
    assert page.complaints == []
    assert page.foreign == []


def test_report_needs_no_network(browser: "Browser", storage: Storage, screenshots: Path):
    report = next(path for path in analyse(storage) if path.name == "report.html")
    asked, complaints = [], []
    context = browser.new_context(offline=True, viewport={"width": WIDTH, "height": 1000})
    page = context.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.on("requestfailed", lambda request: complaints.append(request.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
    page.goto(report.as_uri())
    widths = page.locator("img").evaluate_all(WIDTHS)
    page.screenshot(path=screenshots / "report.png", full_page=True)
    context.close()
    assert len(widths) >= 4 and all(width > 0 for width in widths)
    assert [address for address in asked if is_foreign(address)] == []
    assert complaints == []


def test_report_has_no_serious_findings_of_an_accessibility_checker(browser: "Browser", storage: Storage):
    checker = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe: `make test-browser` has it")
    report = next(path for path in analyse(storage) if path.name == "report.html")
    for scheme in ("light", "dark"):
        context = browser.new_context(offline=True, color_scheme=scheme, bypass_csp=True)
        page = context.new_page()
        page.goto(report.as_uri())
        found = checker.Axe().run(page).response
        context.close()
        serious = [one for one in found["violations"] if one["impact"] in ("serious", "critical")]
        assert [(one["id"], one["nodes"][0]["html"]) for one in serious] == [], scheme
        assert {"color-contrast", "image-alt", "scrollable-region-focusable"} <= {one["id"] for one in found["passes"]}


def test_report_begins_with_its_answer_on_a_phone_too(browser: "Browser", storage: Storage, screenshots: Path):
    report = next(path for path in analyse(storage) if path.name == "report.html")
    for name, width in (("desktop", WIDTH), ("phone", 390)):
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.goto(report.as_uri())
        page.screenshot(path=screenshots / f"report-{name}.png")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("#answer .opening p").first.bounding_box()["y"] < 900
        picture = page.locator("#answer img").bounding_box()
        assert picture["x"] + picture["width"] <= width and picture["width"] > 0.8 * min(width, 660)
        page.close()
