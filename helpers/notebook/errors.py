"""Errors in a notebook as three lines (what happened, what was kept, what to do next), the traceback folded away.

Only errors that this package raises for people are shortened; an unforeseen one keeps its full traceback. The cell
fails either way, and a program that executes the notebook sees the error's own name and message.
"""

import html
import traceback
from types import TracebackType
from typing import Any

_ADVICE = {
    "TimeIsUp": "run this cell again, today or in another session: it goes on from its checkpoint",
    "TrainingFailed": "change the setting that the message names: that is another run, not mixed with this one",
    "StorageAway": "run this cell again when the storage is back: nothing is trained twice",
    "KeyboardInterrupt": "run this cell again, today or in another session: it goes on where its checkpoint is",
    "ValueError": "change the setting that the message names, and run the cells from there on again",
}
_OURS = (ValueError, RuntimeError)
_FOREIGN = (OSError, KeyboardInterrupt)
"""Errors for people wherever they are raised: a disk, a network, the stop button."""


def explain_errors() -> None:
    """From now on, show errors of this package in three lines in the notebook that calls it."""
    from IPython import get_ipython

    shell = get_ipython()
    if shell is not None:
        shell.set_custom_exc((*_OURS, *_FOREIGN), _show)


def three_lines(error: BaseException) -> str:
    """What happened, what was kept, what to do next."""
    name = type(error).__name__
    what = str(error) or {"KeyboardInterrupt": "stopped"}.get(name, name)
    return (
        f"{what}\n"
        "Kept: every result, checkpoint and figure that was finished; none is half written.\n"
        f"Next: {_ADVICE.get(name, 'mend what the message names, and run this cell again')}."
    )


def is_ours(error: BaseException) -> bool:
    """Whether this package raised it: a message for people, and not a fault of a library or of ours."""
    frames = list(traceback.walk_tb(error.__traceback__))
    return bool(frames) and frames[-1][0].f_globals.get("__name__", "").startswith("helpers.")


def is_foreseen(error: BaseException) -> bool:
    """Whether its message says all that a reader needs."""
    return isinstance(error, _FOREIGN) or (isinstance(error, _OURS) and is_ours(error))


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
