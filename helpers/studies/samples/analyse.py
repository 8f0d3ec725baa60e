"""The sample-scaling study's tables, figures, verdicts and JSON of all numbers, from result files to the storage."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from helpers.analysis.conditions import condition_file_name
from helpers.analysis.figures import save_figure
from helpers.analysis.json_text import json_text, records
from helpers.analysis.results import require_results
from helpers.analysis.tables import escaped, save_table
from helpers.config import to_json
from helpers.storage import Storage, publish_text
from helpers.studies.samples.figures import figure_numbers, scaling_figure
from helpers.studies.samples.findings import SampleFindings, find, sentences
from helpers.studies.samples.runs import conditions_of, load_files, run_table
from helpers.studies.samples.tables import TABLES, document_tables
from helpers.studies.samples.words import JAPANESE_FONTS, Lang, figure_font, headings, require_lang, title

_DOCUMENT = {"en": "seed document 003, 27 November 2025", "ja": "文書003、2025年11月27日"}
_NOTE = {"en": "Every part speaks for one condition.", "ja": "各部は一つの条件について述べる。"}


def analyse(storage: Storage, lang: Lang = "en", report: Callable[[str], None] = print) -> list[Path]:
    """Write the tables, figures, verdicts and all numbers, and return their paths.

    Each condition has its own: figures of further ones append its name, tables have a part for each. ValueError for a
    language that there is not, or if there is no usable result, with the reason for each file that was left out.
    """
    require_lang(lang)
    files = load_files(storage)
    require_results(files, storage)
    if lang != "en" and figure_font(lang) is None:
        report(f"no font here has Japanese letters, so the figure is in English; install {JAPANESE_FONTS[0]}")
    runs = run_table(files, storage)
    findings = [find(runs, condition) for condition in conditions_of(runs)]
    shown = {name: {own.condition: make(own) for own in findings} for name, make in TABLES.items()}
    shown |= {name: {_DOCUMENT[lang]: table} for name, table in document_tables().items()}
    paths = [
        path
        for name, tables in shown.items()
        for path in save_table(storage, name, title(name, lang), tables, _NOTE[lang], headings(lang))
    ]
    for number, own in enumerate(findings):
        suffix = f"-{condition_file_name(own.condition)}" if number else ""
        figure = scaling_figure(own, _caption(own), lang)
        paths += save_figure(storage, f"sample_scaling{suffix}", figure, figure_numbers(own))
    paths.append(publish_text(storage.table("samples_verdict.md"), verdicts(findings, files.left_out)))
    text = json_text({"conditions": [_numbers(own) for own in findings], "left_out": list(files.left_out)})
    return storage.delivered([*paths, publish_text(storage.table("sample_scaling.json"), text)])


def verdicts(findings: Sequence[SampleFindings], left_out: Sequence[str]) -> str:
    """What each condition says, with the runs that it speaks for and those that it leaves out."""
    total = sum(len(own.runs) for own in findings)
    parts = ["# Samples or steps?"]
    for own in findings:
        others = total - len(own.runs)
        scope = f"Condition: {own.condition}. {len(own.runs)} runs"
        scope += f"; {others} runs of other conditions are not in it." if others else "."
        parts += [escaped(scope), "\n".join(f"- {escaped(sentence)}" for sentence in sentences(own))]
    parts += [f"Left out: {escaped(line)}" for line in left_out]
    return "\n\n".join(parts) + "\n"


def _caption(findings: SampleFindings) -> str:
    runs = findings.runs
    devices = ", ".join(sorted(set(runs["device"])))
    return (
        f"{findings.condition}; {len(runs)} runs, {runs['seed'].nunique()} seeds, "
        f"{runs['validation_tokens'].iloc[0]:,} validation tokens, {devices}; small: runs, large: mean over seeds"
    )


def _numbers(findings: SampleFindings) -> dict[str, Any]:
    return {
        "condition": findings.condition,
        "sentences": sentences(findings),
        "tables": {name: records(make(findings)) for name, make in TABLES.items()},
        "exponents": {", ".join(arm): to_json(law.parameters()["b"]) for arm, law in findings.laws.items()},
        "partial": None if findings.partial is None else to_json(findings.partial),
        "gains": {control: to_json(estimate) for control, estimate in findings.gains.items()},
        "missing": findings.missing,
        "runs": records(findings.runs),
    }
