"""Tables as files: CSV (all digits), Markdown and LaTeX, with headings in words and a note that says what they hold.

A column has a name in code and a heading for readers; `<name>_sigma` beside `<name>` is shown as `mean ± sigma`.
"""

import html
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.analysis import latex
from helpers.storage import Storage, publish_text

Headings = Mapping[str, str]
"""What a reader sees of a column."""
_WHOLE = ("tokens_seen", "unique_tokens", "params_non_embedding", "identified_at")
_SHORT = {"ppl": 3, "repetition": 2}
_TWO_DIGITS = ("p_value", "p_holm", "p_bh", "condition_number")


def save_table(
    storage: Storage, name: str, title: str, tables: Mapping[str, pd.DataFrame], note: str, headings: Headings
) -> list[Path]:
    """Publish one table of each condition; returns the paths.

    `tables/<name>.csv` has a column that names the condition, `.md` and `.tex` a part for each.
    """
    together = pd.concat([table.assign(condition=condition) for condition, table in tables.items()])
    together.insert(0, "condition", together.pop("condition"))
    sections = [f"## {escaped(condition)}\n\n{markdown(table, headings)}" for condition, table in tables.items()]
    text = "\n\n".join([f"# {title}", note, *sections]) + "\n"
    parts = [latex.booktabs(*cells(table, str, headings), f"{title}: {name}") for name, table in tables.items()]
    csv = publish_text(storage.table(f"{name}.csv"), together.to_csv(index=False, lineterminator="\n"))
    tex = publish_text(storage.table(f"{name}.tex"), "\n".join(parts))
    return [csv, publish_text(storage.table(f"{name}.md"), text), tex]


def markdown(table: pd.DataFrame, headings: Headings) -> str:
    """A Markdown table: readable headings, `mean ± sigma` in one column, `-` where there is no number."""
    if table.empty:
        return "None."
    shown, rows, is_text = cells(table, escaped, headings)
    rule = ["---" if text else "---:" for text in is_text]
    return "\n".join("| " + " | ".join(row) + " |" for row in [shown, rule, *rows])


def cells(
    table: pd.DataFrame, escape: Callable[[str], str], headings: Headings
) -> tuple[list[str], list[list[str]], list[bool]]:
    """Headings, formatted rows (text through `escape`), and which columns hold text.

    Every column has a heading of ours, so that no name from data is taken for one; KeyError otherwise.
    """
    names = [name for name in table.columns if not _is_beside(name, table)]
    rows = [[_cell(row, name, escape) for name in names] for row in table.to_dict("records")]
    is_text = [any(isinstance(value, str) for value in table[name]) for name in names]
    return [headings[name] for name in names], rows, is_text


def escaped(text: str) -> str:
    """Text from data, in one line that Markdown shows as it is: no HTML, link, formula, emphasis or cell border."""
    one_line = " ".join(text.split())
    return re.sub(r"([\\`*$|\[\]])", r"\\\1", html.escape(one_line, quote=False))


def _is_beside(name: str, table: pd.DataFrame) -> bool:
    """Whether a column is shown in another one, or says what another one says."""
    return name.endswith("_sigma") or (name == "num_seeds" and "num_runs" in table)


def _cell(row: dict[str, object], name: str, escape: Callable[[str], str]) -> str:
    text = _format(name, row[name], escape)
    if f"{name}_sigma" in row and text != "-":
        text += f" ± {_format(name, row[f'{name}_sigma'], escape)}"
    return text


def _format(name: str, value: object, escape: Callable[[str], str]) -> str:
    if isinstance(value, str):
        return escape(value)
    if pd.isna(value) or not np.isfinite(value):
        return "-"
    if name in _WHOLE or isinstance(value, int):
        return f"{value:,.0f}"
    return f"{value:.2g}" if name in _TWO_DIGITS else f"{value:.{_SHORT.get(name, 4)}f}"
