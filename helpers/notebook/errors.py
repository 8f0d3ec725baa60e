"""Errors in a notebook as three lines, the traceback folded away.

Only errors that this package raises for people are shortened; an unforeseen one keeps its full traceback. The cell
fails either way, and a program that executes the notebook sees the error's own name and message.
"""

import html
import traceback
from types import TracebackType
from typing import Any

from helpers.errors import FOREIGN, OURS, is_foreseen, three_lines


def explain_errors() -> None:
    """From now on, show errors of this package in three lines in the notebook that calls it."""
    from IPython import get_ipython

    shell = get_ipython()
    if shell is not None:
        shell.set_custom_exc((*OURS, *FOREIGN), _show)


def _show(shell: Any, kind: type, error: BaseException, trace: TracebackType, tb_offset: int | None = None) -> None:
    """IPython's handler of a failed cell: what it sends as the error is what the notebook shows and a program reads."""
    if not is_foreseen(error):
        shell.showtraceback((kind, error, trace), tb_offset=tb_offset)
        return
    from IPython.display import display

    folded = html.escape("".join(traceback.format_exception(kind, error, trace)))
    details = f"<details><summary>where it happened, for those who mend the code</summary><pre>{folded}</pre></details>"
    shell._showtraceback(kind, error, f"{kind.__name__}: {three_lines(error)}".split("\n"))
    display({"text/html": details, "text/plain": ""}, raw=True)
