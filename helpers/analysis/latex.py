"""A table as LaTeX, for `\\input` into a document that loads booktabs."""

import re
from collections.abc import Sequence

_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "`": r"\textasciigrave{}", "'": r"\textquotesingle{}",
    "[": "{[}", "*": "{*}",  # after the end of a row they would be its arguments
    "Δ": r"$\Delta$", "±": r"$\pm$", "×": r"$\times$", "₂": r"$_2$",
}  # fmt: skip


def escaped(text: str) -> str:
    """Text in one line that LaTeX prints as it is: no command, and no ligature of dashes."""
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    one_line = "".join(_SPECIAL.get(letter, letter) for letter in " ".join(printable.split()))
    return re.sub("-(?=-)", "-{}", one_line)


def number(cell: str) -> str:
    """A formatted number (`-1,234.5 ± 0.1`) in math mode; `-`, which stands for none, as a dash."""
    value = cell.removesuffix(" ± -").replace(",", "{,}").replace("±", r"\pm")
    return "--" if value == "-" else f"${value}$"


def booktabs(headings: Sequence[str], rows: Sequence[Sequence[str]], is_text: Sequence[bool], caption: str) -> str:
    """A `table` of cells: columns of text are escaped and set left, numbers stand in math mode on the right."""
    if not rows:
        return f"% {escaped(caption)}: no rows\n"
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{escaped(caption)}}}"]
    lines += [rf"\begin{{tabular}}{{{''.join('l' if text else 'r' for text in is_text)}}}", r"\toprule"]
    lines += [_row([escaped(heading) for heading in headings]), r"\midrule"]
    lines += [_row([_cell(cell, text) for cell, text in zip(row, is_text, strict=True)]) for row in rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _cell(cell: str, is_text: bool) -> str:
    return escaped(cell) if is_text else number(cell)
