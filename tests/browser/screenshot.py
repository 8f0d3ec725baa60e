"""Make fig/notebook.png, the picture in the README: the picker, its plan, and a run half-way (`make screenshot`)."""

import io
import tempfile
from pathlib import Path

from PIL import Image

from helpers.repository import ROOT
from tests.browser.chromium import launch
from tests.browser.front_ends import LAB
from tests.browser.notebook_page import WIDTH, NotebookPage, open_notebook

PICTURE = ROOT / "fig/notebook.png"
COLOURS = 256
HEIGHT, MARGIN = 1600, 12
"""Pixels: room for all of it on one screen, and what is left below it."""


def main() -> None:
    with launch() as browser, tempfile.TemporaryDirectory(prefix="ergodic-") as folder:
        settings = {"PRESET": "demo", "STORAGE": f"{folder}/outputs"}
        with open_notebook(browser, LAB, ROOT / "ergodic_scaling.ipynb", Path(folder), settings) as page:
            page.open()
            picture = photograph(page)
    Image.open(io.BytesIO(picture)).convert("RGB").quantize(COLOURS).save(PICTURE, optimize=True)
    print(f"{PICTURE}: {PICTURE.stat().st_size / 1000:.0f} kB")


def photograph(page: NotebookPage) -> bytes:
    """The plan and the picker as PNG, when the run that its button began is half done."""
    page.page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    code = [cell.id for cell in page.cells if cell.cell_type == "code"]
    for cell_id in code[: code.index("plan-code") + 1]:
        page.finish(cell_id, page.start(cell_id))
    cell = page.cell("plan-code")
    page.wait("cell => !cell.querySelector('.picker-plan').innerText.includes('measuring')", cell.element_handle())
    cell.locator(".picker-train").click()
    page.wait(
        """cell => {
            const panel = cell.querySelector(".live-panel")?.dataset;
            return panel && Number(panel.step) > 0 && 2 * Number(panel.step) >= Number(panel.steps);
        }""",
        cell.element_handle(),
    )
    top, bottom = page.cell("plan").bounding_box(), cell.bounding_box()
    height = bottom["y"] + bottom["height"] - top["y"]
    return page.page.screenshot(clip=top | {"height": height + MARGIN})


if __name__ == "__main__":
    main()
