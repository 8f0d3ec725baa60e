"""The report of a study: its answer first, then results, controls, design, data, limits, methods and provenance.

A section is a function here or in a module beside; `save_report` lists them in their order.

Every number comes from a frame that is also a table or the CSV of a figure, and every sentence about evidence from an
interval (`report_words`). Missing runs, missing baselines and statistics that could not be computed are named.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.analysis.report_blocks import (
    Block,
    Heading,
    Picture,
    Points,
    Section,
    Table,
    Text,
    to_html,
    to_markdown,
)
from helpers.storage import Storage, publish_text
from helpers.studies.ergodic import tables
from helpers.studies.ergodic.beliefs.report import beliefs_blocks
from helpers.studies.ergodic.causes.report import causes_blocks
from helpers.studies.ergodic.condition import Condition, told_apart
from helpers.studies.ergodic.contrasts import by_seed
from helpers.studies.ergodic.dataset.dataset import TITLES, Description, readable
from helpers.studies.ergodic.decomposition import PARTS
from helpers.studies.ergodic.figures import differences
from helpers.studies.ergodic.findings import CONDITION_LIMIT, Findings
from helpers.studies.ergodic.forecasts.report import forecasts_blocks
from helpers.studies.ergodic.noise import noise_blocks
from helpers.studies.ergodic.presets import ANSWER
from helpers.studies.ergodic.report import words
from helpers.studies.ergodic.report.answer import answer, answer_text
from helpers.studies.ergodic.report.design import design, limits, none, provenance
from helpers.studies.ergodic.report.methods import methods
from helpers.studies.ergodic.results import Results

_DATASET_ROWS = 60
_XE_COLUMNS = [
    "k", "num_runs", "num_seeds", "xe", "xe_sigma", "ppl", "ppl_sigma", "bayes_xe", "gap", "tokens_seen",
    "unique_tokens", "repetition",
]  # fmt: skip
_DIFFERENCE_HEADINGS = {
    "k": "K", "plain": "plain: XE(K) - XE(1)", "same": "over the components with a run alone",
    "matched": "matched: every component", "exact": "exact", "bound": "bound ln K / T",
}  # fmt: skip
_PART_HEADINGS = {"k": "K", **{part: part for part in PARTS}, "repetition": "repetition (full - constant unique)"}
_RESULT_FIGURES = {
    "xe_vs_K": "XE against K. Means at small K also differ by how hard the components are that each seed begins with.",
    "dxe_vs_K": "Plain ΔXE, and ΔXE over the components that have a run alone.",
    "in_context": "XE and matched ΔXE along the window, and the area under matched ΔXE against its bound ln K.",
    "decomposition": "Parts of matched ΔXE; a cross is a part that these runs cannot tell.",
    "components": "Each component at the largest K.",
    "size": "Model size as a factor; all other settings are equal, and so are the components at a K and seed.",
}


def save_report(
    storage: Storage, results: Results, conditions: list[Condition], described: list[Description]
) -> list[Path]:
    """Publish `report.html` and `report.md` in the storage root; the figures that it embeds lie in `fig/` by now."""
    title = "XE against the number of ergodic components"
    sections = [
        answer(storage, results, conditions),
        _results(storage, results, conditions),
        _controls(results, conditions),
        design(results),
        data(described),
        limits(results, conditions),
        methods(),
        provenance(results, conditions),
    ]
    lead = _question(results, conditions)
    return [
        publish_text(storage.table(ANSWER), answer_text(storage, results, conditions)),
        publish_text(storage.root / "report.html", to_html(title, lead, sections)),
        publish_text(storage.root / "report.md", to_markdown(title, lead, sections)),
    ]


def _question(results: Results, conditions: Sequence[Condition]) -> str:
    """What was asked, and of which runs, in a paragraph."""
    of_what = f"{conditions[0].name}" if len(conditions) == 1 else f"{len(conditions)} conditions"
    return (
        "How does a language model's in-context cross entropy (XE, nats per token) change when its training data is "
        "mixed from K independent (ergodic) components while the number of training tokens stays constant? "
        f"{words.runs(len(results.runs))} of {of_what}; written by the analysis from the result files alone."
    )


def data(described: Sequence[Description]) -> Section:
    """What the dataset analysis found, once for each set of papers."""
    if not described:
        return Section("Data", [Text("The papers of these runs are not in this storage, so they are not described.")])
    blocks: list[Block] = []
    for description in described:
        if description.conditions:
            blocks.append(Heading(f"Papers of {'; '.join(description.conditions)}"))
        blocks += [Picture(path.read_bytes(), path.name, path.stem.replace("_", " ")) for path in description.figures]
        for name, frame in description.tables.items():
            rows = f", {_DATASET_ROWS} of {len(frame)} rows" if len(frame) > _DATASET_ROWS else ""
            shown, headings = readable(name, frame)
            blocks.append(Table(shown.head(_DATASET_ROWS), f"{TITLES[name]} (tables/{name}.csv{rows})", headings))
    return Section("Data", blocks)


def _results(storage: Storage, results: Results, conditions: list[Condition]) -> Section:
    blocks: list[Block] = []
    for own in conditions:
        table_1, cells = tables.table_1(results, own.name), by_seed(results, own.name)
        plain = words.plain_sentence(table_1)
        blocks += [Heading(own.name)] if len(conditions) > 1 else []
        blocks += [*_result_words(own.findings, plain), differences_table(own, table_1), *_area_words(own)]
        blocks += noise_blocks(own.findings.by_k, own.findings.noise)
        suffix = results.file_suffix(own.name)
        pictures = {name: storage.figure(f"{name}{suffix}.png") for name in _RESULT_FIGURES if _has(own, name, cells)}
        blocks += [Picture(path.read_bytes(), path.name, _RESULT_FIGURES[name]) for name, path in pictures.items()]
        blocks += with_data(
            tables.report_table(table_1[_XE_COLUMNS], "XE for each K: mean ± sample standard deviation over seeds"),
            tables.report_table(
                own.findings.by_k,
                "Matched ΔXE for each K with 95 % intervals, over runs and papers and by the bootstrap; its excess "
                "over the exact value on the same windows with t intervals over runs",
            ),
            tables.report_table(own.areas.drop(columns="reason"), "Area under matched ΔXE (nats a window)"),
            Table(parts_table(own.decomposition), "Parts of matched ΔXE [95 % interval] (seeds)", _PART_HEADINGS),
            tables.report_table(
                own.findings.contrasts, "ΔXE of each component at the largest K, p adjusted for their number"
            ),
            tables.report_table(
                own.findings.exposure.dropna(subset="log2_k"), "XE on log2 K alone, and beside log2 repetition"
            ),
            tables.report_table(own.sizes, "XE by model size and K"),
        )
        blocks += _reasons(own.decomposition)
        blocks += causes_blocks(own.causes, storage.figure(f"causes{suffix}.png"))
        blocks += beliefs_blocks(own.beliefs, storage.figure(f"beliefs{suffix}.png"))
        blocks += forecasts_blocks(own.forecasts, own.forecasts_by_k, storage.figure(f"forecasts{suffix}.png"))
    return Section("Results", blocks)


def differences_table(own: Condition, table_1: pd.DataFrame) -> Table:
    """The three differences from K = 1 side by side, beside the exact one and the bound: the second is the third as far
    as its components have a run alone."""
    by_k = own.findings.by_k.set_index("k")
    mixed = table_1[table_1["k"] > 1]
    frame = pd.DataFrame({"k": mixed["k"], "plain": mixed["dxe"], "same": mixed["dxe_same"]})
    frame["matched"] = [_with_interval(by_k.loc[k]) if k in by_k.index else "no run is matched" for k in mixed["k"]]
    exact = mixed["k"].map(by_k["bayes_dxe"]).astype(float)
    frame["exact"] = exact.fillna(mixed["bayes_dxe_same"])
    frame["bound"] = mixed["bound"]
    caption = "Three differences from K = 1: only the matched one compares every component with itself"
    return Table(frame, caption, _DIFFERENCE_HEADINGS)


def _with_interval(row: pd.Series) -> str:
    return f"{row['dxe']:.4f}" + (f" [{row['low']:.4f}, {row['high']:.4f}]" if np.isfinite(row["low"]) else "")


def with_data(*made: Table) -> list[Block]:
    """The tables that have a row; the others in one line of words."""
    empty = [table.caption for table in made if table.frame.empty]
    said = [Text(f"Not shown, for these runs do not hold it: {'; '.join(empty)}.")] if empty else []
    return [*(table for table in made if not table.frame.empty), *said]


def _has(own: Condition, name: str, cells: pd.DataFrame) -> bool:
    """Whether the runs suffice for a figure, by the rule that drew it."""
    frames = {
        "xe_vs_K": cells["xe"].dropna(), "dxe_vs_K": differences(cells),
        "in_context": own.in_context, "components": own.findings.contrasts, "decomposition": told_apart(own),
        "size": own.sizes,
    }  # fmt: skip
    return len(frames[name]) > 0


def parts_table(parts: pd.DataFrame) -> pd.DataFrame:
    """Rows of `decomposition.decompose` -> one row a K, a column for each part in words; empty for a total alone."""
    if parts.loc[parts["part"] != "total", "value"].isna().all():
        return pd.DataFrame(columns=["k"])
    cells = parts.assign(text=[_part_text(row) for row in parts.to_dict("records")])
    wide = cells.pivot(index="k", columns="part", values="text")
    return wide.reindex(columns=PARTS).reset_index().rename_axis(columns=None)


def _part_text(row: dict[str, float]) -> str:
    if np.isnan(row["value"]):
        return "missing" if np.isnan(row["bound"]) else f"at most {row['bound']:.4f}"
    interval = f" [{row['low']:.4f}, {row['high']:.4f}]" if np.isfinite(row["low"]) else ""
    return f"{row['value']:.4f}{interval} ({row['num_seeds']})"


def _reasons(parts: pd.DataFrame) -> list[Block]:
    """Why parts are missing, each reason once with its values of K."""
    gone = parts[parts["value"].isna()].groupby(["part", "reason"], sort=False)["k"].agg(list)
    texts = [f"{part} at K = {', '.join(map(str, ks))} ({why})" for (part, why), ks in gone.items()]
    return [Text(f"Parts that these runs cannot tell: {'; '.join(texts)}.")] if texts else []


def _result_words(findings: Findings, plain: str) -> list[Block]:
    sentences = [words.matched_sentence(row) for row in findings.by_k.to_dict("records")]
    sentences = sentences or ["No run with K above 1 has all of its components matched, so there is no matched ΔXE."]
    sentences.append(plain)
    sentences.append(words.slope_sentence(findings.slope) if findings.slope else none(findings, "slope", "slope"))
    tests = {
        "permutation": ("permutation of K over runs", findings.permutation),
        "trend": ("Page's test of a rise with K", findings.trend),
    }
    for name, (label, tested) in tests.items():
        text = none(findings, name, label) if tested is None else words.tested_sentence(label, tested)
        sentences.append(text[0].upper() + text[1:])
    if findings.outliers:
        sentences.append(f"Unusual runs, kept: {', '.join(findings.outliers)}.")
    return [Text(words.plain_beside_matched(findings)), Points(sentences), *_covariate_warning(findings)]


def _covariate_warning(findings: Findings) -> list[Block]:
    if not (findings.exposure["condition_number"] > CONDITION_LIMIT).any():
        return []
    return [
        Text(
            "K and repetition cannot be told apart in these runs: in one model their condition number is above "
            f"{CONDITION_LIMIT:.0f}, so that any coefficients would mean nothing, and none are given. Runs with "
            "constant unique tokens tell them apart."
        )
    ]


def _area_words(own: Condition) -> list[Block]:
    sentences = []
    for row in own.areas.to_dict("records"):
        start = f"K = {row['k']}: "
        if np.isnan(row["identified_at"]):
            sentences.append(f"{start}no identification length ({row['identified_by']} curve): {row['reason']}.")
        else:
            sentences.append(
                f"{start}90 % of the area is spent after {row['identified_at']:.0f} tokens of context, BOS included "
                f"({row['identified_by']} curve)."
            )
    return [Points(sentences)] if sentences else []


def _controls(results: Results, conditions: list[Condition]) -> Section:
    blocks: list[Block] = []
    for own in conditions:
        findings = own.findings
        shuffled = [words.control_sentence(k, control) for k, control in findings.controls.items()]
        shuffled = shuffled or [none(findings, "control", "TOST of shuffled labels")]
        known = words.known_answer_sentences(findings.by_k)
        blocks += [Heading(own.name)] if len(conditions) > 1 else []
        blocks.append(Points([*shuffled, *known]))
        if findings.by_k["bayes_dxe"].notna().any():
            columns = ["k", "num_runs", "dxe", "low", "high", "bayes_dxe", "excess", "excess_low", "excess_high"]
            blocks.append(tables.report_table(findings.by_k[columns], "Measured and exact matched ΔXE"))
        blocks += with_data(tables.report_table(tables.control(results, own.name), "The runs with shuffled labels"))
    return Section("Controls", blocks)
