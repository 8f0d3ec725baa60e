"""A notebook that trains, as its reader meets it: run all, pick another run, train it, find it on the board."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest

from helpers.repository import ROOT
from tests.browser.conftest import Keep, Open
from tests.browser.front_ends import CLASSIC, FRONT_ENDS, FrontEnd
from tests.browser.notebook_page import NotebookPage
from tests.data.test_stories import END, made_up

if TYPE_CHECKING:
    from playwright.sync_api import Locator

pytestmark = pytest.mark.browser

FIRST, NEXT = ("k", "samples", "window_tokens", "size"), ("k", "samples", "size", "seed")
"""The dropdowns of which the first that a study has makes another run of its preset, and then one more: the smoke
preset of the length study has two windows and two seeds."""


def trains(notebook: Path) -> bool:
    return any(cell.id == "train-code" for cell in nbformat.read(notebook, as_version=4).cells)


# The studies share the widgets of the main notebook: the front end that is nearest to Colab's is enough for them.
CASES = [
    *itertools.product(FRONT_ENDS, filter(trains, sorted(ROOT.glob("*.ipynb")))),
    *itertools.product([CLASSIC], filter(trains, sorted(ROOT.glob("studies/*.ipynb")))),
]


def settings(notebook: Path, folder: Path) -> dict[str, object]:
    """Runs that need no download, and last long enough for a panel to move that refreshes every two seconds."""
    common = {"PRESET": "smoke", "STORAGE": str(folder / "storage")}
    match notebook.stem:
        case "ergodic_scaling":
            return common | {"OVERRIDES": "train.steps=300"}
        case "activation_scaling":
            stories = folder / "stories.txt"
            stories.write_text(f"\n{END}\n".join(made_up(2000)), encoding="utf-8")
            source = {"SOURCE": str(stories), "TOKENIZER": "train:300"}
            return common | source | {"OVERRIDES": "train.tokens=300000", "RUN_GRID": False}
        case "length_generalization":
            return common | {"OVERRIDES": "train.steps=300 execution.log_every_steps=10", "RUN_GRID": False}
        case "sample_scaling":
            return common | {"SAMPLES": 10, "OVERRIDES": "train.epochs=60 passes.patience=60", "RUN_GRID": False}
        case name:
            raise KeyError(f"studies/{name}.ipynb is not known here: say how its runs are made short")


@pytest.mark.parametrize(
    ("front_end", "notebook"),
    CASES,
    indirect=["front_end"],
    ids=[f"{front_end.name}-{notebook.stem}" for front_end, notebook in CASES],
)
def test_pick_train_and_find(open_page: Open, front_end: FrontEnd, notebook: Path, tmp_path: Path, keep: Keep):
    page = open_page(front_end, notebook, **settings(notebook, tmp_path))

    page.run_all()
    step, num_steps = last_panel(page.cell("train-code"))
    assert step == num_steps > 0
    num_done = count_done(page)

    cell = page.cell("plan-code")
    pick_another_run(page, cell, FIRST)
    keep(page, "1-picked")
    train_by_button(page, cell)
    keep(page, "2-trained-by-button")

    pick_another_run(page, cell, NEXT)
    cell = page.cell("train-code")
    watch_panels(cell)
    page.finish("train-code", page.start("train-code"))
    assert_moved(cell)
    keep(page, "3-trained-by-cell")

    find_on_the_board(page, num_done + 2)
    keep(page, "4-board")
    assert all(width > 0 for width in page.picture_widths().values()), page.picture_widths()
    assert page.complaints == []
    assert page.foreign == []


def pick_another_run(page: NotebookPage, cell: "Locator", names: Sequence[str]) -> None:
    """Choose the next value of what the study varies first, so another run, and wait for its measured plan."""
    before = cell.locator(".picker-plan").inner_text()
    select = cell.locator(", ".join(f".picker-{name} select" for name in names)).first
    values = select.locator("option").evaluate_all("options => options.map(option => option.value)")
    select.select_option(values[(values.index(select.input_value()) + 1) % len(values)])
    page.wait(
        """([cell, before]) => {
            const plan = cell.querySelector(".picker-plan").innerText;
            return plan !== before && !plan.includes("measuring");
        }""",
        [cell.element_handle(), before],
    )


def train_by_button(page: NotebookPage, cell: "Locator") -> None:
    """Press the picker's button, and wait until the plan says that the run is done."""
    watch_panels(cell)
    cell.locator(".picker-train").click()
    page.wait(
        """cell => {
            const panel = cell.querySelector(".live-panel")?.dataset;
            return panel && Number(panel.steps) > 0 && panel.step === panel.steps &&
                !cell.querySelector(".picker-train").disabled &&
                /status\\s+done/.test(cell.querySelector(".picker-plan").innerText);
        }""",
        cell.element_handle(),
    )
    assert_moved(cell)


def last_panel(cell: "Locator") -> tuple[int, int]:
    """The step that the last panel of a cell shows, and the steps of its run."""
    panel = cell.locator(".live-panel").last
    return int(panel.get_attribute("data-step")), int(panel.get_attribute("data-steps"))


def watch_panels(cell: "Locator") -> None:
    """From now on note, in `moved`, each step that a panel of this cell shows."""
    cell.evaluate("""cell => {
        cell.moved = [];
        const note = () => {
            const step = [...cell.querySelectorAll(".live-panel")].at(-1)?.dataset.step;
            if (step !== undefined && Number(step) !== cell.moved.at(-1)) cell.moved.push(Number(step));
        };
        new MutationObserver(note).observe(cell, {subtree: true, childList: true, attributes: true});
    }""")


def assert_moved(cell: "Locator") -> None:
    """The panel has shown the run on its way, only forwards, and at its end."""
    moved, (step, num_steps) = cell.evaluate("cell => cell.moved"), last_panel(cell)
    on_the_way = [step for step in moved if 0 < step < num_steps]
    assert on_the_way and on_the_way == sorted(on_the_way), moved
    assert step == moved[-1] == num_steps


def count_done(page: NotebookPage) -> int:
    return page.cell("board-code").locator(".board .board-done").count()


def find_on_the_board(page: NotebookPage, num_done: int) -> None:
    """Refresh the board, which then knows all runs that are done; click the last, and wait for its name and figure."""
    board = page.cell("board-code").locator(".board")
    board.locator(".board-refresh").click()
    page.wait(
        "([board, number]) => board.querySelectorAll('.board-done').length === number",
        [board.element_handle(), num_done],
    )
    board.locator(".board-done").last.click()
    page.wait(
        """board => [...board.querySelectorAll("b")].some(
            name => name.closest(".widget-vbox").querySelector("img")?.naturalWidth > 100
        )""",
        board.element_handle(),
    )
    board.locator("b").first.evaluate("name => name.scrollIntoView()")
