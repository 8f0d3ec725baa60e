"""A table from a file: CSV, JSONL or Parquet, refused where a column could be taken for another."""

import csv
import json
import re
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

_GROUPED = re.compile(r"[+-]?\d{1,3}([,_ \u00a0\u2009\u202f'])\d{3}(\1\d{3})*(\.\d*)?$")
_SEPARATORS = re.compile(r"[,_ \u00a0\u2009\u202f']")


def read_table(path: Path) -> pd.DataFrame:
    """The table of a file, by the end of its name: .jsonl (an object a line), .parquet, else CSV with a header line.

    ValueError for what cannot be read as that, and for two columns of one name.
    """
    kind = path.suffix.lower()
    try:
        if kind in (".jsonl", ".ndjson"):
            lines = path.read_text(encoding="utf-8").splitlines()
            return _checked(pd.DataFrame([json.loads(line) for line in lines if line.strip()]), path)
        if kind in (".parquet", ".pq"):
            return _checked(pd.read_parquet(path), path)
        _require_own_names(path)
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return _checked(pd.read_csv(path, index_col=False), path)
    except (ValueError, pd.errors.ParserWarning) as error:  # pandas' own errors of form and encoding are ValueErrors
        if isinstance(error, _Refused):
            raise
        what = {".jsonl": "JSON objects, one a line", ".parquet": "Parquet"}.get(kind, "a table with a header line")
        raise ValueError(f"csv = {str(path)!r} cannot be read as {what}: {error}") from error


def to_numbers(column: pd.Series) -> tuple[np.ndarray, bool]:
    """A column as numbers (NaN where a cell is none), and whether it has thousands separators, as 14,000,000 has."""
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(float)
    texts = column.astype(str).str.strip()
    grouped = (np.isnan(numbers) & texts.str.match(_GROUPED).to_numpy(bool)).astype(bool)
    if grouped.any():
        plain = texts[grouped].str.replace(_SEPARATORS, "", regex=True)
        numbers = numbers.copy()
        numbers[grouped] = pd.to_numeric(plain).to_numpy(float)
    return numbers, bool(grouped.any())


def positive_numbers(frame: pd.DataFrame, name: str) -> np.ndarray:
    """A column as numbers above 0; ValueError that names the first row with another: 1 is below the header."""
    if name not in frame.columns:
        raise ValueError(f"column {name!r} is not in the table; it has {', '.join(map(repr, frame.columns))}")
    numbers, _ = to_numbers(frame[name])
    wrong = np.flatnonzero(~((numbers > 0) & np.isfinite(numbers)))
    if len(wrong):
        value, row = frame[name].iloc[wrong[0]], wrong[0] + 1
        raise ValueError(f"column {name!r} = {value!r} in row {row} is not a positive number; remove this run")
    return numbers


class _Refused(ValueError):
    """A table that could be read, and should not be."""


def _require_own_names(path: Path) -> None:
    """pandas would call the second of two columns `loss.1`, and the first would be taken without a word."""
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as lines:
        header = next(csv.reader(lines), [])
    twice = [name for name, count in Counter(header).items() if count > 1 and name]
    if twice:
        raise _Refused(f"csv = {str(path)!r} has {Counter(header)[twice[0]]} columns named {twice[0]!r}; rename one")


def _checked(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    if not isinstance(frame, pd.DataFrame) or frame.columns.empty:
        raise _Refused(f"csv = {str(path)!r} cannot be read as a table: it has no columns")
    return frame.rename(columns=str)
