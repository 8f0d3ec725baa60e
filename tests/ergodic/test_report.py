"""The report and the LaTeX tables: well formed, self-contained, escaped, and no stronger than the intervals."""

import base64
import json
import math
import re
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from helpers.analysis import latex
from helpers.analysis.estimates import Equivalence, Estimate
from helpers.analysis.report_blocks import Code, Heading, Opening, Points, Section, Text, to_html, to_markdown
from helpers.storage import Storage, publish_bytes, publish_text
from helpers.studies.ergodic import tables
from helpers.studies.ergodic.analyse import analyse
from helpers.studies.ergodic.dataset.dataset import Description
from helpers.studies.ergodic.report import methods as report_methods
from helpers.studies.ergodic.report import words
from helpers.studies.ergodic.report.design import missing_baselines
from helpers.studies.ergodic.report.report import data
from helpers.studies.ergodic.results import load_results
from helpers.studies.ergodic.tables import report_table
from tests.ergodic.test_analysis import rewrite_run_line
from tests.simulated_results import (
    COMPONENTS,
    flat_curves,
    run_config,
    simulate_baselines,
    simulate_grid,
    write_run,
)

HOSTILE = "<script>alert(1)</script>"
HOSTILE_SOURCE = 'papers/"><img src=x onerror=alert(1)>&amp;'


def report_of(storage):
    """The parsed report of an analysis, and its text."""
    analyse(storage)
    return parsed(storage)


def parsed(storage):
    """The report in a storage and its text; ElementTree takes well-formed documents only."""
    source = (storage.root / "report.html").read_text(encoding="utf-8")
    document = ET.fromstring(source)
    return document, " ".join("".join(document.itertext()).split())


@pytest.fixture(scope="module")
def full_storage(tmp_path_factory):
    """Everything that a report can show but sizes: K = 1, 2, 4 at two seeds, baselines, control, both allocations."""
    storage = Storage.at(tmp_path_factory.mktemp("full"))
    simulate_grid(storage, ks=(1, 2, 4), seeds=(0, 1))
    simulate_baselines(storage, seeds=(0, 1))
    simulate_grid(storage, ks=(1, 2, 4), seeds=(0, 1), shuffle_labels=True)
    simulate_grid(storage, ks=(1, 2), seeds=(0,), allocation="constant_unique")
    return storage


@pytest.fixture(scope="module")
def full_report(full_storage):
    """The files made, the parsed report, and its text."""
    made = analyse(full_storage)
    return made, *parsed(full_storage)


# The document


def test_the_report_is_one_well_formed_file_that_needs_nothing_else(full_report):
    _, document, _ = full_report
    tags = [element.tag for element in document.iter()]
    assert not {"script", "link", "iframe", "object", "base"} & set(tags)
    addresses = [
        value
        for element in document.iter()
        for name, value in element.items()
        if name in ("src", "href", "srcset", "data", "action", "poster")
    ]
    assert addresses and all(value.startswith(("#", "data:image/png;base64,")) for value in addresses)
    (style,) = [element.text for element in document.iter("style")]
    assert "@import" not in style and "url(" not in style and "http" not in style
    policy = document.find(".//meta[@http-equiv='Content-Security-Policy']").get("content")
    assert "default-src 'none'" in policy and "script-src" not in policy


def test_every_link_has_its_place_and_every_section_is_there(full_report):
    _, document, _ = full_report
    targets = [link.get("href")[1:] for link in document.iter("a")]
    assert targets == [section.get("id") for section in document.iter("section")]
    headings = [heading.text for heading in document.iter("h2")]
    assert headings == [
        "Answer", "Results", "Controls", "Design", "Data", "What the design could not have seen", "Methods",
        "Provenance",
    ]  # fmt: skip


def test_the_figures_are_those_of_the_storage(full_storage, full_report):
    _, document, _ = full_report
    embedded = [base64.b64decode(image.get("src").partition(",")[2]) for image in document.iter("img")]
    names = ("matched", "xe_vs_K", "dxe_vs_K", "in_context", "decomposition", "components")
    assert embedded[: len(names)] == [full_storage.figure(f"{name}.png").read_bytes() for name in names]
    assert all(png.startswith(b"\x89PNG") for png in embedded)
    words = [image.get("alt") for image in document.iter("img")]
    assert words[0].startswith("Matched ΔXE is ") and "the bound rises to 0.0140" in words[0]
    assert all(f"fig/{name}.csv" in alt for name, alt in zip(names[1:], words[1:], strict=False))


def test_analyse_returns_every_file_that_it_makes(full_storage, full_report):
    made, _, _ = full_report
    there = [*(full_storage.root / "fig").iterdir(), *(full_storage.root / "tables").iterdir()]
    there += [full_storage.root / "report.html", full_storage.root / "report.md"]
    assert sorted(made) == sorted(there)


def test_names_from_data_are_text_and_never_markup(storage):
    names = (HOSTILE, "b & c")
    config = run_config(2, 0, source=HOSTILE_SOURCE, components=names)
    write_run(storage, config, flat_curves(dict.fromkeys(names, 2.0)))
    rewrite_run_line(
        write_run(storage, run_config(1, 0, source=HOSTILE_SOURCE, components=(HOSTILE,)), flat_curves({HOSTILE: 1.9})),
        provenance={"device": "<b>cpu", "precision": "fp32", "git_revision": "<i>", "packages": {"<u>": "1"}},
    )
    (storage.results() / "<img src=x>.jsonl").write_text("{}")
    document, text = report_of(storage)
    assert not {"script", "b", "i", "u"} & {element.tag for element in document.iter()}
    assert all(image.get("src").startswith("data:") for image in document.iter("img"))
    for name in (HOSTILE, "b & c", "<b>cpu", "<i>", "<u> 1", "<img src=x>.jsonl"):
        assert name in text
    markdown = (storage.root / "report.md").read_text(encoding="utf-8")
    assert not re.search(r"<(script|img|b|i|u)\b", markdown)


def test_letters_that_xml_forbids_do_not_break_the_document():
    section = Section(
        "A", [Text("a\x00b\x1bc\ufffe\u202ed"), report_table(pd.DataFrame({"component": ["\x07<"]}), "t")]
    )
    assert "a b c" in "".join(ET.fromstring(to_html("t", "l", [section])).itertext())


def test_both_forms_say_the_same():
    frame = pd.DataFrame({"component": ["a|b"], "k": [2], "xe": [2.34567]})
    blocks = [
        Opening(["first"], None),
        Text("one"),
        Heading("two"),
        Points(["three", "four"]),
        Code("five --six"),
        report_table(frame, "seven"),
    ]
    section = Section("eight", blocks)
    shown = " ".join(ET.fromstring(to_html("title", "lead", [section])).itertext())
    markdown = to_markdown("title", "lead", [section])
    for word in ("title", "lead", "first", "one", "two", "three", "four", "five --six", "seven", "eight", "2.3457"):
        assert word in shown and word in markdown
    assert "a|b" in shown and r"a\|b" in markdown


# Partial results


@pytest.mark.parametrize("allocation", ["full", "constant_unique"])
def test_one_run_is_enough_for_a_report(storage, allocation):
    write_run(storage, run_config(4, 0, allocation=allocation), flat_curves(dict.fromkeys("ABCD", 2.0)))
    _, text = report_of(storage)
    assert "there is no matched ΔXE" in text
    assert "These runs cannot tell what K costs" in text
    assert not {"matched.png", "dxe_vs_K.png"} & {path.name for path in (storage.root / "fig").iterdir()}
    assert "No slope: a slope needs 3 runs" in text
    assert "the spread over seeds is not measured" in text
    assert "4 runs on a single component, which matched differences need, are missing" in text
    assert "evidence of a" not in text


@pytest.mark.slow
def test_one_seed_has_differences_and_no_evidence(storage):
    simulate_grid(storage, ks=(1, 2), seeds=(0,))
    simulate_baselines(storage)
    _, text = report_of(storage)
    assert "(1 run, so there is no interval and no statement about evidence)" in text
    assert "One seed only at K = 1, 2" in text
    assert "the known answer cannot be checked" in text
    assert "(1 run: no interval)" in text


def test_baselines_alone_are_enough_for_a_report(storage):
    simulate_baselines(storage)
    _, text = report_of(storage)
    assert "Plain ΔXE: no seed has a run at K = 1 and one at another K." in text


@pytest.mark.slow
def test_text_without_exact_values_shows_the_bound_in_their_place(storage):
    for seed in (0, 1):
        write_run(storage, run_config(1, seed), flat_curves({"A": 2.0}))
        write_run(storage, run_config(1, seed, components=("B",)), flat_curves({"B": 3.0}))
        write_run(storage, run_config(2, seed), flat_curves({"A": 2.1 + seed / 100, "B": 3.1}))
    _, text = report_of(storage)
    assert "The law of these papers is not known, so no ΔXE is exact." in text
    assert f"at most {math.log(2) / 99:.4f}" in text
    assert "Parts that these runs cannot tell:" in text
    assert "remainder at K = 2 (identification and amount missing)" in text


def test_missing_cells_and_baselines_are_named(storage):
    simulate_grid(storage, ks=(1, 2), seeds=(0, 1))
    storage.result(run_config(2, 1).run_id).unlink()
    results = load_results(storage)
    _, xe = results.of(results.conditions[0], "grid")
    second = xe[(xe["k"] == 2) & ~xe["component"].isin(xe.loc[xe["k"] == 1, "component"])]
    gone = missing_baselines(results, results.conditions[0])
    assert gone.to_dict("records") == [{"seed": 0, "component": second["component"].item()}]
    _, text = report_of(storage)
    assert "1 of 4 cells of the grid have no run: K = 2 seed 1." in text
    assert "Missing: 1 cells of the grid, 1 run on one component." in text


# Sentences


ROW = {"k": 4, "num_runs": 3, "dxe": 0.02, "bayes_dxe": np.nan, "bound": 0.014}


@pytest.mark.parametrize(
    "low, high, verdict, place",
    [
        (0.001, 0.039, "evidence of a rise.", "contains the bound"),
        (0.015, 0.025, "evidence of a rise.", "lies above the bound"),
        (0.001, 0.013, "evidence of a rise.", "lies below the bound"),
        (-0.01, 0.05, "no evidence of a rise or a fall.", "contains the bound"),
        (-0.03, -0.01, "evidence of a fall.", "lies below the bound"),
    ],
)
def test_the_words_follow_the_interval(low, high, verdict, place):
    sentence = words.matched_sentence(ROW | {"low": low, "high": high})
    assert f"3 runs): {verdict}" in sentence
    assert place in sentence
    assert sentence.count("evidence") == 1


def test_a_flat_slope_is_no_evidence_of_a_trend_and_none_of_its_absence():
    flat = Estimate.of(0.001, 0.002, 13, 15)
    sentence = words.slope_sentence(flat)
    assert sentence.endswith("15 runs with 13 degrees of freedom): no evidence of a trend with K.")
    assert "p = 0.6" in sentence
    assert "evidence of a rise." in words.slope_sentence(Estimate.of(0.01, 0.001, 13, 15))
    assert "p < 0.0001" in words.slope_sentence(Estimate.of(0.01, 0.001, 13, 15))


@pytest.mark.parametrize("p, said", [(0.01, "equivalent to zero within"), (0.2, "is not shown")])
def test_equivalence_is_said_with_its_margin(p, said):
    control = Equivalence(value=0.001, low=-0.01, high=0.012, margin=0.0242, p_value=p, num_runs=3)
    sentence = words.control_sentence(11, control)
    assert said in sentence and "±0.0242" in sentence and "90 % interval -0.0100 to +0.0120" in sentence


def test_the_known_answer_is_judged_at_every_k():
    table = pd.DataFrame(
        {
            "k": [2, 4, 8, 11],
            "num_runs": [3, 3, 3, 1],
            "low": [0.0, 0.0, 0.03, -np.inf],
            "high": [0.01, 0.02, 0.04, np.inf],
            "bayes_dxe": [0.005, 0.01, 0.02, 0.02],
            "excess": [0.0, -0.002, 0.015, 0.1],
            "excess_low": [-0.004, -0.003, 0.01, -np.inf],
            "excess_high": [0.004, -0.001, 0.02, np.inf],
        }
    )
    first, two, four, eight = words.known_answer_sentences(table)
    assert "contains the exact value at 2 of 3 values of K" in first and "not noise" in first
    assert "+0.0050, lies inside the interval +0.0000 to +0.0100" in two and two.endswith("learner is seen.")
    assert "less than an ideal learner would" in four
    assert "+0.0200, lies outside the interval +0.0300 to +0.0400" in eight
    assert "lose +0.0150 nats per token beyond it (95 % interval +0.0100 to +0.0200, 3 runs): more than" in eight
    assert len(words.known_answer_sentences(table[3:])) == 1


def test_plain_and_matched_stand_side_by_side(full_storage, full_report):
    _, _, text = full_report
    results = load_results(full_storage)
    table = tables.table_1(results, results.conditions[0]).set_index("k")
    assert f"Plain ΔXE: {table.loc[2, 'dxe']:+.4f} at K = 2 (2 seeds)" in text
    assert f"K = 2: matched ΔXE is {table.loc[2, 'dxe_same']:+.4f} nats per token" in text
    assert "how much harder the further components are" in text
    assert "Three differences from K = 1: only the matched one compares every component with itself" in text


# Limits, methods, provenance


def test_measured_coverage_is_quoted_with_its_command(tmp_path, monkeypatch):
    monkeypatch.setattr(report_methods, "COVERAGE", tmp_path / "coverage.json")
    text = to_markdown("", "", [report_methods.methods()])
    assert "Not measured" in text and "python -m benchmarks.coverage --grids 400" in text
    measured = {"command": "python -m benchmarks.coverage --grids 777", "grids": 777}
    measured |= {"band_of_95_percent": [0.92, 0.98], "band_of_5_percent": [0.02, 0.08]}
    measured["ranges"] = {"runs .01": {"slope_covers": 0.9525, "trend_rejects": None}}
    measured["power_of_the_slope"] = {"by_itself": 0.8125}
    (tmp_path / "coverage.json").write_text(json.dumps(measured))
    text = to_markdown("", "", [report_methods.methods()])
    assert "Not measured" not in text
    for part in (
        "777 simulated grids",
        "--grids 777",
        "92.0% and 98.0%",
        "runs .01",
        "slope covers",
        "0.9525",
        "0.8125",
    ):
        assert part in text


@pytest.mark.slow
def test_every_run_is_named_with_what_made_it(storage):
    simulate_grid(storage, ks=(1, 2), seeds=(0,))
    path = storage.result(run_config(2, 0).run_id)
    made = {"device": "Tesla T4", "precision": "fp16", "python": "3.13.1", "packages": {"torch": "2.99"}}
    rewrite_run_line(path, provenance={**made, "git_revision": "0123456789abcdef" * 2 + "+changes"})
    (storage.results() / "cut.jsonl").write_text("{")
    document, text = report_of(storage)
    cells = [[cell.text for cell in row.iter("td")] for row in document.iter("tr")]
    (row,) = [row for row in cells if row and row[0] == run_config(2, 0).run_id]
    assert {"Tesla T4", "fp16", "0123456789ab+changes"} <= set(row)
    assert "python 3.13.1, torch 2.99" in text
    assert all(run_id in text for run_id in load_results(storage).runs["run_id"])
    assert "cut.jsonl: " in text


def test_the_data_section_shows_the_analysis_of_the_data_set(storage):
    assert "The papers of these runs are not in this storage" in to_markdown("", "", [data([])])
    frames = {
        "dataset_papers": pd.DataFrame({"component": ["NA", "<b>"], "train_papers": [12, np.nan]}),
        "dataset_separation": pd.DataFrame({"labels": ["shuffled"], "bound": [0.7]}),
        "dataset_overlap": pd.DataFrame({"component": ["bound", "k"], "bound": [0, 0.5], "k": [0.5, 0]}),
    }
    picture = publish_bytes(storage.figure("dataset_lengths.png"), b"\x89PNG\r\n\x1a\n" + bytes(16))
    described = Description(conditions=("one",), tables=frames, figures=(picture,), paths=(picture,))
    document = ET.fromstring(to_html("", "", [data([described])]))
    assert "Papers of one" in "".join(document.itertext())
    cells = [[cell.text for cell in row.iter("td")] for row in document.iter("tr")]
    assert ["NA", "12.0000"] in cells and ["<b>", "-"] in cells
    assert document.find(".//img").get("alt") == "dataset lengths The numbers are in fig/dataset_lengths.csv."
    headings = [[cell.text for cell in row.iter("th")] for row in document.iter("thead")]
    # Categories of the overlap are numbered: two that are called as a column of ours are none.
    assert headings == [["category", "train papers"], ["labels", "ln K (nats)"], ["number", "category", "1", "2"]]
    assert ["1", "bound", "0.0000", "0.5000"] in cells


@pytest.mark.slow
def test_another_analysis_of_a_data_set_is_not_shown(storage):
    """What lies in the storage may be of other papers: the report shows what it has just described."""
    simulate_grid(storage, ks=(1, 2), seeds=(0,))
    publish_text(storage.table("dataset_papers.csv"), "component,train_papers\nother papers,12\n")
    _, text = report_of(storage)
    assert "other papers" not in text and "The papers of these runs are not in this storage" in text


# LaTeX


def test_latex_prints_its_special_characters():
    text = latex.escaped(r"a_b & 50% #1 $x$ {y} ~ ^ \input{z} <s> -- 'q'")
    assert text == (
        r"a\_b \& 50\% \#1 \$x\$ \{y\} \textasciitilde{} \textasciicircum{} \textbackslash{}input\{z\} "
        r"\textless{}s\textgreater{} -{}- \textquotesingle{}q\textquotesingle{}"
    )


@pytest.mark.parametrize(
    "text", ["\\write18{rm}", "%\n\\end{table}", "a\nb\rc\x00", "}}}{", "$$", "~^\\", "[2cm]", "*"]
)
def test_no_text_from_data_is_a_command(text):
    table = latex.booktabs(["component"], [[text]], [True], text)
    # What escapes leave behind: braces in pairs, and none of the ten special characters bare.
    bare = re.sub(r"\\(text[a-z]+\{\}|[{}$&#%_])|\{[*\[]\}", "", latex.escaped(text))
    assert not re.search(r"[\\{}$&#%_^~*\[\n\r\x00]", bare)
    rows = [line for line in table.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 2 and len(table.splitlines()) == 11


@pytest.mark.parametrize(
    "cell, number",
    [
        ("2.3457 ± 0.0100", r"$2.3457 \pm 0.0100$"),
        ("-0.01", "$-0.01$"),
        ("1,234,567", "$1{,}234{,}567$"),
        ("-", "--"),
        ("2.3457 ± -", "$2.3457$"),
    ],
)
def test_numbers_stand_in_math_mode(cell, number):
    assert latex.number(cell) == number


def test_a_table_is_booktabs_with_a_column_for_each_heading(full_storage, full_report):
    text = full_storage.table("baselines.tex").read_text(encoding="utf-8")
    rows = text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    assert len(rows) == len(COMPONENTS)
    assert all(row.endswith(r" \\") for row in rows)
    columns = re.search(r"\\begin\{tabular\}\{(\w+)\}", text)[1]
    assert columns[0] == "l" and set(columns[1:]) == {"r"}
    assert {row.count(" & ") + 1 for row in rows} == {len(columns)}
    assert r"hmm\_00" in rows[0]
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 1  # the other condition has no baselines
    assert "% Baselines" in text
