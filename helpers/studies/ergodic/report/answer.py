"""The answer of a condition in one look: three sentences, one figure, a verdict of each hypothesis, what is missing.

The report begins with it, both notebooks show it, and `analyse` ends with it.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from helpers.analysis.report_blocks import Block, Code, Heading, Opening, Picture, Section, Table, Text
from helpers.analysis.tables import escaped
from helpers.storage import Storage
from helpers.studies.ergodic import tables
from helpers.studies.ergodic.condition import Condition
from helpers.studies.ergodic.report import words
from helpers.studies.ergodic.report.hypotheses import largest_k, span, verdicts
from helpers.studies.ergodic.report.missing import missing
from helpers.studies.ergodic.results import Results

_HEADINGS = {"hypothesis": "hypothesis", "document": "asked by", "verdict": "verdict", "because": "because"}


def answer(storage: Storage, results: Results, conditions: Sequence[Condition]) -> Section:
    """The first section of the report."""
    blocks: list[Block] = []
    for own in conditions:
        blocks += [Heading(own.name)] if len(conditions) > 1 else []
        blocks.append(Opening(sentences(results, own), _figure(storage, results, own)))
        blocks += [_verdict_table(results, own), *_missing_blocks(storage, results, own)]
    return Section("Answer", blocks)


def answer_text(storage: Storage, results: Results, conditions: Sequence[Condition]) -> str:
    """The same as Markdown for a notebook or a terminal: verdicts as a list, no figure."""
    parts = []
    for own in conditions:
        counted = words.runs(len(results.runs_of(own.name)))
        parts += [f"**{escaped(own.name)}, {counted}.** {escaped(' '.join(sentences(results, own)))}"]
        judged = verdicts(results, own)
        parts.append("\n".join(f"- **{one.verdict}**: {escaped(f'{one.hypothesis}; {one.because}')}" for one in judged))
        found = missing(storage, results, own)
        parts += ["What would say more:"] * bool(found)
        parts.append("\n".join(f"- {escaped(one.what)}: `{one.command}`" for one in found))
    return "\n\n".join(part for part in parts if part) + "\n"


def sentences(results: Results, own: Condition) -> list[str]:
    """What was found, beside what theory says, and how sure that is: three sentences with numbers and intervals, or
    what there is not to say them of."""
    row = largest_k(own)
    if row is None:
        return _unmatched_sentences(results, own)
    return [_found(row, results.held_constant(own.name)), _beside_theory(row), _how_sure(results, own)]


def _unmatched_sentences(results: Results, own: Condition) -> list[str]:
    first = (
        "These runs cannot tell what K costs: no run with K above 1 has a run on each of its components alone at the "
        "same seed."
    )
    table = tables.table_1(results, own.name)
    if table.loc[table["k"] > 1, "dxe"].isna().all():
        return [first, "Nor has any seed a run at K = 1 and one at another K."]
    plain = words.plain_sentence(table)
    return [first, plain, "That difference also holds how hard the components are, and is no statement about K."]


def _found(row: dict[str, float], constant: str) -> str:
    low, high = row["low"], row["high"]
    count = words.runs(int(row["num_runs"]))
    start = f"At equal {constant}, a model of {row['k']:.0f} components"
    if not np.isfinite(low):
        return f"{start} differs from models of each alone by {row['dxe']:+.4f} nats per token ({count}: no interval)."
    verb = "loses" if low > 0 else "gains" if high < 0 else "may lose or gain, for the estimate is"
    value = f"{row['dxe']:+.4f}" if low <= 0 <= high else f"{abs(row['dxe']):.4f}"
    tail = "" if low <= 0 <= high else " more on them than models of each alone" if low > 0 else " over models of each"
    return f"{start} {verb} {value} nats per token{tail} ({span(row)}, {count})."


def _beside_theory(row: dict[str, float]) -> str:
    bound = f"at most ln {row['k']:.0f} / {np.log(row['k']) / row['bound']:.0f} = {row['bound']:.4f}"
    if np.isnan(row["bayes_dxe"]):
        return f"An ideal learner, which has to find out the component from the window, would lose {bound}."
    text = (
        f"An ideal learner, which has to find out the component from the window, loses {row['bayes_dxe']:.4f} on the "
        f"same windows, computed exactly, and {bound}"
    )
    if not np.isfinite(row["excess_low"]):
        return f"{text}; the model loses {row['excess']:+.4f} beyond it."
    return f"{text}; the model loses {row['excess']:+.4f} beyond it ({span(row, 'excess_')})."


def _how_sure(results: Results, own: Condition) -> str:
    slope, gap = own.findings.slope, _largest_gap(results, own)
    parts = [] if slope is None else [
        f"a doubling of K changes XE by {slope.value:+.4f} (95 % interval {slope.low:+.4f} to {slope.high:+.4f}): "
        f"{words.direction(slope.low, slope.high).replace('a rise or a fall', 'a trend')}"
    ]  # fmt: skip
    if gap is not None:
        k, value = gap
        parts.append(f"XE itself is at most {value:.4f} above the exact Bayes value (K = {k}, mean over seeds)")
    text = "; ".join(parts) or "No slope over K can be told from these runs"
    return f"{text[0].upper()}{text[1:]}."


def _largest_gap(results: Results, own: Condition) -> tuple[int, float] | None:
    table = tables.table_1(results, own.name).dropna(subset="gap")
    if table.empty:
        return None
    worst = table.loc[table["gap"].idxmax()]
    return int(worst["k"]), float(worst["gap"])


def _figure(storage: Storage, results: Results, own: Condition) -> Picture | None:
    if own.findings.by_k.empty:
        return None
    path = storage.figure(f"matched{results.file_suffix(own.name)}.png")
    caption = (
        "Matched ΔXE: each component compared with a model of it alone, at the same seed, on the same windows. Bars "
        "are 95 % intervals over runs and test papers."
    )
    return Picture(path.read_bytes(), path.name, caption, matched_in_words(own))


def matched_in_words(own: Condition) -> str:
    """What the matched figure shows, for those who do not see it."""
    rows = own.findings.by_k.to_dict("records")
    points = ", ".join(f"{row['dxe']:.4f} at K = {row['k']:.0f}" for row in rows)
    exact = ", ".join(f"{row['bayes_dxe']:.4f}" for row in rows if not np.isnan(row["bayes_dxe"]))
    bound = f"the bound rises to {rows[-1]['bound']:.4f}"
    return f"Matched ΔXE is {points}; " + (f"the exact values are {exact}; " if exact else "") + f"{bound}."


def _verdict_table(results: Results, own: Condition) -> Table:
    frame = pd.DataFrame([vars(verdict) for verdict in verdicts(results, own)])
    caption = "What the documents expect (000: the experiment plan; 001: its questions), and what these runs say"
    return Table(frame[list(_HEADINGS)], caption, _HEADINGS)


def _missing_blocks(storage: Storage, results: Results, own: Condition) -> list[Block]:
    found = missing(storage, results, own)
    blocks: list[Block] = [Heading("What would say more")] if found else []
    for one in found:
        blocks += [Text(f"{one.what}:"), Code(one.command)]
    return blocks
