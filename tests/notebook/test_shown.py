"""What a notebook shows of an analysis: headings below its own, words for pictures, a link, words without widgets."""

import base64

import ipywidgets
import pytest
from matplotlib.figure import Figure

from helpers.notebook.shown import below_a_heading, report_link, show_answer, show_files
from helpers.notebook.widgets import INSTALL, picture_html, show_widget
from helpers.repository import ROOT
from tests.simulated_results import simulate_baselines, simulate_grid


@pytest.fixture
def displayed(monkeypatch):
    """(object or bundle, keywords) of every display."""
    calls = []
    monkeypatch.setattr("IPython.display.display", lambda shown, **keywords: calls.append((shown, keywords)))
    return calls


def test_the_answer_is_shown_with_its_figure_and_the_report(storage, displayed, capsys):
    simulate_grid(storage, ks=(1, 2), seeds=(0,))
    simulate_baselines(storage)
    made = show_answer("ergodic", storage)
    assert capsys.readouterr().out == "reading the results ...\n"  # at once, for the analysis takes seconds
    (words, _), (picture, keywords), (link, _) = displayed
    assert "At equal training tokens" in words.data and "python -m helpers grid" in words.data
    assert base64.b64decode(picture["image/png"]).startswith(b"\x89PNG")
    assert keywords["metadata"]["image/png"]["alt"] == picture["text/plain"] != ""
    assert "report.html" in link.data and 'href="' in link.data
    displayed.clear()
    show_files(made, "table_1", "no_such_name")
    ((table, _),) = displayed
    assert table.data.startswith("### Table 1")


def test_headings_of_a_file_stand_below_those_of_the_notebook():
    assert below_a_heading("# Title\n\n## Part\n\ntext # 1") == "### Title\n\n#### Part\n\ntext # 1"


def test_a_picture_has_words_that_are_no_markup():
    assert picture_html(b"", 'a "b" <c>').startswith('<img alt="a &quot;b&quot; &lt;c&gt;"')


def test_a_link_leads_from_the_notebooks_own_folder():
    assert 'href="../outputs/report.html"' in report_link(ROOT / "outputs/report.html", ROOT / "studies/one.ipynb")


def test_a_page_without_widgets_shows_the_words_and_what_to_install(displayed):
    show_widget(ipywidgets.HTML("hidden"), "K  status\n1  <missing>")
    (bundle, _), _ = displayed
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert INSTALL in bundle["text/html"] and "1  &lt;missing&gt;" in bundle["text/html"]


def test_figures_of_several_panels_are_shown_broad(tmp_path, displayed):
    for name, size in (("one", (7, 5)), ("two", (12, 5))):
        Figure(figsize=size).savefig(tmp_path / f"{name}.png", dpi=200)
    show_files([tmp_path / "one.png", tmp_path / "two.png"], "one", "two")
    widths = [int.from_bytes(base64.b64decode(shown["image/png"])[16:20], "big") for shown, _ in displayed]
    assert widths == [740, 1100]
